"""Non-maximum suppression of masks: of two that overlap much, the one with the lower score goes.

Masks at another size: bilinear with the border at one half, one by one or many at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

WORKING_SIDE = 384  # pixels; no proposer here sees finer than this
NMS_IOU = 0.5
"""The paper's (supplement, SAM-BIND)."""


def mask_nms(masks: Tensor, scores: Tensor, max_iou: float = NMS_IOU) -> Tensor:
    """Greedy suppression by mask IoU.

    Args:
        masks: bool [P, H, W].
        scores: float [P].
        max_iou: a mask goes if it overlaps a kept one with a higher score by more than this.

    Returns:
        int64 [K], indices of the kept masks, highest score first; of equal scores the first comes first.
    """
    order = scores.argsort(descending=True, stable=True)
    return order[first_of_overlapping(mask_iou(masks[order]) > max_iou)]


def mask_iou(masks: Tensor) -> Tensor:
    """IoU of every mask (bool [P, H, W]) with every other: float32 [P, P]; 0 for two empty masks."""
    flat = masks.flatten(1).float()  # whole numbers are exact below 2**24 pixels
    inter = flat @ flat.T
    area = flat.sum(1)
    return inter / (area[:, None] + area - inter).clamp(min=1)


def first_of_overlapping(overlaps: Tensor) -> Tensor:
    """Which items greedy suppression keeps, best first, without a loop over items.

    An item stays exactly if no kept item before it overlaps it. Passing this rule over all items at once
    settles at least one more item of every chain with each pass, so it ends with the greedy answer.

    Args:
        overlaps: bool [P, P]; (i, j) says whether i, if kept, removes a later j.

    Returns:
        bool [P].
    """
    earlier = overlaps.triu(diagonal=1)
    kept = torch.ones(len(overlaps), dtype=torch.bool, device=overlaps.device)
    while True:
        settled = ~(earlier & kept[:, None]).any(0)
        if torch.equal(settled, kept):
            return kept
        kept = settled


FEW = 16  # masks; the tables for many at once cost as much as resizing so many


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask bool [h, w] at another size, bool [H, W]: bilinear with the border at one half."""
    if mask.shape == tuple(size):
        return mask
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR)) > 127


def resize_masks(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Masks bool [P, h, w] -> bool [P, H, W], each exactly as `resize_mask` has it."""
    shrinks = size[0] < masks.shape[1] or size[1] < masks.shape[2]
    if shrinks or len(masks) <= FEW:
        return np.array([resize_mask(mask, size) for mask in masks], bool).reshape(-1, *size)
    return unpack_masks(enlarge_packed(pack_masks(masks), size), len(masks))


