"""From a row's system to a method: the oracle (told the truth), salient objects, comparators, MoCA.

Salient objects (U2-Netp; Qin et al. 2020) stand in the paper's saliency rows (iGAN, LGVT): they hear no sound
either, are smaller, and can be had offline.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import moca_avs
from moca_avs.clip import Clip, Segmentation
from moca_avs.data.base import EvaluationSet, Sample, Subset
from moca_avs.errors import UsageError
from moca_avs.io.image import resized
from moca_avs.io.video import as_clip
from moca_avs.methods.base import Method, versions
from moca_avs.methods.config import BaselineConfig, MocaConfig
from moca_avs.methods.source import find_source
from moca_avs.proposals.base import Proposer
from moca_avs.proposals.masks import pairwise_iou
from moca_avs.proposals.saliency import INPUT_SIDE, SaliencyProposer
from moca_avs.utils.frame_cache import FrameCache
from moca_avs.utils.profiler import record
from moca_avs_bench.tables.setup import RunContext, TrainedRun
from moca_avs_bench.tables.spec import (
    INFERENCE,
    Comparator,
    Oracle,
    Preset,
    SaliencyBaseline,
    System,
    TrainedMoca,
    Unavailable,
)

_GRID = 48  # positions per side of the heat, which is the mask


class OracleProposals:
    """The proposal nearest the truth, of every frame: no system, for it is told the answer (Table 2).

    Where the truth is empty it stays empty.

    Args:
        proposer: finds masks.
        dataset: whose samples it is asked about; they must be read through its `dataset`.
    """

    def __init__(self, proposer: Proposer, dataset: EvaluationSet) -> None:
        self.proposer = proposer
        self.dataset = RememberTruth(dataset)
        self.settings: dict[str, Any] = {
            "method": "oracle: the proposal nearest the truth",
            "proposer": proposer.settings,
            "versions": versions(),
        }

    def __call__(self, clip: Clip) -> Segmentation:
        """Masks of the frames that its `dataset` loaded last; heat is the mask.

        Raises:
            UsageError: for other frames.
        """
        truth = self.dataset.truth(clip)
        masks = np.zeros(truth.shape, bool)
        for mask, frame, true in zip(masks, clip.frames, truth, strict=True):
            proposals = self.proposer(frame) if true.any() else np.zeros((0, *true.shape), bool)
            if len(proposals):
                mask[:] = proposals[pairwise_iou(proposals, true[None])[:, 0].argmax()]
        heat = np.stack([resized(mask, _GRID, _GRID) for mask in masks]).clip(0, 1).astype(np.float16)
        reasons = tuple("" if mask.any() else "no proposal" for mask in masks)
        scores = heat.max((1, 2)).astype(np.float32)
        return Segmentation(masks, heat, scores, reasons, clip.times, self.settings)


class RememberTruth(Subset):
    """An `EvaluationSet` that remembers the sample it loaded last.

    Args:
        whole: the set itself, all of which is taken.
    """

    def __init__(self, whole: EvaluationSet) -> None:
        super().__init__(whole, len(whole))
        self._last: Sample | None = None

    def load(self, sample_id: str) -> Sample:
        """Read one sample, and remember it."""
        self._last = self.whole.load(sample_id)
        return self._last

    def truth(self, clip: Clip) -> np.ndarray:
        """The last sample's masks, bool [T, H, W]. Raises UsageError for a clip of other frames."""
        if self._last is None or not np.array_equal(clip.frames, self._last.clip.frames):
            raise UsageError("the oracle can only be asked about the clip whose truth it was told last")
        return self._last.masks


def why_not(system: System, context: RunContext) -> str:
    """Why a system can't be run at all; "" where it can."""
    if isinstance(system, Unavailable):
        return system.why
    if (
        isinstance(system, Preset)
        and system.method == "moca"
        and find_source(context.preset).adapters is None
    ):
        return f"no trained adapters ship with {context.preset}"
    return ""


