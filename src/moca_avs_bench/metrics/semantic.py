"""Semantic scores of AVSS: IoU and F per class over class maps, averaged over frames, then over classes.

As the public script (OpenNLPLab/AVSBench f7414aff6aed): a class counts in a frame where prediction *or* truth
holds it; its sums over frames are divided by the number of such frames, 0 where it was never seen; the scores
are means over all classes, background (index 0) included. F is taken at the class map only (beta² = 0.3).

The public loader pads clips of 5 s to 10 frames and scores the padding. `padding` is that option: so many
frames more that hold only background, in truth and in prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moca_avs.errors import UsageError
from moca_avs_bench.metrics.region import BETA_SQUARED

PROTOCOLS = ("real", "padded")


@dataclass(frozen=True, eq=False)
class Totals:
    """Sums over frames; two of them add up.

    Attributes:
        iou: float64 [C], sum of each class's IoU.
        f: float64 [C], sum of each class's F.
        seen: float64 [C], frames in which the class is in prediction or truth.
        frames: number of frames, padding included.
    """

    iou: np.ndarray
    f: np.ndarray
    seen: np.ndarray
    frames: int

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.iou + other.iou, self.f + other.f, self.seen + other.seen, self.frames + other.frames
        )


@dataclass(frozen=True, eq=False)
class SemanticScores:
    """What the sums come to.

    Attributes:
        miou: mean over all classes of `class_iou`.
        f: mean over all classes of `class_f`.
        class_iou: float64 [C], mean over the frames that hold the class; 0 where none does.
        class_f: float64 [C], likewise.
        frames: number of frames, padding included.
    """

    miou: float
    f: float
    class_iou: np.ndarray
    class_f: np.ndarray
    frames: int


def begin(classes: int) -> Totals:
    """No frame yet.

    Args:
        classes: C, background included.

    Raises:
        UsageError: where there is no class.
    """
    if classes < 1:
        raise UsageError(f"scores over classes need at least the background, found {classes} classes")
    return Totals(np.zeros(classes), np.zeros(classes), np.zeros(classes), 0)


def update(totals: Totals, prediction: np.ndarray, truth: np.ndarray, padding: int = 0) -> Totals:
    """Totals with some frames more.

    Args:
        totals: of the frames before; its length is the number of classes C.
        prediction: integer class maps [N, H, W] in 0 ... C - 1.
        truth: of the same shape and range.
        padding: further frames that are background in both.

    Raises:
        UsageError: on shapes that differ, or class indices out of range.
    """
    classes = len(totals.seen)
    iou, f, seen = frame_scores(prediction, truth, classes)
    background = padding * (np.arange(classes) == 0)
    return totals + Totals(
        iou.sum(0) + background, f.sum(0) + background, seen.sum(0) + background, len(iou) + padding
    )


def compute(totals: Totals) -> SemanticScores:
    """Scores from totals."""
    class_iou, class_f = _ratio(totals.iou, totals.seen), _ratio(totals.f, totals.seen)
    return SemanticScores(float(class_iou.mean()), float(class_f.mean()), class_iou, class_f, totals.frames)


def mean_over_classes(sums: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The score of each draw of clips (a `bootstrap.Statistic`).

    A class that is in the split but not in a draw keeps the split's own score there: as 0 it would push
    nearly every draw below the split's score, left out above it.

    Args:
        sums: float64 [R, 2 C + 1]: a sum per class, frames that hold each class, frames.
        whole: float64 [2 C + 1], the same of the split itself, whose score is `compute`'s.

    Returns:
        float64 [R].
    """
    classes = len(whole) // 2
    seen = sums[:, classes : 2 * classes]
    in_split = _ratio(whole[:classes], whole[classes : 2 * classes])
    return np.where(seen > 0, _ratio(sums[:, :classes], seen), in_split).mean(1)


def frame_scores(
    prediction: np.ndarray, truth: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """IoU and F of each class in each frame, and whether the frame holds it: three float64 [N, C].

    Args:
        prediction: integer class maps [N, H, W].
        truth: of the same shape.
        classes: C.

    Raises:
        UsageError: on shapes that differ, or class indices out of range.
    """
    _check(prediction, truth, classes)
    both = prediction.astype(np.int64) * classes + truth
    counts = [np.bincount(frame.ravel(), minlength=classes**2) for frame in both]
    pairs = np.array(counts, np.int64).reshape(len(both), classes, classes)  # also of no frame at all
    hits = np.diagonal(pairs, axis1=1, axis2=2).astype(float)
    predicted, true = pairs.sum(2), pairs.sum(1)
    seen = (predicted + true > 0).astype(float)
    iou = _ratio(hits, predicted + true - hits)
    precision, recall = _ratio(hits, predicted), _ratio(hits, true)
    f = _ratio((1 + BETA_SQUARED) * precision * recall, BETA_SQUARED * precision + recall)
    return iou, f, seen


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Above / below, 0 where there is nothing below."""
    return np.divide(above, below, out=np.zeros(np.shape(above)), where=below > 0)


def _check(prediction: np.ndarray, truth: np.ndarray, classes: int) -> None:
    for name, maps in (("prediction", prediction), ("truth", truth)):
        if maps.ndim != 3 or maps.shape != truth.shape or not np.issubdtype(maps.dtype, np.integer):
            raise UsageError(
                f"{name} must be integer class maps [N, H, W] like the truth {list(truth.shape)}, "
                f"found {maps.dtype} {list(maps.shape)}"
            )
        if maps.size and not 0 <= int(maps.min()) <= int(maps.max()) < classes:
            raise UsageError(
                f"{name} must hold class indices from 0 to {classes - 1}, "
                f"found {maps.min()} to {maps.max()}; use the dataset's own list (label2idx.json)"
            )
