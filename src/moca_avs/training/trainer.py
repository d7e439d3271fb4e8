"""Trains the adapters of a frozen encoder on unlabeled frames and their sounds (paper section 3.1)."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import moca_avs
from moca_avs.data.base import TrainingSet
from moca_avs.data.folder import VideoFolder
from moca_avs.encoders import build_encoder
from moca_avs.encoders.base import AudioVisualEncoder
from moca_avs.errors import DataError, MocaError, UsageError
from moca_avs.hub.huggingface import ModelSources
from moca_avs.model.adapter import AdapterSet
from moca_avs.model.pairing import NeighbourTable, sample_pairs, sample_shifted
from moca_avs.training.checkpoint import AdapterRun, run_steps
from moca_avs.training.config import CACHE_LIMIT, RuntimeConfig, TrainConfig
from moca_avs.training.distributed import DistributedContext, distributed_context
from moca_avs.training.features import FeatureExtractor, PrecomputedFeatures, open_features
from moca_avs.training.moving import moving_positions
from moca_avs.training.objectives import COUPLED, Batch, training_loss
from moca_avs.training.pairs import ENCODER, pairing_features, run_table, with_pairing
from moca_avs.training.precision import Precision
from moca_avs.utils.device import choose_device, choose_precision, own_device


def train(
    encoder: AudioVisualEncoder | str,
    data: TrainingSet | str | Path,
    config: TrainConfig | None,
    out: str | Path,
    resume: bool = False,
    progress: bool = True,
    *,
    device: str = "auto",
    sources: ModelSources | None = None,
    cache: str | Path | None = None,
    cache_limit: int = CACHE_LIMIT,
    speed: RuntimeConfig | None = None,
    told: Mapping[str, Any] | None = None,
) -> Path:
    """Train adapters; the encoder itself never changes.

    Equal encoder, data, config and machine (with its number of threads) give bit-equal adapters, also when
    the run was killed and resumed on the way. Ctrl-C ends the step, writes a checkpoint and raises
    KeyboardInterrupt.

    Under ``torchrun`` several processes make each step together, a part of the batch each: the same run up to
    rounding. ``config.batch`` stays the whole batch; `device` "cuda" is each process's own GPU.

    Args:
        encoder: frozen; moved to `device`. A name ("lite", ...) stands for `build_encoder` of it.
        data: frames and sounds; a path stands for a folder of videos.
        config: every choice of the run; None: the paper's.
        out: the run folder (see `moca_avs.training.checkpoint`), new or empty unless `resume`.
        resume: go on from the last checkpoint, or start where there is none; a finished run is left alone,
            unless `config` has more steps: then it goes on, along the longer run's learning rate.
            ``checkpoint_every``, ``log_every`` and ``neighbour_search`` may be others than before.
        progress: show bars on stderr.
        device: "auto", "cpu", "cuda", ...
        sources: where the weights of ``config.pairing`` come from; None is the Hub.
        cache: where the precomputed features are kept for this and later runs; None: in the run folder,
            until it is done.
        cache_limit: most bytes they may take; beyond it they are computed at every step.
        speed: arithmetic and other choices of speed; None is `RuntimeConfig()`.
        told: what else ``config.json`` shall say of a new run, JSON-able.

    Returns:
        The run folder; its ``adapters.safetensors`` and ``config.json`` are what one publishes.

    Raises:
        UsageError: if `out` holds something else, or the config does not fit the encoder.
        DataError: if there are too few clips for the config's pairs.
        WeightsError: if the checkpoint to go on from is damaged, or the weights for pairing are missing.
        MocaError: if the loss stops being a number.

    Examples:
        >>> import moca_avs
        >>> config = moca_avs.TrainConfig(steps=500)
        >>> moca_avs.train("lite", "videos/", config, "run")  # doctest: +SKIP
    """
    config, device = config or TrainConfig(), own_device(choose_device(device)[0])
    if isinstance(data, str | Path):
        data = VideoFolder(data, progress=progress, synchrony=config.objective == "synchrony")
    if isinstance(encoder, str):
        options = {} if config.image_size is None else {"image_size": config.image_size}
        encoder = build_encoder(encoder, device, sources, **options)
    if config.image_size not in (None, encoder.image_size):
        raise UsageError(
            f"the config asks for images of {config.image_size} px, but the encoder was built for "
            f"{encoder.image_size} px; build it with that size"
        )
    config = with_pairing(config, encoder.name)
    chosen = speed or RuntimeConfig()
    dtype, why = choose_precision(chosen.precision, device)
    precision = Precision.of(chosen, dtype, device)
    with distributed_context(device) as context:
        check_processes(context, config, data)
        progress = progress and context.is_main
        identity = {**_identity(encoder, data, config, precision, context), **(told or {})}
        run = AdapterRun(Path(out), identity)
        context.on_main(lambda: run.open(resume))
        if context.on_main(lambda: run.finished):
            if progress:
                tqdm.write(f"{run.path} is finished: {config.steps} steps are done")
            return run.path
        if progress:
            tqdm.write(f"precision: {precision.name} ({why})")
        encoder.to(device)
        with deterministic(config.deterministic):
            # The weights for pairing may be missing: find out first.
            image_features = pairing_features(config, sources or ModelSources(), device)
            trainer = _Trainer(encoder, config, run, precision, context)
            if config.objective == "synchrony":
                trainer.moving = moving_positions(data, encoder.grid)
            layers = sorted({layer for _, layer in trainer.adapters.pairs})
            extractor = FeatureExtractor(
                encoder=encoder,
                data=data,
                until_block=trainer.adapters.first_block,
                hook_points=tuple((layer, site) for layer in layers for site in encoder.hook_points),
                dtype=config.cache_dtype,
                device=device,
                progress=progress,
                keep_features=config.pairing == ENCODER,
                precision=precision,
                context=context,
            )
            with precision.widened(encoder):
                folder = run.path / "cache" if cache is None else Path(cache)
                precomputed = open_features(extractor, folder, cache_limit)
                table = run_table(run, data, config, precomputed, image_features, progress, context)
                trainer.fit(precomputed, table, progress)
        context.on_main(lambda: run.finish(trainer.adapters))
    return run.path


def check_processes(context: DistributedContext, config: TrainConfig, data: TrainingSet) -> None:
    """See that so many processes can share a batch.

    Raises:
        UsageError: if the objective compares the batch's anchors with each other, or a process gets none.
    """
    if context.size == 1:
        return
    if config.objective in COUPLED:
        raise UsageError(
            f"objective={config.objective!r} compares all anchors of a batch with each other, so "
            f"{context.size} processes can't share it; train it in one process, without torchrun"
        )
    if min(config.batch, len(data)) < context.size:
        raise UsageError(
            f"each of {context.size} processes needs at least one of the batch's rows: batch is "
            f"{config.batch}, the data has {len(data)} frames; start fewer processes or raise batch"
        )


MISMATCHED_EVERY = 50
"""Steps after which the log also has the loss with mismatched sounds in the adapters, where it has a line."""


class _Trainer:
    """Adapters, their optimizer, and the steps between two checkpoints."""

    def __init__(
        self,
        encoder: AudioVisualEncoder,
        config: TrainConfig,
        run: AdapterRun,
        precision: Precision,
        context: DistributedContext,
    ) -> None:
        self.encoder = encoder
        self.config = config
        self.run = run
        self.precision = precision
        self.context = context
        self.step = 0
        self.moving: Tensor | None = None
        found = context.on_main(lambda: run.restore(encoder, precision.wide))
        if found is None:
            adapters = AdapterSet(
                encoder,
                placement=config.placement,
                count=config.count,
                latents=config.latents,
                bottleneck=config.bottleneck,
                share_sites=config.share_sites,
                generator=step_generator(config.seed, -1),
            )
        else:
            self.step, adapters, optimizer_state, scaler_state = found
        self.adapters = adapters.to(precision.device, precision.wide)
        self.optimizer = torch.optim.Adam(self.adapters.parameters(), lr=config.lr)
        self.scaler = precision.scaler()
        if found is not None:
            self.optimizer.load_state_dict(optimizer_state)
            if scaler_state:
                self.scaler.load_state_dict(scaler_state)

    def fit(self, precomputed: PrecomputedFeatures, table: NeighbourTable, progress: bool) -> None:
        """Run the remaining steps; checkpoints and log lines on the way."""
        self.context.on_main(lambda: self.run.cut_log(self.step))

        def save() -> None:
            scaler = self.scaler.state_dict()
            self.context.on_main(lambda: self.run.save(self.step, self.adapters, self.optimizer, scaler))

        run_steps(
            self.run,
            range(self.step, self.config.steps),
            lambda stop: self._advance(precomputed, table, stop),
            save,
            self.config.log_every,
            self.config.checkpoint_every,
            progress,
            self.context,
        )

    def _advance(
        self, precomputed: PrecomputedFeatures, table: NeighbourTable, stop: bool
    ) -> tuple[dict[str, Any], bool]:
        """One optimizer step; returns its line for the log, and whether any process was asked to stop."""
        start = time.perf_counter()
        rate = self.config.lr * (1 + math.cos(math.pi * self.step / self.config.steps)) / 2
        self.optimizer.param_groups[0]["lr"] = rate
        batch, share = self._batch(precomputed, table)
        loss, stats = training_loss(batch)
        every = self.config.log_every * math.ceil(MISMATCHED_EVERY / self.config.log_every)
        if (self.step + 1) % every == 0:
            drawn = step_generator(self.config.seed, self.step)
            with torch.no_grad():
                other, _ = training_loss(replace(batch, generator=drawn, mismatched=True))
            stats["mismatched_loss"] = float(other)
        self.optimizer.zero_grad()
        self.scaler.scale(loss if self.context.size == 1 else loss * share).backward()
        gradients = [p.grad for p in self.adapters.parameters() if p.grad is not None]
        stats = {"loss": float(loss.detach()), **stats}
        if self.context.size > 1:
            stats, stop = self._sum_over_processes(gradients, stats, share, stop)
        self.scaler.unscale_(self.optimizer)
        gradient = float(torch.stack([g.norm() for g in gradients]).norm())
        # In float16 a gradient may overflow: the scaler leaves that step out and scales less.
        if not math.isfinite(stats["loss"]) or not (math.isfinite(gradient) or self.scaler.is_enabled()):
            raise MocaError(
                f"step {self.step + 1}: loss and gradient must be finite, found {stats['loss']} and "
                f"{gradient}; the last checkpoint in {self.run.path} is kept; try a lower lr than "
                f"{self.config.lr}"
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        gates = torch.stack(
            [p.detach().abs() for n, p in self.adapters.named_parameters() if n.endswith("gate")]
        )
        return {
            "step": self.step,
            **stats,
            "gate_mean": float(gates.mean()),
            "gate_max": float(gates.max()),
            "gradient": gradient if math.isfinite(gradient) else None,
            "lr": rate,
            "seconds": round(time.perf_counter() - start, 4),
        }, stop

    def _batch(self, precomputed: PrecomputedFeatures, table: NeighbourTable) -> tuple[Batch, float]:
        """This process's part of the step's batch, and what part of it that is."""
        generator = step_generator(self.config.seed, self.step)
        anchors = torch.randperm(len(table), generator=generator)[: self.config.batch]
        positives, negatives = sample_pairs(table, anchors, generator)
        if self.moving is not None:
            negatives = sample_shifted(table.clips, anchors, negatives, generator)
        own, total = self.context.shard(len(anchors)), len(anchors)
        anchors, positives, negatives = (
            rows[own.start : own.stop] for rows in (anchors, positives, negatives)
        )
        batch = Batch(
            encoder=self.encoder,
            adapters=self.adapters,
            precomputed=precomputed,
            config=self.config,
            anchors=anchors,
            positives=positives,
            negatives=negatives,
            moving=None if self.moving is None else self.moving[anchors],
            generator=generator,
            precision=self.precision,
        )
        return batch, len(own) / total

    def _sum_over_processes(
        self, gradients: list[Tensor], stats: dict[str, float], share: float, stop: bool
    ) -> tuple[dict[str, float], bool]:
        """Sum gradients (in place), the log's means and the wish to stop, in one message."""
        message = gradients[0].new_tensor([*(share * value for value in stats.values()), float(stop)])
        flat = self.context.all_reduce(torch.cat([*(g.flatten() for g in gradients), message]))
        *sums, message = flat.split([*(g.numel() for g in gradients), len(message)])
        for gradient, summed in zip(gradients, sums, strict=True):
            gradient.copy_(summed.view_as(gradient))
        *means, stopping = message.tolist()
        return dict(zip(stats, means, strict=True)), stopping > 0


def _identity(
    encoder: AudioVisualEncoder,
    data: TrainingSet,
    config: TrainConfig,
    precision: Precision,
    context: DistributedContext,
) -> dict[str, Any]:
    if len(data) == 0:
        raise DataError("the training set is empty; give a folder with videos, or check its layout")
    return {
        "moca_avs": moca_avs.__version__,
        "encoder": {
            "name": encoder.name,
            "weights": encoder.weights_hash(),
            "image_size": encoder.image_size,
            "grid": encoder.grid,
        },
        "data": {"fingerprint": data.fingerprint(), "frames": len(data)},
        "training": config.to_dict(),
        "arithmetic": {"precision": precision.name},
        "machine": {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "processes": context.size,
            "checkpoint_activations": precision.checkpoint,
            "compile": precision.compiled,
            "platform": platform.platform(),
        },
    }


def step_generator(seed: int, step: int) -> torch.Generator:
    """A CPU generator of one step alone, so that resuming needs no replay; -1 is the adapters' start."""
    drawn = np.random.SeedSequence([seed, step + 1]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(drawn >> np.uint64(1)))


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Switch torch's deterministic kernels on, and back to what they were."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
