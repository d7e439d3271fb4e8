"""Does the method hear? Scores over the objects of a composite scene, and over silent seconds."""

from __future__ import annotations

import numpy as np

from moca_avs.errors import UsageError
from moca_avs_bench.metrics.region import nonempty


def upsample(maps: np.ndarray, height: int, width: int, align_corners: bool = False) -> np.ndarray:
    """Bilinear, as torch's ``interpolate``, but rounded once: what is flat stays flat, and ties are ties.

    Args:
        maps: float [T, h, w].
        height: rows of the result.
        width: columns of the result.
        align_corners: whether the outermost pixels' centers coincide; else half-pixel centers.

    Returns:
        float32 [T, height, width].
    """
    rows = _weights(maps.shape[1], height, align_corners)
    columns = _weights(maps.shape[2], width, align_corners)
    return (rows @ maps.astype(np.float64) @ columns.T).astype(np.float32)


def object_accuracy(heat: np.ndarray, masks: np.ndarray, sounding: np.ndarray) -> np.ndarray:
    """Share of (sounding, silent) pairs with more heat inside the sounding object.

    Heat is upsampled to the masks' size and averaged over an object's visible pixels; a tie counts one half,
    so a map that doesn't hear scores one half on average. Objects without a visible pixel are left out.

    Args:
        heat: float [T, h, w].
        masks: bool [K, T, H, W], the visible pixels of each object.
        sounding: bool [K, T], whether it is heard at each frame.

    Returns:
        float64 [T] in [0, 1]; NaN where a frame lacks a sounding or a silent object.

    Raises:
        UsageError: on shapes that don't fit together.
    """
    inside = heat_inside(heat, masks)
    if sounding.shape != inside.shape:
        raise UsageError(f"sounding must be [objects, frames] {inside.shape}, found {sounding.shape}")
    seen = ~np.isnan(inside)
    scores = np.full(inside.shape[1], np.nan)
    for t in range(len(scores)):
        loud, quiet = inside[seen[:, t] & sounding[:, t], t], inside[seen[:, t] & ~sounding[:, t], t]
        if len(loud) and len(quiet):
            gap = loud[:, None] - quiet[None, :]
            scores[t] = np.mean(np.where(gap == 0, 0.5, gap > 0))
    return scores


def swap_accuracy(
    heat: np.ndarray,
    swapped_heat: np.ndarray,
    masks: np.ndarray,
    sounding: np.ndarray,
    swapped_masks: np.ndarray,
) -> np.ndarray:
    """Share of pairs ranked rightly under both sounds of one image.

    A pair is a sounding object and the object that the swapped sound belongs to: the first must have more
    heat under the clip's own sound, the second under the swapped sound. A tie is wrong, so everything that
    doesn't hear scores exactly 0.

    Args:
        heat: float [T, h, w], under the clip's own sound.
        swapped_heat: float [T, h, w], under the swapped sound.
        masks: bool [K, T, H, W], the visible pixels of each object.
        sounding: bool [K, T], whether it is heard in the clip at each frame.
        swapped_masks: bool [T, H, W], pixels of the object heard under the swapped sound.

    Returns:
        float64 [T] in [0, 1]; NaN where a frame has no such pair (that object hidden or already sounding,
        or no other sounding object).

    Raises:
        UsageError: on shapes that don't fit together.
    """
    both = np.concatenate([masks, swapped_masks[None]])
    own, swapped = heat_inside(heat, both), heat_inside(swapped_heat, both)
    heard = (masks & sounding[:, :, None, None]).any(0)
    already = nonempty(heard & swapped_masks)  # visible masks don't overlap: it is heard in the clip too
    with np.errstate(invalid="ignore"):  # hidden objects have NaN heat
        right = (own[:-1] > own[-1]) & (swapped[:-1] < swapped[-1])
    pairs = sounding & ~np.isnan(own[:-1]) & ~np.isnan(own[-1]) & ~already
    count = pairs.sum(0)
    return np.divide((right & pairs).sum(0), count, out=np.full(len(count), np.nan), where=count > 0)


def heat_inside(heat: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean heat over each object's visible pixels.

    Args:
        heat: float [T, h, w], upsampled bilinearly.
        masks: bool [K, T, H, W].

    Returns:
        float64 [K, T]; NaN where an object has no visible pixel.

    Raises:
        UsageError: on shapes that don't fit together.
    """
    if heat.ndim != 3 or masks.ndim != 4 or masks.shape[1] != len(heat) or masks.dtype != bool:
        raise UsageError(
            "heat must be [T, h, w] and masks bool [K, T, H, W] of as many frames; "
            f"found {list(heat.shape)} and {masks.dtype} {list(masks.shape)}"
        )
    full = upsample(heat, *masks.shape[2:])
    return np.array([_means(full, mask) for mask in masks]).reshape(masks.shape[:2])


def silent_accuracy(masks: np.ndarray, truth: np.ndarray) -> float:
    """Share of frames with an empty truth whose mask is empty too; NaN where there is no such frame.

    Args:
        masks: bool [T, H, W].
        truth: bool [T, H, W].
    """
    return _share(~nonempty(masks), ~nonempty(truth))


def false_silence_rate(masks: np.ndarray, truth: np.ndarray) -> float:
    """Share of frames with a truth whose mask is empty; NaN where there is no such frame.

    Args:
        masks: bool [T, H, W].
        truth: bool [T, H, W].
    """
    return _share(~nonempty(masks), nonempty(truth))


def _share(hits: np.ndarray, among: np.ndarray) -> float:
    return float(hits[among].mean()) if among.any() else float("nan")


def _means(maps: np.ndarray, mask: np.ndarray) -> list[float]:
    """Per frame the mean of a map inside a mask, NaN where the mask is empty."""
    return [
        float(m[k].mean(dtype=np.float64)) if k.any() else np.nan for m, k in zip(maps, mask, strict=True)
    ]


def _weights(size: int, target: int, align_corners: bool) -> np.ndarray:
    """Interpolation matrix float64 [target, size]: each row holds two weights that add up to 1."""
    if align_corners:
        center = np.arange(target) * ((size - 1) / max(target - 1, 1))
    else:
        center = np.clip((np.arange(target) + 0.5) * size / target - 0.5, 0, size - 1)
    low = np.minimum(center.astype(int), size - 1)
    high = np.minimum(low + 1, size - 1)
    weights = np.zeros((target, size))
    np.add.at(weights, (np.arange(target), low), 1 - (center - low))
    np.add.at(weights, (np.arange(target), high), center - low)
    return weights
