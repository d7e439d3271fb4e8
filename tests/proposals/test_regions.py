"""Regions: merging against the plain definition, pixel by pixel; properties of every frame's proposals."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.color import rgb2lab

from moca_avs.proposals import build_proposer
from moca_avs.proposals.base import CachedProposer, JoinedProposer
from moca_avs.proposals.masks import pairwise_iou
from moca_avs.proposals.regions import RULES, RegionProposer, merge_regions, watershed_superpixels


def image(height, width, seed):
    """Soft blotches of many sizes with grain."""
    rng = np.random.default_rng(seed)
    layers = [ndimage.gaussian_filter(rng.normal(size=(height, width, 3)), (s, s, 0)) * s for s in (2, 6, 15)]
    return (sum(layers) * 60 + 128 + rng.normal(0, 4, (height, width, 3))).clip(0, 255).astype(np.uint8)


def scene(height, width):
    """A striped ball and a blue box on grass."""
    y, x = np.mgrid[:height, :width] * (120 / height)
    frame = np.full((height, width, 3), (70, 140, 60), np.float64)
    ball = (y - 45) ** 2 + (x - 45) ** 2 < 28**2
    box = (y > 60) & (y < 105) & (x > 95) & (x < 145)
    frame[ball], frame[box] = (230, 60, 50), (40, 60, 200)
    frame[ball & (x // 8 % 2 < 1)] = (240, 220, 90)
    frame += np.random.default_rng(0).normal(0, 3, frame.shape)
    return frame.clip(0, 255).astype(np.uint8), np.stack([ball, box])


def steepness(channel):
    """Gradient of one channel by differences of its smoothed neighbors: down and right, float [H, W]."""
    smooth = np.pad(ndimage.gaussian_filter(channel, 0.8), 1, mode="symmetric")
    rows = smooth[2:] - smooth[:-2]
    columns = smooth[:, 2:] - smooth[:, :-2]
    down = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 8
    return down, (columns[:-2] + 2 * columns[1:-1] + columns[2:]) / 8


def slow_cost(a, b, lab, rule):
    """The cost of merging two regions, from their pixels: bool [H, W] each."""
    gradients = [steepness(lab[..., channel]) for channel in range(3)]
    if rule == "edge":
        strength = np.sqrt(sum(down**2 + right**2 for down, right in gradients))
        around = [(y + v, x + u) for y, x in np.argwhere(a) for v, u in ((0, 1), (1, 0), (0, -1), (-1, 0))]
        here = np.repeat(strength[a], 4)
        inner = np.pad(b, 1)
        steps = [
            max(at, strength[o]) for at, o in zip(here, around, strict=True) if inner[o[0] + 1, o[1] + 1]
        ]
        return np.mean(steps) * min(a.sum(), b.sum()) ** 0.25
    down, right = gradients[0]
    angle = (np.degrees(np.arctan2(down, right)) % 180) // 30
    level = np.minimum(np.floor(np.log2(1 + 2 * np.sqrt(down**2 + right**2))), 4)
    kinds = [(np.minimum(angle, 5) * 5 + level, 1)]
    if rule == "color":
        kinds.append((np.clip(np.floor(lab[..., 0] * 12 / 100), 0, 11), 1 / 3))
        kinds += [(np.clip(np.floor((lab[..., c] + 50) * 12 / 100), 0, 11), 1 / 3) for c in (1, 2)]
    cost = 0
    for index, weight in kinds:
        for value in np.unique(index):
            cost += weight * max((index[a] == value).mean() - (index[b] == value).mean(), 0)
    rows, columns = np.nonzero(a | b)
    return cost + np.ptp([rows.min(), rows.max() + 1]) * np.ptp([columns.min(), columns.max() + 1]) / a.size


def slow_merging(labels, lab, rule):
    """All pairs' costs anew, from pixels, for every merge."""
    masks = {index: labels == index for index in range(labels.max() + 1)}
    found = [mask.copy() for mask in masks.values()]
    while len(masks) > 1:
        costs = {}
        for i in masks:
            grown = ndimage.binary_dilation(masks[i])
            for j in masks:
                if i < j and (grown & masks[j]).any():
                    costs[i, j] = slow_cost(masks[i], masks[j], lab, rule)
        i, j = min(costs, key=lambda pair: (costs[pair], pair))
        masks[i] = masks[i] | masks.pop(j)
        found.append(masks[i].copy())
    return np.array(found)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_merging_as_the_plain_definition(rule, seed):
    lab = rgb2lab(image(32, 44, seed))
    labels = watershed_superpixels(lab, 16)
    regions = merge_regions(labels, lab, rule)
    assert len(regions) == 2 * (labels.max() + 1) - 1 > 20
    assert np.array_equal(regions[:, labels], slow_merging(labels, lab, rule))


