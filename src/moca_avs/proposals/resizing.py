"""Masks at another size: bilinear with the border at one half, one by one or many at once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

FEW = 16  # masks; the tables for many at once cost as much as resizing so many


def resized_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask bool [h, w] at another size, bool [H, W]: bilinear with the border at one half."""
    if mask.shape == tuple(size):
        return mask
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)) > 127


def resized_masks(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Masks bool [P, h, w] -> bool [P, H, W], each exactly as `resized_mask` has it."""
    shrinks = size[0] < masks.shape[1] or size[1] < masks.shape[2]
    if shrinks or len(masks) <= FEW:
        return np.array([resized_mask(mask, size) for mask in masks], bool).reshape(-1, *size)
    return unpacked(enlarged(packed(masks), size), len(masks))


def packed(masks: np.ndarray) -> np.ndarray:
    """Eight masks to a byte, the first in the lowest bit: bool [P, ...] -> uint8 [ceil(P / 8), ...]."""
    groups = np.zeros((-(-len(masks) // 8), *masks.shape[1:]), np.uint8)
    for index, mask in enumerate(masks.view(np.uint8)):
        groups[index // 8] |= mask << (index % 8)  # np.packbits takes four times as long along this axis
    return groups


def unpacked(groups: np.ndarray, count: int) -> np.ndarray:
    """The first `count` masks of what `packed` made: uint8 [G, H, W] -> bool [count, H, W]."""
    bits = (1 << np.arange(8)).astype(np.uint8)[:, None, None]
    masks = np.empty((count, *groups.shape[1:]), bool)
    for group, start in zip(groups, range(0, count, 8), strict=True):
        eight = masks[start : start + 8]
        np.not_equal(group & bits[: len(eight)], 0, out=eight)
    return masks


def enlarged(groups: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Packed masks at a size that is nowhere smaller, each exactly as `resized_mask` has it.

    Enlarging, a pixel depends on two neighbouring rows and two neighbouring columns at most, so on four bits
    (in an even or odd row and column), and never turns off where one of them turns on. Every pixel's table of
    sixteen answers is asked from `resized_mask`; eight masks are looked up at once, with a bit each.

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
    masks = [resized_mask((index >> source & 1).astype(bool), new) for index in range(16)]
    return np.array(masks).astype(np.uint8) * 255
