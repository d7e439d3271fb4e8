"""Heat and a mask of one frame against the boxes of what sounds: pure functions."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from moca_avs.errors import UsageError
from moca_avs.proposals.boxes import bounding_boxes
from moca_avs.proposals.masks import pairwise_iou
from moca_avs_bench.metrics.objects import upsample

SMALL = 0.5
"""Boxes that cover this share of the frame or more are hit by anything: pointing and AUC leave them out."""


def boxes_mask(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Union of boxes.

    Args:
        boxes: float [P, 4], xyxy as shares of the frame in [0, 1].
        height: of the frame, in pixels.
        width: of the frame, in pixels.

    Returns:
        bool [height, width]; a pixel is inside where its center is, and each box has at least one pixel.
    """
    mask = np.zeros((height, width), bool)
    for left, top, right, bottom in np.reshape(boxes, (-1, 4)):
        rows, columns = _span(top, bottom, height), _span(left, right, width)
        mask[rows, columns] = True
    return mask


def heat_auc(heat: np.ndarray, inside: np.ndarray) -> float:
    """Probability that a pixel inside is hotter than one outside (ties one half): area under the ROC curve.

    Args:
        heat: float [h, w] of any shape, upsampled bilinearly to the frame.
        inside: bool [H, W].

    Returns:
        A number in [0, 1]; NaN where all pixels are inside, or none is.
    """
    hits, misses = int(inside.sum()), int((~inside).sum())
    if not hits or not misses:
        return float("nan")
    ranks = rankdata(upsample(heat[None], *inside.shape)[0], axis=None)
    return float((ranks[inside.ravel()].sum() - hits * (hits + 1) / 2) / (hits * misses))


def pointing(heat: np.ndarray, inside: np.ndarray) -> float:
    """Whether the center of the hottest position is inside; of equally hot ones, the share of them that are.

    Args:
        heat: float [h, w] of any shape, spread over the frame.
        inside: bool [H, W].
    """
    rows, columns = np.nonzero(heat == heat.max())
    row, column = (
        ((index + 0.5) * pixels / cells).astype(int)
        for index, pixels, cells in zip((rows, columns), inside.shape, heat.shape, strict=True)
    )
    return float(inside[row, column].mean())


def mask_iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of bool [H, W] with bool [H, W]; 0 where both are empty."""
    if mask.shape != truth.shape:
        raise UsageError(f"masks must have one shape, found {list(mask.shape)} and {list(truth.shape)}")
    return float(pairwise_iou(mask[None], truth[None]).item())


def box_iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """`mask_iou` of the bounding boxes of two masks; 0 where one of them is empty."""
    return mask_iou(bounding_box(mask), bounding_box(truth))


def bounding_box(mask: np.ndarray) -> np.ndarray:
    """The smallest upright box around a mask, filled: bool [H, W] -> bool [H, W]."""
    left, top, right, bottom = bounding_boxes(mask[None])[0].astype(int)
    filled = np.zeros_like(mask)
    filled[top:bottom, left:right] = True
    return filled


def _span(low: float, high: float, pixels: int) -> slice:
    start = min(max(round(low * pixels), 0), pixels - 1)
    return slice(start, max(min(round(high * pixels), pixels), start + 1))
