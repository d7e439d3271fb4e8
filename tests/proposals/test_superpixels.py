"""Superpixels and their merging against the plain definition, pixel by pixel, bit by bit."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.segmentation import felzenszwalb

from moca_avs.proposals.masks import downscale, resize_mask
from moca_avs.proposals.superpixels import SIDE, SuperpixelProposer, merge_hierarchy


def image(height, width, seed):
    """Soft blotches of many sizes with grain, or flat patches where many costs tie."""
    rng = np.random.default_rng(seed)
    if seed % 3 == 2:
        patches = rng.integers(0, 3, (-(-height // 12), -(-width // 12), 3)) * 100
        return patches.repeat(12, 0).repeat(12, 1)[:height, :width].astype(np.uint8)
    layers = [ndimage.gaussian_filter(rng.normal(size=(height, width, 3)), (s, s, 0)) * s for s in (2, 6, 15)]
    frame = sum(layers) * 60 + 128 + rng.normal(0, 4, (height, width, 3))
    return frame.clip(0, 255).astype(np.uint8)


def slow_merging(labels, frame):
    """All pairs' costs anew for every merge; of equal costs the first pair wins."""
    lab, count = rgb2lab(frame), int(labels.max()) + 1
    sums = np.stack([np.bincount(labels.ravel(), lab[..., c].ravel(), count) for c in range(3)], 1)
    area = np.bincount(labels.ravel()).astype(float)
    touching = np.zeros((count, count), bool)
    for y, x in np.ndindex(labels.shape):
        for other in labels[y + 1 : y + 2, x].tolist() + labels[y, x + 1 : x + 2].tolist():
            touching[labels[y, x], other] = touching[other, labels[y, x]] = other != labels[y, x]
    members = np.eye(count, dtype=bool)
    regions = list(members.copy())
    for _ in range(count - 1):
        pairs = np.argwhere(np.triu(touching))
        mean = sums / area[:, None]
        gap = np.linalg.norm(mean[pairs[:, 0]] - mean[pairs[:, 1]], axis=1)
        a, b = pairs[(gap * np.sqrt(area[pairs].min(1))).argmin()]
        members[a] |= members[b]
        sums[a] += sums[b]
        area[a] += area[b]
        touching[a] |= touching[b]
        touching[:, a] |= touching[:, b]
        touching[b] = touching[:, b] = touching[a, a] = False
        regions.append(members[a].copy())
    return np.array(regions)


def slow_proposals(proposer, frame):
    """Every region painted, sorted, compared with each before it, then resized."""
    small = downscale(frame, SIDE)
    pixels = small.shape[0] * small.shape[1]
    masks = []
    for scale in proposer.scales:
        least = max(1, round(proposer.min_share * small.shape[0] * small.shape[1]))
        labels = felzenszwalb(small, scale=scale, sigma=0.8, min_size=least, channel_axis=-1)
        masks += [np.isin(labels, np.flatnonzero(region)) for region in slow_merging(labels, small)]
    masks = [m for m in masks if proposer.min_share <= np.count_nonzero(m) / pixels <= proposer.max_share]
    kept = []
    for mask in sorted(masks, key=lambda m: -np.count_nonzero(m)):
        if all(np.count_nonzero(mask & other) / np.count_nonzero(mask | other) <= 0.9 for other in kept):
            kept.append(mask)
    resized = [resize_mask(mask, frame.shape[:2]) for mask in kept[: proposer.limit]]
    return np.array(resized, bool).reshape(-1, *frame.shape[:2])


@pytest.mark.parametrize("seed", range(6))
def test_proposals_as_the_plain_definition(seed):
    frame = image(72, 96, seed)
    proposer = SuperpixelProposer()
    expected = slow_proposals(proposer, frame)
    assert len(expected) > 3
    assert np.array_equal(proposer(frame), expected)


@pytest.mark.parametrize("scales", [(60.0,), (30.0, 100.0, 300.0)])
def test_other_settings_on_a_larger_frame(scales):
    frame = image(240, 320, 1)
    proposer = SuperpixelProposer(scales, min_share=0.01, max_share=0.4, limit=20)
    expected = slow_proposals(proposer, frame)
    assert expected.shape == (20, 240, 320)
    assert np.array_equal(proposer(frame), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (3, 2), (300, 4), (257, 1)])
def test_odd_sizes_as_the_plain_definition(size):
    frame = image(*size, 0)
    assert np.array_equal(SuperpixelProposer()(frame), slow_proposals(SuperpixelProposer(), frame))


@pytest.mark.parametrize("seed", range(6))
def test_merging_as_the_plain_definition(seed):
    frame = image(40, 60, seed)
    labels = felzenszwalb(frame, scale=50, sigma=0.8, min_size=5, channel_axis=-1)
    regions = merge_hierarchy(labels, frame)
    assert len(regions) == 2 * (labels.max() + 1) - 1 > 9
    assert np.array_equal(regions, slow_merging(labels, frame))


def test_of_equal_costs_the_first_pair_merges():
    labels = np.arange(12).reshape(3, 4).repeat(4, 0).repeat(4, 1)
    chequered = ((labels + labels // 4) % 2 * 200).astype(np.uint8)
    for gray in (np.zeros_like(chequered), chequered):
        frame = gray[..., None].repeat(3, 2)
        assert np.array_equal(merge_hierarchy(labels, frame), slow_merging(labels, frame))
