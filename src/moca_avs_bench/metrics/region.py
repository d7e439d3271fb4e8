"""Region scores of AVSBench (S4, MS3): mIoU and F, by named protocol.

The public script (OpenNLPLab/AVSBench f7414aff6aed) takes logits, averages inside a call, then over calls,
so its F depends on how many frames a call holds. Here predictions are masks or probabilities (the sigmoid is
the caller's), and what one call holds is the protocol:

* ``avsbench``: one video a call, the public script's default;
* ``per_frame``: one frame a call, so each frame with an empty truth adds F = 0;
* ``dataset``: one call over all frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from moca_avs.errors import UsageError

Protocol = Literal["avsbench", "per_frame", "dataset"]

BETA_SQUARED = 0.3
THRESHOLDS = np.linspace(0, 1 - 1e-10, 255).astype(np.float32)
"""float32 [255]: F's thresholds; a pixel counts as predicted where its probability is >= the threshold."""


def check_protocol(protocol: str) -> None:
    """Raises UsageError for a name that is no protocol."""
    if protocol not in get_args(Protocol):
        raise UsageError(f"no protocol named {protocol!r}; choose from {', '.join(get_args(Protocol))}")


def nonempty(masks: np.ndarray) -> np.ndarray:
    """Which masks hold a pixel: bool [N, H, W] -> bool [N]."""
    return np.logical_or.reduce(masks, axis=(1, 2))


