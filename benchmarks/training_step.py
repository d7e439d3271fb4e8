"""A training step with the constant states cached, against a step that computes everything.

    python benchmarks/training_step.py                 # lite, and ImageBind's dimensions with random weights
    python benchmarks/training_step.py --quick
    python benchmarks/training_step.py --device cuda --batch-imagebind 8 --precision bfloat16

Naive: sound trunk and whole image trunk run for every image of every step, in one batch. Cached: what `moca
train` does, states read from memory-mapped files. The objective, the adapters and Adam are the same; nothing
has weight gradients but the adapters; prepared inputs lie in memory, so decoding counts in neither. Steps are
interleaved (naive, cached, naive, ...) and ratios are ratios of medians. ImageBind runs at full width and
depth with `--distinct-blocks` distinct image blocks repeated (as many operations, less memory) and a smaller
batch: both kinds of step grow in proportion to the batch.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import measuring
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from moca_avs.encoders import build_encoder
from moca_avs.encoders.imagebind import HUGE, ImageBindEncoder, Sizes, TrunkSizes
from moca_avs.model.adapter import AdapterSet
from moca_avs.model.fusion import enhanced_features
from moca_avs.model.matching import matching_cost
from moca_avs.training.config import TrainConfig
from moca_avs.training.features import FeatureExtractor, PrecomputedFeatures, open_features
from moca_avs.training.objectives import Batch, training_loss
from moca_avs.training.precision import Precision
from moca_avs.utils.device import choose_precision

FRAMES_TOLD = 1000  # the cost of filling a cache is told for so many
GB = 1e9


class Noise:
    """Frames and sounds of noise: what they show changes no time."""

    def __init__(self, frames: int, size: int) -> None:
        rng = np.random.default_rng(0)
        self._frames = rng.integers(0, 256, (frames, size, size, 3), dtype=np.uint8)
        self._sounds = rng.normal(0, 0.1, (frames, 44_100)).astype(np.float32)

    def __len__(self) -> int:
        return len(self._frames)

    def frame(self, index: int) -> np.ndarray:
        """uint8 [S, S, 3]."""
        return self._frames[index]

    def sound(self, index: int) -> tuple[np.ndarray, int]:
        """Two seconds."""
        return self._sounds[index], 22_050

    def clip_id(self, index: int) -> str:
        """Every frame is a clip."""
        return str(index)

    def fingerprint(self) -> str:
        """Of this noise."""
        return f"noise {self._frames.shape}"


@dataclass(frozen=True)
class NaiveBatch(Batch):
    """Computes everything at every step."""

    images: Tensor = field(default_factory=lambda: torch.empty(0))
    waves: Tensor = field(default_factory=lambda: torch.empty(0))

    def enhanced_features(self, images: Tensor, sounds: Tensor) -> Tensor:
        """See `Batch.enhanced_features`."""
        with self.precision.autocast():
            heard = self.encoder.encode_audio(self.waves[sounds])
            fused = enhanced_features(self.encoder, self.adapters, self.images[images], heard)
        return fused.to(self.precision.wide)


@dataclass
class Bench:
    """One encoder with its adapters, and both kinds of step."""

    encoder: Any
    batch: int
    precision: Precision

    def __post_init__(self) -> None:
        self.adapters = AdapterSet(self.encoder, "last", 6, generator=torch.Generator().manual_seed(0))
        self.adapters.to(self.precision.device)
        self.optimizer = torch.optim.Adam(self.adapters.parameters(), lr=1e-4)
        self.config = TrainConfig(batch=self.batch)
        self.data = Noise(3 * self.batch, self.encoder.image_size)
        self.rows = torch.arange(3 * self.batch).view(3, self.batch)

    def extractor(self) -> FeatureExtractor:
        """What fills a cache."""
        layers = sorted({layer for _, layer in self.adapters.pairs})
        hook_points = tuple((layer, site) for layer in layers for site in self.encoder.hook_points)
        first = self.adapters.first_block
        return FeatureExtractor(
            self.encoder,
            self.data,
            first,
            hook_points,
            device=self.precision.device,
            precision=self.precision,
        )

    def cached(self, states: PrecomputedFeatures) -> Batch:
        """A batch whose states are kept."""
        generator = torch.Generator().manual_seed(0)
        return Batch(self.encoder, self.adapters, states, self.config, *self.rows, generator, self.precision)

    def naive(self) -> Batch:
        """A batch that keeps nothing."""
        device, data = self.precision.device, self.data
        frames = np.stack([data.frame(row) for row in range(len(data))])
        waves = torch.stack([self.encoder.prepare_audio(*data.sound(row)) for row in range(len(data))])
        return NaiveBatch(
            self.encoder, self.adapters, self.extractor(), self.config, *self.rows, torch.Generator(),
            self.precision,
            images=self.encoder.prepare_images(frames).to(device), waves=waves.to(device),
        )  # fmt: skip

    def step(self, batch: Batch) -> None:
        """Forwards, backwards, Adam."""
        loss, _ = training_loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def matching(self) -> Callable[[], None]:
        """The matching of a step alone, forwards and backwards: two costs."""
        grid, width, device = self.encoder.grid, self.encoder.joint_dim, self.precision.device
        maps = torch.randn(3, self.batch, width, grid, grid, device=device, requires_grad=True)

        def work() -> None:
            anchor, positive, negative = maps
            cost = matching_cost(anchor, positive).sum() - matching_cost(anchor, negative).sum()
            cost.backward()

        return work


def kept_bytes(work: Callable[[], object]) -> int:
    """Bytes autograd keeps for going backwards, each storage once, weights left out."""
    kept: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        if not isinstance(value, nn.Parameter):
            storage = value.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        work()
    return sum(kept.values())


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of matrix products, convolutions and attention."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def build(which: str, options: argparse.Namespace) -> Bench:
    """The encoder and what trains beside it."""
    dtype, _ = choose_precision(options.precision, options.device)
    precision = Precision(dtype, options.device)
    if which == "lite":
        return Bench(build_encoder("lite", options.device), options.batch, precision)
    distinct, depth = options.distinct_blocks, options.blocks
    vision = TrunkSizes(distinct, HUGE.vision.width, HUGE.vision.heads, HUGE.vision.hidden, 257, (2, 14, 14))
    encoder = ImageBindEncoder.random(Sizes(vision, HUGE.audio, HUGE.joint), device=options.device)
    encoder.vision.blocks = nn.ModuleList(encoder.vision.blocks[i % distinct] for i in range(depth))
    encoder.image_blocks = depth
    return Bench(encoder, options.batch_imagebind, precision)


def measure(which: str, options: argparse.Namespace) -> dict[str, Any]:
    """Every figure of one encoder."""
    bench = build(which, options)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        states = open_features(bench.extractor(), Path(folder), 10**12)
        filling = time.perf_counter() - start
        size = sum(file.stat().st_size for file in Path(folder).rglob("*.bin"))
        naive, cached, match = bench.naive(), bench.cached(states), bench.matching()
        works = {
            "naive": lambda: bench.step(naive), "cached": lambda: bench.step(cached), "matching": match
        }  # fmt: skip
        flops = {name: operations(work) for name, work in works.items()}  # also warms up
        kept = kept_bytes(lambda: training_loss(cached))
        timed = measuring.in_turn(works, options.repetitions, warm=False)
        seconds = {name: timing.seconds for name, timing in timed.items()}
    middle = {name: median(values) for name, values in seconds.items()}
    saved = middle["naive"] - middle["cached"]
    per_frame = filling / len(bench.data)
    return {
        "batch": bench.batch,
        "seconds": {n: [round(f(v), 4) for f in (median, min, max)] for n, v in seconds.items()},
        "naive_over_cached": round(middle["naive"] / middle["cached"], 3),
        "operations_naive_over_cached": round(flops["naive"] / flops["cached"], 3),
        "tflop": {name: round(value / 1e12, 4) for name, value in flops.items()},
        "pma_share_of_step": round(middle["matching"] / middle["cached"], 4),
        "cache_fill_seconds": round(per_frame * FRAMES_TOLD, 1),
        "cache_gb": round(size / len(bench.data) * FRAMES_TOLD / GB, 3),
        "cache_pays_after_steps": round(per_frame * FRAMES_TOLD / saved) if saved > 0 else None,
        "kept_for_backwards_gb": round(kept / GB, 3),
        "weights_gb": round(sum(w.nbytes for w in bench.encoder.state_dict().values()) / GB, 3),
        "peak_gb": {name: peak_of(which, name, options) for name in ("naive", "cached")},
    }


def peak_of(which: str, kind: str, options: argparse.Namespace) -> float:
    """Peak memory of a process that makes two such steps and nothing else (on a GPU: of what torch took)."""
    arguments = [sys.executable, __file__, "--peak", which, kind]
    for name in ("device", "precision", "batch", "batch_imagebind", "blocks", "distinct_blocks"):
        arguments += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def print_peak(which: str, kind: str, options: argparse.Namespace) -> None:
    """What `peak_of` starts."""
    bench = build(which, options)
    with tempfile.TemporaryDirectory() as folder:
        if kind == "naive":
            batch = bench.naive()
        else:
            batch = bench.cached(open_features(bench.extractor(), Path(folder), 10**12))
        if options.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
        for _ in range(2):
            bench.step(batch)
    if options.device.startswith("cuda"):
        peak = float(torch.cuda.max_memory_allocated())
    else:
        peak = measuring.peak_mib() * measuring.MIB
    print(round(peak / GB, 3))


def at_full_size(found: dict[str, Any], options: argparse.Namespace) -> dict[str, float]:
    """ImageBind with 32 distinct blocks and batch 8, from what was measured and counted."""
    distinct = 32 - options.distinct_blocks
    block = 12 * HUGE.vision.width**2 * 4 / GB  # float32: 4 w^2 in the attention, 8 w^2 in the MLP
    grown = 8 / found["batch"]
    tflop = {name: value * grown for name, value in found["tflop"].items()}
    return {
        "batch": 8,
        "weights_gb": round(found["weights_gb"] + distinct * block, 2),
        "kept_for_backwards_gb": round(found["kept_for_backwards_gb"] * grown, 2),
        "memory_gb": round(
            found["weights_gb"] + distinct * block + found["kept_for_backwards_gb"] * grown, 2
        ),
        "tflop_naive": round(tflop["naive"], 2),
        "tflop_cached": round(tflop["cached"], 2),
        "ceiling_image_blocks_alone": round((32 + 6) / (6 + 6), 3),
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = ["| | " + " | ".join(results) + " |", "|---|" + "---:|" * len(results)]
    rows = {
        "batch (anchors; three images each)": lambda r: r["batch"],
        "naive step, s: median (min–max)": lambda r: "{} ({}–{})".format(*r["seconds"]["naive"]),
        "cached step, s": lambda r: "{} ({}–{})".format(*r["seconds"]["cached"]),
        "**naive / cached**": lambda r: f"**{r['naive_over_cached']}**",
        "the same by operations": lambda r: r["operations_naive_over_cached"],
        "TFLOP naive, cached": lambda r: f"{r['tflop']['naive']}, {r['tflop']['cached']}",
        "matching, share of the cached step": lambda r: f"{100 * r['pma_share_of_step']:.1f} %",
        f"filling the cache, s per {FRAMES_TOLD} frames": lambda r: r["cache_fill_seconds"],
        f"cache, GB per {FRAMES_TOLD} frames": lambda r: r["cache_gb"],
        f"it pays after so many steps ({FRAMES_TOLD} frames)": lambda r: r["cache_pays_after_steps"],
        "peak memory naive, cached, GB": lambda r: f"{r['peak_gb']['naive']}, {r['peak_gb']['cached']}",
        "of it kept for going backwards (cached), GB": lambda r: r["kept_for_backwards_gb"],
    }
    for title, value in rows.items():
        lines.append(f"| {title} | " + " | ".join(str(value(r)) for r in results.values()) + " |")
    return "\n".join(lines)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options; `--quick` is a try-out whose figures mean little."""
    parser = measuring.options(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--batch", type=int, default=8, help="anchors of lite's step")
    parser.add_argument("--batch-imagebind", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=32, help="depth of ImageBind's image trunk")
    parser.add_argument("--distinct-blocks", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--encoders", nargs="+", default=["lite", "imagebind"])
    parser.add_argument("--peak", nargs=2, metavar=("ENCODER", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.quick:
        options.batch = options.batch_imagebind = options.repetitions = 1
        options.blocks = options.distinct_blocks = 7
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write."""
    options = parse(arguments)
    if options.peak:
        print_peak(*options.peak, options)
        return
    about = measuring.machine()
    results = {which: measure(which, options) for which in options.encoders}
    print(table(results))
    line: dict[str, Any] = {"benchmark": "training_step", "repetitions": options.repetitions} | results
    if "lite" in results:
        found = results["lite"]
        line["train_step_naive_over_cached"] = found["naive_over_cached"]
        line |= {name: found[name] for name in ("cache_fill_seconds", "cache_pays_after_steps", "peak_gb")}
        line["pma_share_of_step"] = found["pma_share_of_step"]
    if "imagebind" in results:
        line["imagebind_naive_over_cached"] = results["imagebind"]["naive_over_cached"]
        line["imagebind_pma_share_of_step"] = results["imagebind"]["pma_share_of_step"]
        line["imagebind_at_full_size"] = at_full_size(results["imagebind"], options)
        print(f"\nImageBind at full size, by arithmetic: {line['imagebind_at_full_size']}")
    measuring.finish(line, about, options.out)


if __name__ == "__main__":
    main()
