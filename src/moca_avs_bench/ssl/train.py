"""Trains a comparator on unlabeled frames and their sounds: what MoCA trains on, and nothing else."""

from __future__ import annotations

import math
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moca_avs.data.base import TrainingSet
from moca_avs.errors import DataError, MocaError, WeightsError
from moca_avs.hub.cache import file_sha256
from moca_avs.training.checkpoint import STATE, RunFolder, run_steps, writing
from moca_avs.utils.files import atomic_write
from moca_avs_bench.ssl import ComparatorConfig
from moca_avs_bench.ssl.backbone import load_backbone, pixels, wave
from moca_avs_bench.ssl.comparators import REVISION, Batch, Comparator
from moca_avs_bench.ssl.method import WEIGHTS, new_system, save_system, system_class

_MARGIN = 1.1  # images are this much larger than the crops


def train_comparator(
    name: str,
    data: TrainingSet,
    out: Path,
    config: ComparatorConfig | None = None,
    *,
    resume: bool = False,
    device: str = "cpu",
    progress: bool = False,
) -> Path:
    """Train a comparator.

    Each step takes one frame of each of `batch` different clips. On a CPU, equal data, config and machine
    (with its number of threads) give bit-equal weights, also when the run was killed and resumed on the way.
    Ctrl-C ends the step, writes the state and raises KeyboardInterrupt.

    Args:
        name: a key of `moca_avs_bench.ssl.COMPARATORS`.
        data: frames and sounds.
        out: the run's folder, new or empty unless `resume`. It gets ``config.json``, ``log.jsonl`` and, at
            the end, ``comparator.safetensors``; until then ``state.pt`` holds what `resume` needs.
        config: every choice of the run.
        resume: go on from the last state, or start where there is none; a finished run is left alone.
        device: "cpu", "cuda", ...
        progress: show a bar on stderr.

    Returns:
        The folder.

    Raises:
        UsageError: for an unknown system, or if `out` holds something else.
        DataError: if there are too few clips.
        WeightsError: if the backbone's file is no ResNet-18, or the state to go on from is damaged.
        MocaError: if the loss stops being a number, or `out` can't be written.
    """
    kind, config = system_class(name), config or ComparatorConfig()
    config = replace(config, batch=config.batch or kind.batch, lr=kind.lr if config.lr is None else config.lr)
    clips = _Clips(data, config, kind.mixed)
    run = _ComparatorRun(Path(out), _identity(name, data, config))
    run.open(resume)
    if run.finished:
        return run.path
    system = new_system(name, config.seed)
    if config.backbone is not None:
        load_backbone(system.image_net, config.backbone)
    system.to(device).train()
    optimizer = torch.optim.Adam(system.parameters(), lr=config.lr or 0.0)
    step = done = run.restore(system, optimizer, device)

    def advance(stop: bool) -> tuple[dict[str, Any], bool]:
        nonlocal step
        began = time.perf_counter()
        loss = system.loss(clips.draw(step).to(device))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise MocaError(
                f"step {step + 1} of {name}: the loss must be finite, found {value}; try a lower lr than "
                f"{config.lr}"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        return {"step": step, "loss": value, "seconds": round(time.perf_counter() - began, 4)}, stop

    run.cut_log(done)
    run_steps(
        run,
        range(done, config.steps),
        advance,
        lambda: run.save(step, system, optimizer),
        config.log_every,
        config.checkpoint_every,
        progress,
    )
    with writing(run.path / WEIGHTS):
        save_system(system, config, data.fingerprint(), run.path / WEIGHTS)
        (run.path / STATE).unlink(missing_ok=True)
    return run.path


class _Clips:
    """Draws batches out of a training set: one frame a clip, each clip at most once."""

    def __init__(self, data: TrainingSet, config: ComparatorConfig, mixed: int) -> None:
        self.data, self.config, self.mixed = data, config, mixed
        rows: dict[str, list[int]] = {}
        for row in range(len(data)):
            rows.setdefault(data.clip_id(row), []).append(row)
        self.rows = list(rows.values())
        self.size = min(config.batch or len(self.rows), len(self.rows)) // mixed * mixed
        if self.size < 2:
            raise DataError(f"a comparator learns by telling clips apart, found {len(self.rows)} in the data")

    def draw(self, step: int) -> Batch:
        """The batch of a step, decided by (seed, step) alone; tensors on the CPU."""
        rng = np.random.default_rng([self.config.seed, step])
        clips = [self.rows[index] for index in rng.permutation(len(self.rows))[: self.size]]
        rows = [int(rng.choice(clip)) for clip in clips]
        images = self._images([self.data.frame(row) for row in rows], rng)
        sounds = self._sounds(rows)
        if self.mixed == 1:
            return Batch(images, sounds)
        pairs = zip(rows, clips, strict=True)
        others = [int(rng.choice([row for row in clip if row != own] or clip)) for own, clip in pairs]
        return Batch(images, sounds, self._sounds(others))

    def _sounds(self, rows: list[int]) -> Tensor:
        return torch.stack([wave(*self.data.sound(row), self.config.seconds) for row in rows])

    def _images(self, frames: list[np.ndarray], rng: np.random.Generator) -> Tensor:
        side = self.config.image_size
        if not self.config.augment:
            return pixels(frames, side)
        large = pixels(frames, round(_MARGIN * side))
        tops, lefts = rng.integers(0, large.shape[-1] - side + 1, (2, len(frames)))
        crops = [
            image[:, top : top + side, left : left + side]
            for image, top, left in zip(large, tops, lefts, strict=True)
        ]
        mirrored = rng.random(len(frames)) < 0.5
        return torch.stack(
            [crop.flip(-1) if turn else crop for crop, turn in zip(crops, mirrored, strict=True)]
        )


class _ComparatorRun(RunFolder):
    """A comparator's run folder: ``state.pt`` is its only checkpoint, and goes when the run is done."""

    weights = WEIGHTS
    compared = ("system", "training", "data")

    def save(self, step: int, system: Comparator, optimizer: torch.optim.Optimizer) -> None:
        """Write the state after `step` steps over the one before."""
        path = self.path / STATE
        with writing(path), atomic_write(path, explain=False) as partial:
            kept = {"step": step, "system": system.state_dict(), "optimiser": optimizer.state_dict()}
            torch.save(kept, partial)

    def restore(self, system: Comparator, optimizer: torch.optim.Optimizer, device: str) -> int:
        """Put the last state into system and optimizer; its step, 0 without one.

        Raises:
            WeightsError: if it is damaged.
        """
        path = self.path / STATE
        if not path.exists():
            return 0
        try:
            kept = torch.load(path, map_location=device, weights_only=True)
            system.load_state_dict(kept["system"])
            optimizer.load_state_dict(kept["optimiser"])
            return int(kept["step"])
        except (
            OSError,
            EOFError,
            RuntimeError,
            ValueError,
            LookupError,
            TypeError,
            pickle.UnpicklingError,
        ) as error:
            raise WeightsError(f"{path} is damaged ({error!r:.200}); delete it to train anew") from error


def _identity(name: str, data: TrainingSet, config: ComparatorConfig) -> dict[str, Any]:
    """What decides the result; a backbone counts by its content."""
    backbone = None
    if config.backbone is not None:
        if not Path(config.backbone).is_file():
            raise WeightsError(f"{config.backbone} is not there; expected a torchvision ResNet-18 state dict")
        backbone = file_sha256(Path(config.backbone))
    return {
        "system": name,
        "training": {**config.to_dict(), "backbone": backbone, "revision": REVISION},
        "data": {"fingerprint": data.fingerprint(), "frames": len(data)},
    }
