"""Sound source localization (VGG-SS, VGGSound-Single, Flickr-SoundNet): cIoU and AUC at 224 x 224.

A heat map counts as predicted above its own median, so that half of the pixels always do. Three protocols:

* ``lvs`` (hche11/Localizing-Visual-Sounds-the-Hard-Way 8fe8cbbf810e): upsampled with half-pixel centers,
  predicted where strictly above the median;
* ``ez-vsl`` (stoneMo/EZ-VSL 95ff5bff3019): upsampled with aligned corners, predicted where at the median or
  above it;
* ``mask``: a binary mask is scored as it is, nobody's median applied.

The median rules flatter: a centered disk that has seen nothing scores high (`disk_heat`), so it stands in
every report.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from moca_avs.errors import UsageError
from moca_avs_bench.metrics.objects import upsample

SIDE = 224
"""Pixels per side at which everything is scored."""

PROTOCOLS = ("lvs", "ez-vsl", "mask")
SUCCESS = 0.5
"""A sample is localized where its cIoU is at least this."""

AUC_THRESHOLDS = 0.05 * np.arange(21)
"""float64 [21]: 0, .05, ..., 1, as products: .15 is 0.15000000000000002 here as in the public scripts."""

_SQUARE_UNITS = 256
_MEDIAN = SIDE * SIDE // 2


def boxes_map(boxes: np.ndarray) -> np.ndarray:
    """Ground truth of VGG-SS and VGGSound-Single: the union of boxes.

    Args:
        boxes: float [P, 4], xyxy as shares of the image; what lies outside [0, 1] is clipped.

    Returns:
        float32 [224, 224], 0 or 1; a box without area adds nothing.
    """
    truth = np.zeros((SIDE, SIDE), np.float32)
    corners = (SIDE * np.clip(np.reshape(boxes, (-1, 4)), 0, 1)).astype(int)
    for left, top, right, bottom in corners:
        truth[top:bottom, left:right] = 1
    return truth


def consensus_map(boxes: np.ndarray) -> np.ndarray:
    """Ground truth of Flickr-SoundNet: half the number of annotators' boxes over a pixel, at most 1.

    Args:
        boxes: integer [P, 4], xyxy in 1/256 of the image's sides.

    Returns:
        float32 [224, 224] in {0, 0.5, 1}.
    """
    votes = np.zeros((SIDE, SIDE), np.float32)
    corners = np.reshape(np.asarray(boxes, np.int64), (-1, 4)).clip(0, _SQUARE_UNITS) * SIDE // _SQUARE_UNITS
    for left, top, right, bottom in corners:
        votes[top:bottom, left:right] += 1
    return np.minimum(votes / 2, 1)


def ciou(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Consensus IoU: sum(p g) / (sum(g) + sum(p [g = 0])).

    Args:
        predicted: bool [N, H, W].
        truth: float [N, H, W] in [0, 1].

    Returns:
        float64 [N] in [0, 1]; 0 where nothing is true and nothing predicted.

    Raises:
        UsageError: on shapes that differ.
    """
    if predicted.shape != truth.shape or truth.ndim != 3 or predicted.dtype != bool:
        raise UsageError(
            "predicted and truth must be [N, H, W] of one shape, predicted bool; "
            f"found {predicted.dtype} {list(predicted.shape)} and {list(truth.shape)}"
        )
    hits = (truth * predicted).sum((1, 2), dtype=np.float64)
    below = truth.sum((1, 2), dtype=np.float64) + (predicted & (truth == 0)).sum((1, 2))
    return np.divide(hits, below, out=np.zeros(len(truth)), where=below > 0)


def success_rate(scores: np.ndarray) -> float:
    """cIoU@0.5: the share of samples with a cIoU of at least 0.5; NaN of none.

    Args:
        scores: float [N], a cIoU per sample.
    """
    return float((np.asarray(scores) >= SUCCESS).mean()) if len(scores) else float("nan")


