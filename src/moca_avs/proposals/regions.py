"""Regions of a frame at every size: superpixels merged step by step, by several rules of likeness.

After Selective Search (Uijlings et al., IJCV 2013): one rule of likeness fails on one kind of object, so the
hierarchies of several rules are put together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.segmentation import watershed

from moca_avs.proposals.masks import downscale, enlarge_packed, pack_masks, unpack_masks
from moca_avs.proposals.superpixels import distinct_regions, merge_all, neighbors, shared_pixels

RULES = ("color", "texture", "edge")


class RegionProposer:
    """Superpixels and what they grow into when the most alike neighbors are merged, by several rules.

    The whole frame is always the first proposal.

    Attributes:
        joint_limit: most proposals of what this is joined into (`moca_avs.proposals.base.JoinedProposer`).

    Args:
        side: longer side of the image that is looked at, in pixels.
        superpixels: how many, about.
        rules: of `merge_regions`, one hierarchy each.
        min_share: smallest region kept, as a share of the image.
        max_iou: of two regions that overlap more, the larger stays.
        limit: most proposals per frame.
    """

    parallel = True

    def __init__(
        self,
        side: int = 160,
        superpixels: int = 150,
        rules: tuple[str, ...] = RULES,
        min_share: float = 0.004,
        max_iou: float = 0.7,
        limit: int = 60,
    ) -> None:
        self.side, self.superpixels, self.rules = side, superpixels, rules
        self.min_share, self.max_iou, self.limit = min_share, max_iou, limit
        self.joint_limit = limit
        self.settings: dict[str, Any] = {
            "name": "regions",
            "side": side,
            "superpixels": superpixels,
            "rules": list(rules),
            "min_share": min_share,
            "max_iou": max_iou,
            "limit": limit,
        }

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> bool [P, H, W], largest first."""
        lab = rgb2lab(downscale(frame, self.side))
        labels = watershed_superpixels(lab, self.superpixels)
        regions = np.concatenate([merge_regions(labels, lab, rule) for rule in self.rules])
        shared = shared_pixels(regions, np.bincount(labels.ravel()).astype(np.float64))
        share = shared.diagonal() / labels.size
        order = np.argsort(-share, kind="stable")
        order = order[share[order] >= self.min_share]
        kept = order[distinct_regions(shared[np.ix_(order, order)], self.max_iou)][: self.limit]
        painted = np.take(pack_masks(regions[kept]), labels, axis=1)
        return unpack_masks(enlarge_packed(painted, frame.shape[:2]), len(kept))


def watershed_superpixels(lab: np.ndarray, count: int) -> np.ndarray:
    """Superpixels by flooding the color gradient from the flattest pixel of each cell of a grid.

    Args:
        lab: float [H, W, 3], CIELAB.
        count: how many, about; fewer in an image of fewer pixels.

    Returns:
        int64 [H, W], 0..S-1, every number used, each superpixel connected (4 neighbors).
    """
    gradient = _gradient(lab)
    height, width = gradient.shape
    cell = max(1, round(float(np.sqrt(height * width / count))))
    rows, columns = np.arange(height) // cell, np.arange(width) // cell
    cells = rows[:, None] * (columns[-1] + 1) + columns
    steepest_first = np.argsort(-gradient, axis=None, kind="stable")
    seeds = np.empty(int(cells[-1, -1]) + 1, np.intp)
    seeds[cells.ravel()[steepest_first]] = steepest_first  # what is written last stays: the flattest pixel
    markers = np.zeros(gradient.shape, np.int32)
    markers.ravel()[seeds] = np.arange(1, len(seeds) + 1)
    return watershed(gradient, markers).astype(np.int64) - 1


def merge_regions(labels: np.ndarray, lab: np.ndarray, rule: str) -> np.ndarray:
    """Merge the two most alike neighboring regions until one is left; every region on the way counts.

    What a merge costs, by rule (the first two of Selective Search):

    * "texture": the share of the two histograms of texture that is not common, plus the area of the bounding
      box around both as a share of the image (Selective Search's size and fill added up).
    * "color": the same, plus the share of the histograms of color that is not common.
    * "edge": mean color gradient along the common border, times the fourth root of the smaller area.

    Args:
        labels: int [H, W], 0..S-1, every number used, each superpixel connected.
        lab: float [H, W, 3], CIELAB.
        rule: "color", "texture" or "edge".

    Returns:
        bool [2S - 1, S]: the superpixels of each region; the last one is the whole image. Of equal costs the
        first pair merges, by the lowest superpixel of each.
    """
    costs_of, unite = _border_costs(labels, lab) if rule == "edge" else _histogram_costs(labels, lab, rule)
    return merge_all(neighbors(labels, int(labels.max()) + 1), costs_of, unite)