def frame_iou(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU of each frame; a frame with an empty truth scores its share of pixels left empty.

    Args:
        prediction: bool [N, H, W], or float [N, H, W] in [0, 1], predicted where > 0.5.
        truth: bool [N, H, W].

    Returns:
        float64 [N] in [0, 1]; the union carries the public script's 1e-7.

    Raises:
        UsageError: on shapes that differ or probabilities outside [0, 1].
    """
    _check(prediction, truth)
    mask = prediction if prediction.dtype == bool else prediction > 0.5
    pixels = truth.shape[1] * truth.shape[2]
    inter = (mask & truth).sum((1, 2))
    union = (mask | truth).sum((1, 2))
    empty = ~nonempty(truth)
    return np.where(empty, pixels - union, inter) / (np.where(empty, pixels, union) + 1e-7)


def precision_recall(prediction: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of each frame at each threshold.

    Args:
        prediction: bool [N, H, W], or float [N, H, W] in [0, 1].
        truth: bool [N, H, W].

    Returns:
        Two float64 [N, 255]; 0 where nothing is predicted (precision) or nothing is true (recall).

    Raises:
        UsageError: on shapes that differ or probabilities outside [0, 1].
    """
    _check(prediction, truth)
    if prediction.dtype == bool:
        predicted, hits = (
            _reached_by_mask(prediction, np.ones_like(truth)),
            _reached_by_mask(prediction, truth),
        )
    else:
        level = np.searchsorted(THRESHOLDS, prediction.astype(np.float32), side="right")
        predicted, hits = _reached(level, np.ones_like(truth)), _reached(level, truth)
    true = truth.sum((1, 2))[:, None]
    return hits / (predicted + 1e-20), hits / (true + 1e-20)


def f_curves(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """F of each frame at each threshold, beta² = 0.3.

    Args:
        prediction: bool [N, H, W], or float [N, H, W] in [0, 1].
        truth: bool [N, H, W].

    Returns:
        float64 [N, 255] in [0, 1]; 0 all along for a frame with an empty truth. Of a hard mask all columns
        after the first (threshold 0, which predicts every pixel) are equal.

    Raises:
        UsageError: on shapes that differ or probabilities outside [0, 1].
    """
    precision, recall = precision_recall(prediction, truth)
    below = BETA_SQUARED * precision + recall
    return np.divide(
        (1 + BETA_SQUARED) * precision * recall, below, out=np.zeros_like(below), where=below > 0
    )


def mean_iou(
    prediction: np.ndarray,
    truth: np.ndarray,
    videos: Sequence[int],
    protocol: Protocol = "avsbench",
    sounding_only: bool = False,
) -> float:
    """The mean IoU (J) of a split: mean over the frames of a call, then over calls.

    Args:
        prediction: bool [N, H, W], or float [N, H, W] in [0, 1], predicted where > 0.5.
        truth: bool [N, H, W].
        videos: number of frames of each video, in order; they add up to N.
        protocol: what a call holds.
        sounding_only: leave out frames with an empty truth (and calls that hold no other).

    Raises:
        UsageError: on shapes or counts that don't fit together, or where no frame has a truth and only such
            frames count.
    """
    iou = frame_iou(prediction, truth)
    kept = nonempty(truth) if sounding_only else np.ones(len(truth), bool)
    calls = [iou[call][kept[call]] for call in _calls(len(truth), videos, protocol)]
    if not kept.any():
        raise UsageError(f"the mean IoU is not defined: none of {len(truth)} frames has a truth")
    return float(np.mean([call.mean() for call in calls if len(call)]))


def f_score(
    prediction: np.ndarray, truth: np.ndarray, videos: Sequence[int], protocol: Protocol = "avsbench"
) -> float:
    """The F-score of a split: the highest point of a call's mean curve, averaged over calls.

    Frames with an empty truth are left out of their call's curve; a call of only such frames scores 0 and
    counts.

    Args:
        prediction: bool [N, H, W], or float [N, H, W] in [0, 1].
        truth: bool [N, H, W].
        videos: number of frames of each video, in order; they add up to N.
        protocol: what a call holds.

    Raises:
        UsageError: on shapes or counts that don't fit together.
    """
    curves, sounding = f_curves(prediction, truth), nonempty(truth)
    scores = [
        curves[call][sounding[call]].mean(0).max() if sounding[call].any() else 0.0
        for call in _calls(len(truth), videos, protocol)
    ]
    return float(np.mean(scores))


def _calls(frames: int, videos: Sequence[int], protocol: Protocol) -> list[slice]:
    """The frames that one call of the public script would see, call by call."""
    check_protocol(protocol)
    if sum(videos) != frames or min(videos, default=0) < 1:
        raise UsageError(f"videos must be lengths >= 1 that add up to {frames} frames, found {list(videos)}")
    lengths = {"avsbench": videos, "per_frame": [1] * frames, "dataset": [frames]}[protocol]
    ends = np.cumsum(lengths)
    return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def _reached(level: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Counted pixels at or above each threshold: int64 [N, 255], from thresholds reached [N, H, W]."""
    frames, bins = len(level), len(THRESHOLDS) + 1
    offset = level + bins * np.arange(frames)[:, None, None]
    histogram = np.bincount(offset[counted], minlength=frames * bins).reshape(frames, bins)
    return histogram[:, :0:-1].cumsum(1)[:, ::-1]


def _reached_by_mask(mask: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """`_reached` of a mask, a probability of 0 or 1: all pixels reach threshold 0, the mask the others."""
    reached = np.repeat((mask & counted).sum((1, 2))[:, None], len(THRESHOLDS), axis=1)
    reached[:, 0] = counted.sum((1, 2))
    return reached


def _check(prediction: np.ndarray, truth: np.ndarray) -> None:
    if prediction.shape != truth.shape or truth.ndim != 3 or truth.dtype != bool:
        raise UsageError(
            "prediction and truth must be [N, H, W] of one shape, truth bool; "
            f"found {prediction.dtype} {list(prediction.shape)} and {truth.dtype} {list(truth.shape)}"
        )
    if prediction.dtype == bool or not prediction.size:
        return
    low, high = float(prediction.min()), float(prediction.max())
    if not (low >= 0 and high <= 1):  # NaN fails here too
        raise UsageError(
            f"predictions must be probabilities in [0, 1], found {low:g} to {high:g}; "
            "put logits through a sigmoid first"
        )
