"""Boxes and masks into each other. Boxes are xyxy in pixels; the right and lower ends are not inside.

Boxes (x0, y0, x1, y1 in pixels): suppression, clipping.
"""

from __future__ import annotations

import numpy as np
import torch

from moca_avs.proposals.masks import first_of_overlapping


def bounding_boxes(masks: np.ndarray) -> np.ndarray:
    """Masks bool [P, H, W] -> float32 [P, 4]; an empty mask has an empty box at 0."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def box_masks(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes float [P, 4] -> filled boxes bool [P, H, W], each at least one pixel."""
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (left, top, right, bottom) in zip(masks, whole_boxes(boxes, size), strict=True):
        mask[top:bottom, left:right] = True
    return masks


def whole_boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes float [P, 4] grown to whole pixels inside a frame of (H, W), int64 [P, 4], at least one pixel."""
    limits = np.array([size[1], size[0]])
    first = np.clip(np.floor(boxes[:, :2]).astype(np.int64), 0, limits - 1)
    last = np.clip(np.ceil(boxes[:, 2:]).astype(np.int64), first + 1, limits)
    return np.concatenate([first, last], 1)


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of every box of float [P, 4] with every one of [Q, 4]: float64 [P, Q], 0 for two empty boxes."""
    a, b = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    sides = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(min=0)
    inter = sides.prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clip(min=0).prod(-1) for boxes in (a, b)]
    union = areas[0] + areas[1] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


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