def auc(scores: np.ndarray) -> float:
    """Area under the success rate at cIoU thresholds 0, 0.05, ..., 1 (trapezoid); NaN of none.

    The mean over samples of `auc_of_each`.

    Args:
        scores: float [N], a cIoU per sample.
    """
    return float(auc_of_each(scores).mean()) if len(scores) else float("nan")


def auc_of_each(scores: np.ndarray) -> np.ndarray:
    """What each sample adds to the AUC: float [N] -> float64 [N] in [0, 1]."""
    reached = np.asarray(scores, np.float64)[:, None] >= AUC_THRESHOLDS
    return (reached[:, 1:] + reached[:, :-1].astype(float)).sum(1) / (2 * (len(AUC_THRESHOLDS) - 1))


def lvs_predicted(heat: np.ndarray) -> np.ndarray:
    """What LVS takes for predicted: strictly above the median, and all pixels at the maximum.

    Its script takes 1 - minmax(-heat) and then keeps what is above the median *or* at least 1. So the highest
    value counts even where it is the median, and a constant map, which is not rescaled, counts as a whole
    unless it is negative.

    Args:
        heat: float [N, 224, 224].

    Returns:
        bool [N, 224, 224].
    """
    found = np.zeros(heat.shape, bool)
    for one, kept in zip(heat, found, strict=True):
        low, high = one.min(), one.max()
        scaled = 1 - (high - one) / (high - low) if high > low else 1 + one
        kept[:] = (scaled > _median(scaled)) | (scaled >= 1)
    return found


def ez_vsl_predicted(heat: np.ndarray) -> np.ndarray:
    """What EZ-VSL takes for predicted: at the median or above it. Arguments as `lvs_predicted`."""
    found = np.zeros(heat.shape, bool)
    for one, kept in zip(heat, found, strict=True):
        kept[:] = one >= _median(one)
    return found


def predicted(protocol: str, heat: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """What counts as predicted under a protocol.

    Args:
        protocol: one of `PROTOCOLS`.
        heat: float [N, h, w], any scale; upsampled as the protocol says. "mask" doesn't look at it.
        masks: bool [N, H, W]; only "mask" looks at them. Taken to 224 x 224 by the nearest pixel.

    Returns:
        bool [N, 224, 224].

    Raises:
        UsageError: for an unknown protocol.
    """
    rules: dict[str, Callable[[], np.ndarray]] = {
        "lvs": lambda: lvs_predicted(upsample(heat, SIDE, SIDE)),
        "ez-vsl": lambda: ez_vsl_predicted(upsample(heat, SIDE, SIDE, align_corners=True)),
        "mask": lambda: np.array([nearest(mask, SIDE, SIDE) for mask in masks], bool).reshape(-1, SIDE, SIDE),
    }
    if protocol not in rules:
        raise UsageError(f"no protocol named {protocol!r}; choose from {', '.join(PROTOCOLS)}")
    return rules[protocol]()


def nearest(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bool [H, W] -> bool [height, width], each pixel the nearest one's value."""
    rows, columns = (
        ((np.arange(target) + 0.5) * size / target).astype(int)
        for size, target in zip(mask.shape, (height, width), strict=True)
    )
    return mask[rows[:, None], columns]


def disk_heat() -> np.ndarray:
    """The null that every localization report shows: float32 [224, 224] in [0, 1], highest in the middle.

    Its upper half by value is a centered disk of half the image's area.
    """
    across = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    return (1 - np.hypot(across[:, None], across[None, :]) / np.hypot(0.5, 0.5)).astype(np.float32)


def disk_mask(height: int, width: int) -> np.ndarray:
    """The centered disk of half the area in the squashed image: bool [height, width]."""
    rows, columns = ((np.arange(size) + 0.5) / size - 0.5 for size in (height, width))
    return rows[:, None] ** 2 + columns[None, :] ** 2 < 0.5 / np.pi


def _median(heat: np.ndarray) -> np.float32:
    """The 25,088th (from 0) of the 50,176 sorted values."""
    if heat.shape != (SIDE, SIDE):
        raise UsageError(f"heat must be {SIDE} x {SIDE}, found {list(heat.shape)}")
    return np.partition(heat, _MEDIAN, axis=None)[_MEDIAN]