def build(system: System, run: TrainedRun | None, context: RunContext, dataset: EvaluationSet) -> Method:
    """The method of a row, told the dataset's classes where it has some.

    Args:
        system: not `Unavailable`.
        run: of `trained`.
        context: preset and places.
        dataset: it will be asked about.

    Raises:
        MocaError: where weights are missing.
    """
    table: Path | None = getattr(dataset, "class_table", None)
    classes = {} if table is None else {"classes": str(table)}
    if isinstance(system, SaliencyBaseline):
        return Saliency()
    if isinstance(system, Oracle):
        return OracleProposals(context.proposer(_preset_proposals(context, "baseline")), dataset)
    if isinstance(system, Comparator) and run is not None:
        from moca_avs_bench.ssl.method import load_comparator

        settings = {"proposals": _preset_proposals(context, "method"), **system.settings}
        return load_comparator(
            run.folder,
            context.device,
            system=system.name,
            sources=context.sources,
            wrap_proposer=context.keep,
            **settings,
        )
    if isinstance(system, TrainedMoca) and run is not None:
        return _load(str(run.folder), "moca", context, INFERENCE | dict(system.inference) | classes)
    if isinstance(system, Preset):
        return _load(context.preset, system.method, context, dict(system.inference) | classes)
    raise UsageError(f"{system} can't be run")


def _load(name: str, method: str, context: RunContext, settings: dict[str, Any]) -> Method:
    if "image_size" in settings:  # a row at the paper's size, not at the preset's own
        settings["image_size"] = context.image_size
    sources = context.sources
    return moca_avs.load(
        name,
        method,
        context.device,
        sources.weights,
        sources.models,
        wrap_proposer=context.keep,
        **settings,
    )


def _preset_proposals(context: RunContext, part: str) -> str:
    """The preset's proposers: its "method"'s (what MPM matches), or its "baseline"'s (SAM under a grid)."""
    default = MocaConfig if part == "method" else BaselineConfig
    found = default.proposals
    for config in find_source(context.preset).configs:
        found = config.get(part, {}).get("proposals", found)
    return found


GRID = 80  # positions per side of the heat map: the network's own 320 in means of 4 x 4


class Saliency:
    """Audio-blind: the salient map above a threshold is the mask of every frame, silent ones included.

    Args:
        network: gives the map; None takes the pinned U2-Netp.
        threshold: of the map, scaled to 0..1 over the image; strictly above counts.

    Raises:
        UsageError: if the threshold is not in 0..1.
        WeightsError: if the weights can't be had or read.
    """

    def __init__(self, network: SaliencyProposer | None = None, threshold: float = 0.5) -> None:
        if not 0 <= threshold <= 1:
            raise UsageError(f"threshold must be in 0..1, found {threshold}")
        self.network = network or SaliencyProposer()
        self.threshold = threshold
        self._maps: FrameCache[np.ndarray] = FrameCache()
        self.settings: dict[str, Any] = {
            "method": "saliency",
            "threshold": threshold,
            "weights": self.network.settings["weights"],
            "versions": versions(),
        }

    def __call__(self, clip: Clip) -> Segmentation:
        """Segment every frame of a clip; its sound is not looked at.

        Returns:
            Masks at source size. Heat is the salient map, 80 x 80. `scores` are its mean inside the mask, 0
            where there is none; `reasons` are "" or "nothing salient".
        """
        clip = as_clip(clip)
        size = clip.frames.shape[1:3]
        masks = np.zeros((len(clip), *size), bool)
        heatmaps = np.zeros((len(clip), GRID, GRID), np.float16)
        scores = np.zeros(len(clip), np.float32)
        for index, frame in enumerate(clip.frames):
            with record("proposals"):
                salient = self._maps(frame, partial(self.network.saliency, frame))
            step = INPUT_SIDE // GRID
            heatmaps[index] = salient.reshape(GRID, step, GRID, step).mean((1, 3))
            fine = np.asarray(Image.fromarray(salient).resize(size[::-1], Image.Resampling.BILINEAR))
            masks[index] = fine > self.threshold
            scores[index] = fine[masks[index]].mean() if masks[index].any() else 0.0
        reasons = tuple("" if mask.any() else "nothing salient" for mask in masks)
        return Segmentation(masks, heatmaps, scores, reasons, clip.times, self.settings)
