"""Choosing among proposals: by overlap with the cluster mask (the paper's MPM) or by the heat inside.

The paper (section 3.1, inference) keeps the proposals whose IoU with the cluster mask is above 0.5; the mask
is their union. It does not say what happens where none is.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from moca_avs.errors import UsageError
from moca_avs.proposals.masks import pairwise_iou

WHEN_UNMATCHED = ("cluster", "empty")


def match_proposals(
    proposals: np.ndarray, mask: np.ndarray, min_iou: float = 0.5, when_unmatched: str = "cluster"
) -> np.ndarray:
    """The paper's MPM: the proposals whose IoU with the mask is above `min_iou`; their union is the answer.

    Args:
        proposals: bool [P, H, W].
        mask: bool [H, W], the cluster mask.
        min_iou: strictly above counts.
        when_unmatched: "cluster" keeps the mask where no proposal matches; "empty" is the paper's text.

    Returns:
        bool [P, H, W]; the mask alone, or an empty one, where nothing matches.

    Raises:
        UsageError: if `when_unmatched` does not exist.
    """
    if when_unmatched not in WHEN_UNMATCHED:
        raise UsageError(
            f"when_unmatched must be one of {', '.join(WHEN_UNMATCHED)}, found {when_unmatched!r}"
        )
    matched = pairwise_iou(proposals, mask[None])[:, 0] > min_iou
    if matched.any():
        return proposals[matched]
    return mask[None] if when_unmatched == "cluster" else np.zeros_like(mask[None])


def best_proposal(proposals: np.ndarray, mask: np.ndarray, min_iou: float = 0.3) -> np.ndarray:
    """The one proposal with the highest IoU with the mask if that is above `min_iou`, else the mask."""
    if not len(proposals):
        return mask
    iou = pairwise_iou(proposals, mask[None])[:, 0]
    best = int(iou.argmax())
    return proposals[best] if iou[best] > min_iou else mask


def connected_parts(mask: np.ndarray, max_parts: int = 1, min_share: float = 0.0) -> np.ndarray:
    """The largest connected parts (8 neighbours) of a mask: several sources, several things to match.

    Args:
        mask: bool [H, W].
        max_parts: at most so many; 1 takes the whole mask as one.
        min_share: smaller parts are left out (the largest never is); share of the mask's area.

    Returns:
        bool [S, H, W], largest first, S >= 1.
    """
    if max_parts == 1 or not mask.any():
        return mask[None]
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")[:max_parts]
    large = [part for part in order if sizes[part] >= min_share * sizes.sum()] or order[:1]
    return np.stack([labels == part + 1 for part in large])


def heat_contrast(proposals: np.ndarray, heat: np.ndarray, area_power: float = 0.5) -> np.ndarray:
    """How much hotter each proposal is than the rest of the image, times its share of it to a power.

    Args:
        proposals: bool [P, H, W].
        heat: float [H, W], cosine with the sound.
        area_power: 0 looks at the contrast only; 0.5 favors larger things moderately.

    Returns:
        float64 [P]; 0 for an empty proposal and for one that fills the image.
    """
    pixels = heat.size
    flat = proposals.reshape(len(proposals), pixels).astype(np.float32)
    area = flat.sum(1, dtype=np.float64)
    centered = heat.astype(np.float64) - heat.mean(dtype=np.float64)
    inside = (flat @ centered.astype(np.float32).ravel()).astype(np.float64)
    # With the mean removed the rest sums to minus the inside: one product gives both means.
    contrast = inside / np.maximum(area, 1) + inside / np.maximum(pixels - area, 1)
    return np.where(area < pixels, contrast * (area / pixels) ** area_power, 0.0)


def hottest_proposal(
    proposals: np.ndarray, heat: np.ndarray, mask: np.ndarray, area_power: float = 0.5
) -> np.ndarray:
    """The proposal with the highest positive `heat_contrast`; `mask` where there is none."""
    if not len(proposals):
        return mask
    contrast = heat_contrast(proposals, heat, area_power)
    best = int(contrast.argmax())
    return proposals[best] if contrast[best] > 0 else mask
