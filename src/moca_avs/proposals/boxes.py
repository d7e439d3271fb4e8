"""Boxes (x0, y0, x1, y1 in pixels): suppression, clipping."""

from __future__ import annotations

import numpy as np
import torch

from moca_avs.proposals.mask_nms import first_of_overlapping
from moca_avs.proposals.shapes import box_iou

NMS_IOU = 0.5
"""Class-agnostic, of the open-world detector (Maaz et al., the paper's)."""


def box_nms(boxes: np.ndarray, scores: np.ndarray, max_iou: float = NMS_IOU) -> np.ndarray:
    """Greedy class-agnostic suppression.

    Args:
        boxes: float32 [P, 4].
        scores: float32 [P].
        max_iou: a box goes if it overlaps a kept one with a higher score by more than this.

    Returns:
        int64 [K], indices of the kept boxes, highest score first; of equal scores the first comes first.
    """
    order = np.argsort(-scores, kind="stable")
    overlaps = box_iou(boxes[order], boxes[order]) > max_iou
    return order[first_of_overlapping(torch.from_numpy(overlaps)).numpy()]


def inside_frame(
    boxes: np.ndarray, scores: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Cut boxes to the frame (height, width) and drop what has no area left; best first, float32."""
    height, width = size
    cut = np.clip(boxes, 0, np.array([width, height, width, height])).astype(np.float32).reshape(-1, 4)
    order = np.argsort(-scores, kind="stable")
    order = order[np.all(cut[order, 2:] > cut[order, :2], axis=1)]
    return cut[order], scores[order].astype(np.float32)
