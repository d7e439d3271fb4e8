"""The oracle: a row that hears nothing and is told the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from moca_avs.clip import Clip, Segmentation
from moca_avs.datasets.base import EvaluationSet, Sample
from moca_avs.errors import UsageError
from moca_avs.media.pictures import resized
from moca_avs.methods.hearing import versions
from moca_avs.proposals.base import Proposer
from moca_avs.proposals.matching import pairwise_iou

_GRID = 48  # positions per side of the heat, which is the mask


class OracleProposals:
    """The proposal nearest the truth, of every frame: no system, for it is told the answer (Table 2).

    Where the truth is empty it stays empty.

    Args:
        proposer: finds masks.
        dataset: whose samples it is asked about; they must be read through `telling`.
    """

    def __init__(self, proposer: Proposer, dataset: EvaluationSet) -> None:
        self.proposer = proposer
        self.telling = Telling(dataset)
        self.settings: dict[str, Any] = {
            "method": "oracle: the proposal nearest the truth",
            "proposer": proposer.settings,
            "versions": versions(),
        }

    def __call__(self, clip: Clip) -> Segmentation:
        """Masks of the frames that `telling` loaded last; heat is the mask.

        Raises:
            UsageError: for other frames.
        """
        truth = self.telling.truth(clip)
        masks = np.stack([self._nearest(*pair) for pair in zip(clip.frames, truth, strict=True)])
        heat = np.stack([resized(mask, _GRID, _GRID) for mask in masks]).clip(0, 1).astype(np.float16)
        reasons = tuple("" if mask.any() else "no proposal" for mask in masks)
        scores = heat.max((1, 2)).astype(np.float32)
        return Segmentation(masks, heat, scores, reasons, clip.times, self.settings)

    def _nearest(self, frame: np.ndarray, truth: np.ndarray) -> np.ndarray:
        proposals = self.proposer(frame) if truth.any() else np.zeros((0, *truth.shape), bool)
        if not len(proposals):
            return np.zeros_like(truth)
        nearest: np.ndarray = proposals[pairwise_iou(proposals, truth[None])[:, 0].argmax()]
        return nearest


class Telling:
    """An `EvaluationSet` that remembers the sample it loaded last.

    Args:
        whole: the set itself.
    """

    def __init__(self, whole: EvaluationSet) -> None:
        self.whole, self.name, self.split = whole, whole.name, whole.split
        self.kind: str = getattr(whole, "kind", "region")
        self.class_table: Path | None = getattr(whole, "class_table", None)
        self._last: Sample | None = None

    @property
    def ids(self) -> list[str]:
        """Those of the set."""
        return self.whole.ids

    def categories(self) -> dict[str, str]:
        """Those of the set."""
        return self.whole.categories()

    def load(self, sample_id: str) -> Sample:
        """Read one sample, and remember it."""
        self._last = self.whole.load(sample_id)
        return self._last

    def truth(self, clip: Clip) -> np.ndarray:
        """The last sample's masks, bool [T, H, W]. Raises UsageError for a clip of other frames."""
        if self._last is None or not np.array_equal(clip.frames, self._last.clip.frames):
            raise UsageError("the oracle can only be asked about the clip whose truth it was told last")
        return self._last.masks

    def __len__(self) -> int:
        return len(self.whole)