def pack_masks(masks: np.ndarray) -> np.ndarray:
    """Eight masks to a byte, the first in the lowest bit: bool [P, ...] -> uint8 [ceil(P / 8), ...]."""
    groups = np.zeros((-(-len(masks) // 8), *masks.shape[1:]), np.uint8)
    for index, mask in enumerate(masks.view(np.uint8)):
        groups[index // 8] |= mask << (index % 8)  # np.packbits takes four times as long along this axis
    return groups


def unpack_masks(groups: np.ndarray, count: int) -> np.ndarray:
    """The first `count` masks of what `pack_masks` made: uint8 [G, H, W] -> bool [count, H, W]."""
    bits = (1 << np.arange(8)).astype(np.uint8)[:, None, None]
    masks = np.empty((count, *groups.shape[1:]), bool)
    for group, start in zip(groups, range(0, count, 8), strict=True):
        eight = masks[start : start + 8]
        np.not_equal(group & bits[: len(eight)], 0, out=eight)
    return masks


def enlarge_packed(groups: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Packed masks at a size that is nowhere smaller, each exactly as `resize_mask` has it.

    Enlarging, a pixel depends on two neighbouring rows and two neighbouring columns at most, so on four bits
    (in an even or odd row and column), and never turns off where one of them turns on. Every pixel's table of
    sixteen answers is asked from `resize_mask`; eight masks are looked up at once, with a bit each.

    Args:
        groups: uint8 [G, h, w].
        size: (H, W), H >= h and W >= w.

    Returns:
        uint8 [G, H, W].
    """
    old = groups.shape[1:]
    if old == tuple(size):
        return groups
    answers = _answers(old, tuple(size))
    rows, columns = _even_and_odd(old[0], size[0]), _even_and_odd(old[1], size[1])
    result = np.empty((len(groups), *size), np.uint8)
    for group, out in zip(groups, result, strict=True):
        wide = [np.take(group, column, axis=1) for column in columns]
        table = list(answers)
        for bit in (one[row] for row in rows for one in wide):
            table = [off | (on & bit) for off, on in zip(table[::2], table[1::2], strict=True)]
        out[:] = table[0]
    return result


def _even_and_odd(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the two rows (or columns) that each new one lies between: the even and the odd one, int [new]."""
    first = np.floor((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.intp)
    even, odd = first + first % 2, first + 1 - first % 2
    return even.clip(0, old - 1), odd.clip(0, old - 1)  # beyond the border, which then has no say


@lru_cache(maxsize=2)
def _answers(old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """What each pixel becomes for all values of its four sources: 0 or 255, uint8 [16, H, W].

    The index's bits, lowest first: even row and even column, even and odd, odd and even, odd and odd.
    """
    row, column = (np.arange(length) % 2 for length in old)
    source = 2 * row[:, None] + column
    masks = [resize_mask((index >> source & 1).astype(bool), new) for index in range(16)]
    return np.array(masks).astype(np.uint8) * 255


def pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of every mask with every other.

    Args:
        first: bool [P, H, W].
        second: bool [Q, H, W].

    Returns:
        float64 [P, Q] in [0, 1]; 0 for two empty masks.
    """
    inter = np.array([overlaps(first, mask) for mask in second], np.float64)
    inter = inter.reshape(len(second), len(first)).T
    union = areas(first)[:, None] + areas(second) - inter
    return inter / np.maximum(union, 1)


def overlaps(masks: Iterable[np.ndarray], mask: np.ndarray) -> np.ndarray:
    """Pixels that each of P masks (bool [P, H, W]) shares with bool [H, W]: float64 [P], whole numbers."""
    # Against one mask a matrix product takes six times as long; against ninety, half as long.
    return np.array([np.count_nonzero(one & mask) for one in masks], np.float64)


def areas(masks: np.ndarray) -> np.ndarray:
    """Pixels of each of bool [P, H, W]: float64 [P], whole numbers."""
    return np.array([np.count_nonzero(mask) for mask in masks], np.float64)


def drop_duplicates(masks: np.ndarray, max_iou: float = 0.9) -> np.ndarray:
    """Drop every mask (bool [P, H, W]) that overlaps an earlier kept one by more than `max_iou`."""
    area, kept = areas(masks), np.zeros(len(masks), bool)
    # Masks whose areas differ too much can't overlap that much, which settles most pairs at no cost.
    bound = np.minimum(area[:, None], area) / np.maximum(np.maximum(area[:, None], area), 1)
    for index, near in enumerate(bound > max_iou):
        rivals = np.flatnonzero(near & kept)
        shared = overlaps((masks[rival] for rival in rivals), masks[index])
        iou = shared / np.maximum(area[rivals] + area[index] - shared, 1)
        kept[index] = not (iou > max_iou).any()
    return masks if kept.all() else masks[kept]


def downscale(frame: np.ndarray, side: int = WORKING_SIDE) -> np.ndarray:
    """uint8 [H, W, 3] -> the same image with a longer side of at most `side`; itself if small enough."""
    height, width = frame.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return frame
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))


def propose_downscaled(
    frame: np.ndarray, propose: Callable[[np.ndarray], np.ndarray], side: int = WORKING_SIDE
) -> np.ndarray:
    """Propose on a copy whose longer side is at most `side` pixels; masks come back at frame size."""
    small = downscale(frame, side)
    masks = propose(small)
    if small.shape == frame.shape:
        return masks
    return resize_masks(masks, frame.shape[:2])