@pytest.mark.parametrize(("size", "count"), [((90, 160), 150), ((31, 17), 12), ((4, 5), 150), ((1, 1), 9)])
def test_superpixels_are_connected_and_numbered_without_gaps(size, count):
    lab = rgb2lab(image(*size, 0))
    labels = watershed_superpixels(lab, count)
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert all(ndimage.label(labels == index)[1] == 1 for index in range(labels.max() + 1))
    assert labels.max() + 1 <= min(2 * count, labels.size)
    assert labels.max() + 1 >= min(count, labels.size) // 2


def test_superpixels_follow_a_border():
    frame = np.full((60, 80, 3), 90, np.uint8)
    frame[:, 37:] = (200, 90, 60)
    labels = watershed_superpixels(rgb2lab(frame), 48)
    assert not set(labels[:, :36].ravel()) & set(labels[:, 38:].ravel())


@pytest.mark.parametrize("size", [(120, 160), (360, 480)])
def test_things_of_one_color_and_of_several_are_found(size):
    frame, things = scene(*size)
    proposals = RegionProposer()(frame)
    assert proposals.dtype == bool
    assert proposals.shape[1:] == size
    assert (pairwise_iou(things, proposals).max(1) > 0.8).all()


def test_proposals_are_few_varied_and_start_with_the_whole_frame():
    frame = image(216, 384, 3)
    proposer = RegionProposer()
    proposals = proposer(frame)
    share = proposals.mean((1, 2))
    assert proposals[0].all()
    assert 20 < len(proposals) <= 60
    assert (np.diff(share) < 0.01).all()  # largest first, but for what enlarging rounds
    overlap = pairwise_iou(proposals, proposals) - np.eye(len(proposals))
    assert overlap.max() < 0.75  # .7 on the small image
    assert np.array_equal(proposer(frame), proposals)
    assert np.array_equal(RegionProposer(limit=7)(frame), proposals[:7])
    assert RegionProposer(min_share=0.1)(frame).mean((1, 2)).min() > 0.09


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (3, 2), (300, 4), (257, 1)])
@pytest.mark.parametrize("value", [None, 0, 255])
def test_odd_sizes_and_flat_frames(size, value):
    frame = image(*size, 0) if value is None else np.full((*size, 3), value, np.uint8)
    proposals = RegionProposer()(frame)
    assert proposals.shape[1:] == size
    assert proposals[0].all()
    assert proposals.any((1, 2)).all()


class Rows:
    """Single rows of the frame as proposals, the settings of something that knows no limit."""

    settings = {"name": "rows"}  # noqa: RUF012

    def __call__(self, frame):
        masks = np.zeros((frame.shape[0], *frame.shape[:2]), bool)
        masks[np.arange(len(masks)), np.arange(len(masks))] = True
        return masks


def test_joined_with_others_no_more_than_the_limit_come_out_the_first_asked_stay():
    frame = image(40, 60, 0)
    regions = RegionProposer()
    joined = JoinedProposer([Rows(), CachedProposer(regions)])
    proposals = joined(frame)
    assert len(proposals) == joined.limit == joined.settings["limit"] == 60
    assert np.array_equal(proposals[:40], Rows()(frame))
    assert proposals[40].all()
    unlimited = JoinedProposer([Rows(), Rows()])
    assert (unlimited.limit, "limit" in unlimited.settings) == (None, False)
    assert build_proposer("regions").settings == regions.settings
