"""Regions of like color: Felzenszwalb superpixels at a few scales, merged step by step into larger ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from skimage.color import rgb2lab
from skimage.segmentation import felzenszwalb

from moca_avs.proposals.masks import downscale, enlarge_packed, pack_masks, unpack_masks

SIDE = 256  # pixels: Felzenszwalb takes 0.1 s per scale here and 0.25 s at 384


class SuperpixelProposer:
    """Superpixels and what they grow into when the most alike neighbours are merged, again and again.

    Args:
        scales: of `skimage.segmentation.felzenszwalb`; larger gives larger regions.
        min_share: smallest region kept, as a share of the image.
        max_share: largest region kept.
        limit: most proposals per frame.
    """

    parallel = True

    def __init__(
        self,
        scales: tuple[float, ...] = (100.0, 300.0),
        min_share: float = 0.004,
        max_share: float = 0.6,
        limit: int = 80,
    ) -> None:
        self.scales = scales
        self.min_share = min_share
        self.max_share = max_share
        self.limit = limit
        self.settings: dict[str, Any] = {
            "name": "superpixels",
            "scales": list(scales),
            "min_share": min_share,
            "max_share": max_share,
            "limit": limit,
        }

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> bool [P, H, W], largest first."""
        regions, atoms = self._regions(downscale(frame, SIDE))
        painted = np.take(pack_masks(regions), atoms, axis=1)
        return unpack_masks(enlarge_packed(painted, frame.shape[:2]), len(regions))

    def _regions(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Regions as sets of atoms, bool [P, A], largest first; the atom at each pixel, int [H, W]."""
        height, width = frame.shape[:2]
        smallest = max(1, round(self.min_share * height * width))
        labelings = [
            felzenszwalb(frame, scale=scale, sigma=0.8, min_size=smallest, channel_axis=-1)
            for scale in self.scales
        ]
        atoms, sample = _atoms(labelings)
        area = np.bincount(atoms.ravel()).astype(np.float64)
        lab = rgb2lab(frame)
        merged = [_merged(labels, lab)[:, labels.ravel()[sample]] for labels in labelings]
        regions = np.concatenate(merged)
        shared = shared_pixels(regions, area)
        share = shared.diagonal() / atoms.size
        order = np.argsort(-share, kind="stable")
        order = order[(share[order] >= self.min_share) & (share[order] <= self.max_share)]
        return regions[order][distinct_regions(shared[np.ix_(order, order)])][: self.limit], atoms


def _atoms(labelings: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The parts that no labeling (int [H, W], from 0) divides: int [H, W], 0..A-1; a pixel of each, int [A].

    Every region is a set of them, so areas and overlaps of regions are sums over few atoms, not many pixels.
    """
    atoms = labelings[0]
    for labels in labelings[1:]:
        pairs = atoms * (labels.max() + 1) + labels
        atoms = (np.cumsum(np.bincount(pairs.ravel()) > 0) - 1)[pairs]
    sample = np.empty(atoms.max() + 1, np.intp)
    sample[atoms.ravel()] = np.arange(atoms.size)
    return atoms, sample


def shared_pixels(regions: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Pixels that each two regions share: bool [P, A], pixels of each atom float64 [A] -> float64 [P, P]."""
    # By torch: numpy's own threads (OpenBLAS) would spin for milliseconds afterwards and take another's core.
    sets = torch.from_numpy(regions).double()
    return ((sets * torch.from_numpy(area)) @ sets.T).numpy()  # whole numbers, exact


def distinct_regions(shared: np.ndarray, max_iou: float = 0.9) -> np.ndarray:
    """Which regions `distinct` would keep, by the pixels that each two share: float64 [P, P] -> bool [P]."""
    size = shared.diagonal()
    alike = shared / np.maximum(size[:, None] + size - shared, 1) > max_iou
    kept = np.zeros(len(shared), bool)
    for index, rivals in enumerate(alike):
        kept[index] = not (rivals & kept).any()
    return kept


def merge_hierarchy(labels: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Merge the two most alike neighbouring regions until one is left; every region on the way counts.

    Alike: small distance of mean colors (CIELAB), weighed by the smaller region's size (Ward's rule on
    sqrt-areas), so that crumbs go first.

    Args:
        labels: int [H, W], 0..S-1, every number used.
        frame: uint8 [H, W, 3].

    Returns:
        bool [R, S]: the superpixels of each region, R = 2S - 1 where the image is connected.
    """
    return _merged(labels, rgb2lab(frame))


def _merged(labels: np.ndarray, lab: np.ndarray) -> np.ndarray:
    """`merge_hierarchy` of an image that is in CIELAB already, float [H, W, 3]."""
    count = int(labels.max()) + 1
    area = np.bincount(labels.ravel(), minlength=count).astype(np.float64)
    sums = np.stack([np.bincount(labels.ravel(), lab[..., c].ravel(), count) for c in range(3)], 1)
    mean = sums / area[:, None]

    def costs_of(first: int, others: np.ndarray) -> np.ndarray:
        gap = np.sqrt(((mean[others] - mean[first]) ** 2).sum(1))
        return gap * np.sqrt(np.minimum(area[others], area[first]))

    def unite(first: int, second: int) -> None:
        sums[first] += sums[second]
        area[first] += area[second]
        mean[first] = sums[first] / area[first]

    return merge_all(neighbors(labels, count), costs_of, unite)


def merge_all(
    touching: np.ndarray,
    costs_of: Callable[[int, np.ndarray], np.ndarray],
    unite: Callable[[int, int], None],
) -> np.ndarray:
    """Merge the two touching regions that cost least until one is left; every region on the way counts.

    Args:
        touching: bool [S, S], symmetric; changed in place.
        costs_of: (region, others int [n]) -> what merging it with each of them costs, float64 [n].
        unite: (first, second): told of each merge; from then on the first stands for both.

    Returns:
        bool [2S - 1, S]: the superpixels of each region. Of equal costs the first pair merges, by the lowest
        superpixel of each.
    """
    count = len(touching)
    costs = np.full((count, count), np.inf)  # finite for touching pairs, above the diagonal
    for first in range(count):
        others = np.flatnonzero(touching[first, first + 1 :]) + first + 1
        costs[first, others] = costs_of(first, others)
    regions = np.concatenate([np.eye(count, dtype=bool), np.empty((count - 1, count), bool)])
    current = np.arange(count)  # which of the regions a superpixel has become
    for new in range(count, len(regions)):
        first, second = divmod(int(costs.argmin()), count)
        regions[new] = regions[current[first]] | regions[current[second]]
        current[first] = new
        unite(first, second)
        touching[first] |= touching[second]
        touching[:, first] |= touching[:, second]
        touching[second], touching[:, second], touching[first, first] = False, False, False
        for gone in (first, second):
            costs[gone], costs[:, gone] = np.inf, np.inf
        near = np.flatnonzero(touching[first])
        costs[np.minimum(near, first), np.maximum(near, first)] = costs_of(first, near)
    return regions


def neighbors(labels: np.ndarray, count: int) -> np.ndarray:
    """Which regions share an edge: bool [S, S], symmetric."""
    touching = np.zeros((count, count), bool)
    for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        border = a != b
        touching[a[border], b[border]] = True
    return touching | touching.T
