"""From cues to a mask: maps are brought to one scale and added up; the mask that they support best is chosen.

Beyond the paper (`moca_avs.methods.evidence_moca`). The numbers are fitted by `recipes/lite/fuse.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from scipy.special import expit
from torch.nn import functional as F

from moca_avs.proposals.masks import areas

SHIPPED = Path(__file__).parents[1] / "weights" / "fusion.json"
SIDE = 24
"""Positions along the longer side of the evidence."""
SMOOTHING = {"semantic": 0.12, "tags": 0.16, "synchrony": 0.2}
"""Standard deviations, as shares of the longer side, over which what hears is averaged: it says which thing
sounds, coarsely; where the thing ends is said by the other cues and by the proposals."""
STANDARDIZED = ("semantic", "tags", "motion")
"""Cues on a scale of their own, which are brought to mean 0 and standard deviation 1 over each frame."""
SPREAD = 1.3
"""Standard deviation over a frame of the log-odds of all cues: median of real clips, duets and composites."""
FLAT = 0.01
"""A standard deviation below which the evidence tells no position from another."""
PARTS = 5
"""Proposals that a mask is merged from at most."""


@dataclass(frozen=True)
class Fusion:
    """The numbers of the fusion.

    Attributes:
        weights: cue -> weight of its standardized map in the log-odds that a position sounds.
        bias: log-odds where all maps are 0.
        extent: weight that objectness at its own resolution gets on top where a mask is chosen.
        offset: log-odds that the most likely position belongs to the mask.
        confidence: (slope, bias) from a mask's expected IoU, as log-odds, to the log-odds that it is right.
    """

    weights: Mapping[str, float]
    bias: float
    extent: float
    offset: float
    confidence: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fusion:
        """The inverse of `to_dict`."""
        return cls(**{**values, "confidence": tuple(values["confidence"])})


@cache
def shipped_fusion() -> Fusion:
    """The numbers that ship."""
    return Fusion.from_dict(json.loads(SHIPPED.read_text(encoding="utf-8")))


def evidence_grid(size: tuple[int, int]) -> tuple[int, int]:
    """Positions (h, w) of the evidence of (H, W) pixels: `SIDE` along the longer side, at least 4."""
    scale = SIDE / max(size)
    height, width = (max(4, round(side * scale)) for side in size)
    return height, width


def standardize(name: str, values: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """A cue's map float [h, w] on the grid: float32, averaged by `SMOOTHING`, scaled if in `STANDARDIZED`."""
    resized = resize(values, grid)
    if name in SMOOTHING:
        resized = ndimage.gaussian_filter(resized, SMOOTHING[name] * max(grid), mode="nearest")
    if name in STANDARDIZED:
        resized = resized - resized.mean()
        spread = float(resized.std())
        return resized / spread if spread > 1e-6 else np.zeros_like(resized)
    return resized


def fuse(maps: Mapping[str, np.ndarray], fusion: Fusion) -> np.ndarray:
    """Log-odds that a position belongs to what sounds: float32 [h, w], the weighted sum of standardized maps.

    Args:
        maps: cue -> float32 [h, w] by `standardize`, all on one grid; at least one.
        fusion: the weights.
    """
    total = sum(fusion.weights.get(name, 0.0) * values for name, values in maps.items())
    return np.asarray(total + fusion.bias, np.float32)


def spread_out(log_odds: np.ndarray) -> np.ndarray:
    """Evidence float32 [h, w] that varies as much as that of all cues (`SPREAD`), around the same mean.

    A few cues alone vary less than all together, which the numbers were fitted for: then every position would
    be near the highest, and the mask the whole frame. Evidence that varies more, or nowhere, stays.
    """
    spread = float(log_odds.std())
    if not FLAT <= spread < SPREAD:
        return log_odds
    mean = log_odds.mean()
    return np.asarray(mean + SPREAD / spread * (log_odds - mean), np.float32)


def supported(
    log_odds: np.ndarray, objectness: np.ndarray | None, size: tuple[int, ...], fusion: Fusion
) -> np.ndarray:
    """Which pixels belong to the mask, against the most likely one: float32 [H, W] in (0, 1).

    The evidence says which thing sounds better than how large it is: so a pixel counts by how far it is below
    the highest (the 98th percentile: a single pixel does not decide). Objectness, whose map is finer, has a
    say in where the thing ends, but only near the highest: other things that stand out are not what sounds.

    Args:
        log_odds: float32 [h, w], by `fuse`.
        objectness: float32 [h', w'] in [0, 1]; None: there is none.
        size: (H, W).
        fusion: `extent` and `offset` count.
    """
    below = _below_peak(resize(log_odds, size))
    if objectness is not None:
        near = expit(2 * (below + fusion.offset))
        below = _below_peak(below + fusion.extent * resize(objectness, size) * near)
    support: np.ndarray = expit(below + fusion.offset)
    return support.astype(np.float32)


def _below_peak(log_odds: np.ndarray) -> np.ndarray:
    lower: np.ndarray = log_odds - np.quantile(log_odds, 0.98)
    return lower


def resize(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """float32 [h, w] -> [H, W], bilinear; antialiased where it gets smaller."""
    tensor = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]
    resized: np.ndarray = F.interpolate(tensor, size, mode="bilinear", align_corners=False, antialias=True)[
        0, 0
    ].numpy()
    return resized


def expected_iou(support: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Expected overlap over expected union of masks bool [P, H, W] with what float [H, W] supports: [P]."""
    inside = masks.reshape(len(masks), -1).astype(np.float32) @ support.ravel()
    return np.asarray(inside / np.maximum(support.sum() + areas(masks) - inside, 1e-6), np.float64)


def choose_masks(support: np.ndarray, proposals: np.ndarray) -> tuple[np.ndarray, float]:
    """The proposals whose union is supported best: the best one, then what raises the expected IoU most.

    Where no proposal fits half as well as the region of the evidence itself, that region is taken.

    Args:
        support: float32 [H, W] in [0, 1], by `supported`.
        proposals: bool [P, H, W].

    Returns:
        (the chosen masks, bool [S, H, W] with S >= 1; the expected IoU of their union, in [0, 1])
    """
    region, bound = best_level(support)
    if not len(proposals):
        return region[None], bound
    chosen: list[int] = []
    union, best = np.zeros_like(region), 0.0
    while len(chosen) < PARTS:
        found = expected_iou(support, proposals | union)
        index = int(found.argmax())
        if found[index] <= best + 1e-3:
            break
        chosen, union, best = [*chosen, index], union | proposals[index], float(found[index])
    return (proposals[chosen], best) if best >= bound / 2 else (region[None], bound)


def best_level(support: np.ndarray) -> tuple[np.ndarray, float]:
    """The level set with the highest expected IoU, which no other set of pixels exceeds, and that IoU."""
    ordered = np.sort(support, axis=None)[::-1]
    inside = np.cumsum(ordered, dtype=np.float64)
    iou = inside / (inside[-1] + np.arange(1, len(ordered) + 1) - inside)
    best = int(iou.argmax())
    return support >= ordered[best], float(iou[best])


def confidence(expected: float, fusion: Fusion) -> float:
    """Probability that a mask of this expected IoU overlaps the truth by more than half."""
    clipped = min(max(expected, 1e-3), 1 - 1e-3)
    slope, bias = fusion.confidence
    return float(expit(slope * np.log(clipped / (1 - clipped)) + bias))
