"""ImageBind at full size with random weights: seconds and peak memory of training and of segmenting.

    python benchmarks/imagebind_full_size.py
    python benchmarks/imagebind_full_size.py --device cuda --dtype bf16 --steps 20
    python benchmarks/imagebind_full_size.py --quick    # a tiny trunk: whether it works

One training step is what `moca train` does once the states below the first adapter are cached: the six last
blocks with adapters P, on a batch of anchors with a positive and a negative each, backwards, Adam. One
segmentation is one 720p frame with two seconds of sound, from pixels to the mask, without proposals. The
weights' values change neither.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from measuring import finish, machine, options, peak_mib, seconds_of, table
from torch import Tensor

from moca_avs.clip import Clip
from moca_avs.encoders.base import AudioFeatures
from moca_avs.encoders.imagebind import HUGE, ImageBindEncoder, Sizes, TrunkSizes
from moca_avs.methods.config import MocaConfig
from moca_avs.methods.moca import Moca
from moca_avs.model.adapter import AdapterSet
from moca_avs.model.fusion import image_prefix
from moca_avs.training.config import TrainConfig
from moca_avs.training.objectives import Batch, training_loss

TINY = Sizes(TrunkSizes(8, 32, 4, 64, 257, (2, 14, 14)), TrunkSizes(6, 24, 3, 48, 229, (16, 16)), 16)
DTYPES = {"float32": "float32", "bf16": "bfloat16", "fp16": "float16"}
GIB = 2**30


@dataclass(frozen=True)
class InMemory:
    """What a run's cache holds, kept in memory."""

    prefix: Tensor
    heard: AudioFeatures

    def __len__(self) -> int:
        return len(self.prefix)

    def images(self, rows: Tensor) -> Tensor:
        """See `moca_avs.training.features.PrecomputedFeatures`."""
        return self.prefix[rows.to(self.prefix.device)]

    def sounds(self, rows: Tensor) -> AudioFeatures:
        """See `moca_avs.training.features.PrecomputedFeatures`."""
        return self.heard.index(rows.to(self.heard.embedding.device))

    def features(self) -> Tensor:
        """See `moca_avs.training.features.PrecomputedFeatures`."""
        return self.prefix.mean(1)


def material(encoder: ImageBindEncoder, adapters: AdapterSet, batch: int) -> InMemory:
    """States of 3 x batch random images (one at a time, as the cache does) and of batch sounds."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3 * batch, 256, 256, 3), dtype=np.uint8)
    prepared = [encoder.prepare_images(image[None]) for image in images]
    prefix = torch.cat([image_prefix(encoder, one, adapters.first_block) for one in prepared])
    waves = rng.normal(0, 0.1, (batch, 32_000)).astype(np.float32)
    heard = encoder.encode_audio(torch.stack([encoder.prepare_audio(wave, 16_000) for wave in waves]))
    layers = {layer for _, layer in adapters.pairs}
    tokens = {site: states for site, states in heard.tokens.items() if site[0] in layers}
    return InMemory(prefix, AudioFeatures(heard.embedding, tokens))


def training_step(
    encoder: ImageBindEncoder, adapters: AdapterSet, states: InMemory, batch: int
) -> Callable[[], None]:
    """A step of the default objective; every call is one optimizer step."""
    config = TrainConfig(batch=batch)
    optimizer = torch.optim.Adam(adapters.parameters(), lr=config.lr)
    anchors, positives, negatives = torch.arange(3 * batch).view(3, batch)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        loss, _ = training_loss(
            Batch(encoder, adapters, states, config, anchors, positives, negatives, generator)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def one_frame() -> Clip:
    """A 720p frame of noise with two seconds of noise around it."""
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (1, 720, 1280, 3), dtype=np.uint8)
    sound = rng.normal(0, 0.1, 88_200).astype(np.float32)
    return Clip(frames, np.array([1.0]), sound, 44_100)


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Everything, as one JSON-able record; memory is the process's peak so far, in GiB."""
    device: str = asked.device
    sizes = HUGE if asked.size == "huge" else TINY
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    encoder = ImageBindEncoder.random(sizes, device=device)
    encoder.set_precision(DTYPES[asked.dtype])
    adapters = AdapterSet(encoder, "last", 6, generator=torch.Generator().manual_seed(0)).to(device)
    seconds["building"] = time.perf_counter() - start
    peaks = {"after_building": peak(device)}
    method = Moca(encoder, None, None, MocaConfig(refine="none"))
    clip = one_frame()
    seconds["segmenting_first"] = seconds_of(lambda: method(clip))
    method = Moca(encoder, None, None, MocaConfig(refine="none"))  # remembers no frame
    seconds["segmenting"] = seconds_of(lambda: method(clip))
    peaks["after_segmenting"] = peak(device)
    start = time.perf_counter()
    states = material(encoder, adapters, asked.batch)
    seconds["states_of_a_batch"] = time.perf_counter() - start
    step = training_step(encoder, adapters, states, asked.batch)
    steps = [seconds_of(step) for _ in range(asked.steps)]
    seconds["step_first"], seconds["step"] = steps[0], median(steps[1:] or steps)
    peaks["after_training"] = peak(device)
    return {
        "what": f"ImageBind {asked.size}, random weights, adapters P (last 6)",
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "dtype": asked.dtype,
        "batch": asked.batch,
        "steps": asked.steps,
        "parameters": sum(weight.numel() for weight in encoder.parameters()),
        "adapter_parameters": sum(weight.numel() for weight in adapters.parameters()),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "peak_gib": peaks,
    }


def peak(device: str) -> dict[str, float]:
    """Most memory held so far, in GiB: of the process, and what torch allocated on the GPU."""
    found = {"process": round(peak_mib() / 1024, 3)}
    if device.startswith("cuda"):
        found["gpu"] = round(torch.cuda.max_memory_allocated(device) / GIB, 3)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print, write."""
    parser = options(__doc__)
    parser.add_argument("--size", choices=("huge", "tiny"), default="huge")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32")
    parser.add_argument("--batch", type=int, default=8, help="anchors; each brings two more images")
    parser.add_argument(
        "--steps", type=int, default=1, help="training steps; the median is of all but the first"
    )
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.size = "tiny"
    about = machine()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)  # as `moca train` does by default
    try:
        found = measure(asked)
    finally:
        torch.use_deterministic_algorithms(False)
    print(table(["stage", "seconds"], [[stage, f"{value:.3g}"] for stage, value in found["seconds"].items()]))
    print(
        "\n" + table(["peak memory", "GiB"], [[when, f"{held}"] for when, held in found["peak_gib"].items()])
    )
    finish(found, about, asked.out)


if __name__ == "__main__":
    main()