_Costs = tuple[Callable[[int, np.ndarray], np.ndarray], Callable[[int, int], None]]
"""The cost of merging a region with each of several others, float64; what to update when two have merged."""


def _histogram_costs(labels: np.ndarray, lab: np.ndarray, rule: str) -> _Costs:
    """Rules "color" and "texture"."""
    flat, count = labels.ravel(), int(labels.max()) + 1
    area = np.bincount(flat).astype(np.float64)
    kinds = [(*_texture_bins(lab[..., 0]), 1.0)]
    if rule == "color":
        kinds += [(*_color_bins(lab[..., channel], channel), 1 / 3) for channel in range(3)]
    counts = np.concatenate(
        [
            weight * np.bincount(flat * bins + index.ravel(), minlength=count * bins).reshape(count, bins)
            for index, bins, weight in kinds
        ],
        axis=1,
    )
    found = ndimage.find_objects(labels + 1)
    low = np.array([[side.start for side in sides] for sides in found], np.float64)
    high = np.array([[side.stop for side in sides] for sides in found], np.float64)

    def costs_of(first: int, others: np.ndarray) -> np.ndarray:
        mine, theirs = counts[first] / area[first], counts[others] / area[others, None]
        box = (np.maximum(high[first], high[others]) - np.minimum(low[first], low[others])).prod(1)
        return mine.sum() - np.minimum(mine, theirs).sum(1) + box / labels.size

    def unite(first: int, second: int) -> None:
        counts[first] += counts[second]
        area[first] += area[second]
        low[first], high[first] = np.minimum(low[first], low[second]), np.maximum(high[first], high[second])

    return costs_of, unite


def _border_costs(labels: np.ndarray, lab: np.ndarray) -> _Costs:
    """Rule "edge"."""
    gradient, count = _gradient(lab), int(labels.max()) + 1
    area = np.bincount(labels.ravel()).astype(np.float64)
    steepness, length = np.zeros((count, count)), np.zeros((count, count))  # along common borders, symmetric
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        border = labels[here] != labels[there]
        ends = labels[here][border], labels[there][border]
        for pair in (ends, ends[::-1]):
            np.add.at(steepness, pair, np.maximum(gradient[here], gradient[there])[border])
            np.add.at(length, pair, 1)

    def costs_of(first: int, others: np.ndarray) -> np.ndarray:
        return (
            steepness[first, others] / length[first, others] * np.minimum(area[first], area[others]) ** 0.25
        )

    def unite(first: int, second: int) -> None:
        area[first] += area[second]
        for sums in (steepness, length):
            sums[first] += sums[second]
            sums[:, first] = sums[first]

    return costs_of, unite


def _gradient(lab: np.ndarray) -> np.ndarray:
    """Length of the color gradient after slight smoothing, CIELAB units per pixel: [H, W, 3] -> [H, W]."""
    steps = [_steps(lab[..., channel]) for channel in range(3)]
    return np.sqrt(sum(down**2 + right**2 for down, right in steps))


def _steps(channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Change of one channel per pixel downwards and to the right, after slight smoothing: float64 [H, W]."""
    smooth = ndimage.gaussian_filter(channel, 0.8)
    return ndimage.sobel(smooth, 0) / 8, ndimage.sobel(smooth, 1) / 8


def _color_bins(values: np.ndarray, channel: int) -> tuple[np.ndarray, int]:
    """Twelve bins over 0..100 (lightness) or -50..50 (a and b): bins int [H, W], and 12."""
    low = 0 if channel == 0 else -50
    return ((values - low) * 0.12).astype(np.intp).clip(0, 11), 12


def _texture_bins(lightness: np.ndarray) -> tuple[np.ndarray, int]:
    """Six directions by five strengths (powers of two) of the lightness gradient: bins int [H, W], and 30."""
    down, right = _steps(lightness)
    direction = (np.arctan2(down, right) % np.pi / np.pi * 6).astype(np.intp).clip(0, 5)
    strength = np.log2(1 + 2 * np.hypot(down, right)).astype(np.intp).clip(0, 4)
    return direction * 5 + strength, 30
