"""Regions of like colour: Felzenszwalb superpixels at a few scales, merged step by step into larger ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from skimage.color import rgb2lab
from skimage.segmentation import felzenszwalb

from moca_avs.proposals.base import distinct, on_small_copy

SIDE = 256  # pixels: Felzenszwalb takes 0.1 s per scale here and 0.25 s at 384


class SuperpixelProposer:
    """Superpixels and what they grow into when the most alike neighbours are merged, again and again.

    Args:
        scales: of `skimage.segmentation.felzenszwalb`; larger gives larger regions.
        min_share: smallest region kept, as a share of the picture.
        max_share: largest region kept.
        limit: most proposals per frame.
    """

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
        return on_small_copy(frame, self._propose, SIDE)

    def _propose(self, frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        smallest = max(1, round(self.min_share * height * width))
        lab = rgb2lab(frame)
        shares, masks = [], []
        for scale in self.scales:
            labels = felzenszwalb(frame, scale=scale, sigma=0.8, min_size=smallest, channel_axis=-1)
            members = _merged(labels, lab)
            share = members @ np.bincount(labels.ravel()) / (height * width)
            kept = (share >= self.min_share) & (share <= self.max_share)
            shares.append(share[kept])
            masks.append(members[kept][:, labels])
        order = np.argsort(-np.concatenate(shares), kind="stable")
        return distinct(np.concatenate(masks)[order])[: self.limit]


def merge_hierarchy(labels: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Merge the two most alike neighbouring regions until one is left; every region on the way counts.

    Alike: small distance of mean colours (CIELAB), weighed by the smaller region's size (Ward's rule on
    sqrt-areas), so that crumbs go first.

    Args:
        labels: int [H, W], 0..S-1, every number used.
        frame: uint8 [H, W, 3].

    Returns:
        bool [R, S]: the superpixels of each region, R = 2S - 1 where the picture is connected.
    """
    return _merged(labels, rgb2lab(frame))


def _merged(labels: np.ndarray, lab: np.ndarray) -> np.ndarray:
    """`merge_hierarchy` of a picture that is in CIELAB already, float [H, W, 3]."""
    count = int(labels.max()) + 1
    area = np.bincount(labels.ravel(), minlength=count).astype(np.float64)
    sums = np.stack([np.bincount(labels.ravel(), lab[..., c].ravel(), count) for c in range(3)], 1)
    members = np.eye(count, dtype=bool)
    touching = _neighbours(labels, count)
    regions = [members.copy()]
    for _ in range(count - 1):
        first, second = _most_alike(sums, area, touching)
        members[first] |= members[second]
        sums[first] += sums[second]
        area[first] += area[second]
        touching[first] |= touching[second]
        touching[:, first] |= touching[:, second]
        touching[second], touching[:, second], touching[first, first] = False, False, False
        regions.append(members[first : first + 1].copy())
    return np.concatenate(regions)


def _neighbours(labels: np.ndarray, count: int) -> np.ndarray:
    """Which regions share an edge: bool [S, S], symmetric."""
    touching = np.zeros((count, count), bool)
    for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        touching[a, b] = touching[b, a] = True
    np.fill_diagonal(touching, False)
    return touching


def _most_alike(sums: np.ndarray, area: np.ndarray, touching: np.ndarray) -> tuple[int, int]:
    """The pair of touching regions that merges at the least cost."""
    first, second = np.nonzero(np.triu(touching))
    mean = sums / area[:, None]
    gap = np.linalg.norm(mean[first] - mean[second], axis=1)
    size = np.sqrt(np.minimum(area[first], area[second]))
    best = int(np.argmin(gap * size))
    return int(first[best]), int(second[best])
