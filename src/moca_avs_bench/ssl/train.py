"""Trains a comparator on unlabeled frames and their sounds: what MoCA trains on, and nothing else."""

from __future__ import annotations

import io
import json
import math
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from moca_avs.data.base import TrainingSet
from moca_avs.errors import DataError, MocaError, UsageError, WeightsError
from moca_avs.hub.cache import file_sha256
from moca_avs.training.checkpoint import writing
from moca_avs.utils.files import atomic_write
from moca_avs_bench.ssl.backbone import load_backbone, pixels, wave
from moca_avs_bench.ssl.config import ComparatorConfig
from moca_avs_bench.ssl.losses import Batch, Comparator
from moca_avs_bench.ssl.method import WEIGHTS, new_system, save_system, system_class

_CONFIG, _LOG, _STATE = "config.json", "log.jsonl", "state.pt"
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
    folder = Path(out)
    _open(folder, _identity(name, data, config), resume)
    if (folder / WEIGHTS).exists():
        return folder
    run = _Run(name, config, folder, device)
    run.fit(clips, progress)
    with writing(folder / WEIGHTS):
        save_system(run.system, config, data.fingerprint(), folder / WEIGHTS)
        (folder / _STATE).unlink(missing_ok=True)
    return folder


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


class _Run:
    """A system, its optimizer, and where they are kept."""

    def __init__(self, name: str, config: ComparatorConfig, folder: Path, device: str) -> None:
        self.config, self.folder, self.device = config, folder, device
        self.system: Comparator = new_system(name, config.seed)
        if config.backbone is not None:
            load_backbone(self.system.image_net, config.backbone)
        self.system.to(device).train()
        self.optimizer = torch.optim.Adam(self.system.parameters(), lr=config.lr or 0.0)
        self.step = 0
        if (folder / _STATE).exists():
            self._restore()

    def fit(self, clips: _Clips, progress: bool) -> None:
        """Run the remaining steps; states and log lines on the way."""
        config = self.config
        self._cut_log()
        with tqdm(
            total=config.steps, initial=self.step, unit="step", disable=None if progress else True
        ) as bar:
            while self.step < config.steps:
                entry = self._advance(clips)
                bar.update()
                if self.step % config.log_every == 0 or self.step == config.steps:
                    self._log(entry)
                if self.step % config.checkpoint_every == 0 and self.step < config.steps:
                    self._save()

    def _advance(self, clips: _Clips) -> dict[str, Any]:
        began = time.perf_counter()
        batch = clips.draw(self.step)
        others = None if batch.others is None else batch.others.to(self.device)
        loss = self.system.loss(Batch(batch.images.to(self.device), batch.sounds.to(self.device), others))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise MocaError(
                f"step {self.step + 1} of {self.system.name}: the loss must be finite, found {value}; try "
                f"a lower lr than {self.config.lr}"
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step += 1
        return {"step": self.step, "loss": value, "seconds": round(time.perf_counter() - began, 4)}

    def _save(self) -> None:
        buffer = io.BytesIO()
        kept = {
            "step": self.step,
            "system": self.system.state_dict(),
            "optimiser": self.optimizer.state_dict(),
        }
        torch.save(kept, buffer)
        _replace(self.folder / _STATE, buffer.getvalue())

    def _restore(self) -> None:
        path = self.folder / _STATE
        try:
            kept = torch.load(path, map_location=self.device, weights_only=True)
            self.system.load_state_dict(kept["system"])
            self.optimizer.load_state_dict(kept["optimiser"])
            self.step = int(kept["step"])
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

    def _log(self, entry: dict[str, Any]) -> None:
        path = self.folder / _LOG
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _cut_log(self) -> None:
        """Forget what was logged after the state: those steps are run again."""
        path = self.folder / _LOG
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= self.step]
        if kept != lines:
            _replace(path, "".join(kept).encode())


def _identity(name: str, data: TrainingSet, config: ComparatorConfig) -> dict[str, Any]:
    """What decides the result; a backbone counts by its content."""
    backbone = None
    if config.backbone is not None:
        if not Path(config.backbone).is_file():
            raise WeightsError(f"{config.backbone} is not there; expected a torchvision ResNet-18 state dict")
        backbone = file_sha256(Path(config.backbone))
    return {
        "system": name,
        "training": {**config.to_dict(), "backbone": backbone},
        "data": {"fingerprint": data.fingerprint(), "frames": len(data)},
    }


def _open(folder: Path, identity: dict[str, Any], resume: bool) -> None:
    """Make the folder, or check that it holds this very run."""
    config = folder / _CONFIG
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        with writing(config):
            folder.mkdir(parents=True, exist_ok=True)
            _replace(config, (json.dumps(identity, indent=2) + "\n").encode())
        return
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} holds no comparator's run; give a new or empty folder") from error
    if found != identity:
        raise UsageError(f"{folder} holds a run of another system, config or data; choose another folder")
    if not resume:
        raise UsageError(f"{folder} holds this run already; resume it or choose another folder")


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with writing(path), atomic_write(path, explain=False) as partial:
        partial.write_bytes(content)
