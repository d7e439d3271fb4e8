"""From a row's system to a method that can be asked; the oracle, which is told the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import moca_avs
from moca_avs.clip import Clip, Segmentation
from moca_avs.data.base import EvaluationSet, Sample, Subset
from moca_avs.errors import UsageError
from moca_avs.io.image import resized
from moca_avs.methods.base import Method, versions
from moca_avs.methods.config import BaselineConfig, MocaConfig
from moca_avs.methods.factory import find_source
from moca_avs.proposals.base import Proposer
from moca_avs.proposals.masks import pairwise_iou
from moca_avs_bench.tables.setup import RunContext, TrainedRun
from moca_avs_bench.tables.spec import (
    PAPER,
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
        from moca_avs.methods.salient_objects import Saliency

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
        return _load(str(run.folder), "moca", context, PAPER | dict(system.inference) | classes)
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
