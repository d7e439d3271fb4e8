"""Proposers on drawn images: things are found, sizes come back, equal frames are asked once."""

import numpy as np
import pytest

from moca_avs.errors import UsageError, WeightsError
from moca_avs.proposals import build_proposer
from moca_avs.proposals.base import CachedProposer, JoinedProposer
from moca_avs.proposals.masks import downscale, drop_duplicates, pairwise_iou, propose_downscaled, resize_mask
from moca_avs.proposals.saliency import SaliencyProposer, components
from moca_avs.proposals.superpixels import SuperpixelProposer, merge_hierarchy


def scene(height=120, width=160):
    """A two-colored ball and a blue box on grass; the ball's halves, the ball and the box are things."""
    rng = np.random.default_rng(0)
    frame = np.full((height, width, 3), (70, 140, 60), np.float64)
    y, x = np.mgrid[:height, :width] / (height / 120)
    ball = (y - 45) ** 2 + (x - 45) ** 2 < 28**2
    box = (y > 60) & (y < 105) & (x > 95) & (x < 145)
    frame[ball & (x < 45)], frame[ball & (x >= 45)], frame[box] = (230, 60, 50), (225, 95, 50), (40, 60, 200)
    frame += rng.normal(0, 3, frame.shape)
    things = np.stack([ball, box, ball & (x < 45)])
    return frame.clip(0, 255).astype(np.uint8), things


def test_superpixels_find_things_and_their_parts():
    frame, things = scene()
    proposer = SuperpixelProposer()
    proposals = proposer(frame)
    assert proposals.dtype == bool
    assert proposals.shape[1:] == frame.shape[:2]
    assert (pairwise_iou(things, proposals).max(1) > 0.85).all()
    share = proposals.mean((1, 2))
    assert (np.diff(share) <= 0).all()
    assert share.max() <= proposer.max_share
    assert len(SuperpixelProposer(limit=5)(frame)) == 5
    assert np.array_equal(proposer(frame), proposals)


def test_large_frames_are_seen_small_and_answered_large():
    frame, things = scene(600, 800)
    proposals = SuperpixelProposer()(frame)
    assert proposals.shape[1:] == (600, 800)
    assert (pairwise_iou(things[:2], proposals).max(1) > 0.85).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2), (900, 4)])
def test_odd_sizes(size):
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    assert SuperpixelProposer()(frame).shape[1:] == size


def test_merging_joins_the_most_alike_neighbours_first():
    labels = np.repeat([[0, 1, 2, 3]], 4, 0).repeat(3, 1)
    colors = np.array([(200, 0, 0), (190, 0, 0), (0, 0, 200), (0, 0, 180)], np.uint8)
    regions = merge_hierarchy(labels, colors[labels])
    found = {tuple(np.flatnonzero(region)) for region in regions}
    assert found == {(0,), (1,), (2,), (3,), (0, 1), (2, 3), (0, 1, 2, 3)}
    assert len(regions) == 7
    grays = np.array([200, 195, 180, 120], np.uint8)[labels][..., None].repeat(3, 2)
    merged = merge_hierarchy(labels, grays)  # the mean of what has merged counts, not its first part
    assert (0, 1, 2) in {tuple(np.flatnonzero(region)) for region in merged}


def test_components_are_connected_parts_and_their_union():
    salient = np.zeros((20, 20), np.float32)
    salient[2:6, 2:6], salient[2:6, 2:5], salient[10:18, 10:18], salient[0, 19] = 0.3, 0.9, 0.5, 0.5
    masks = components(salient, (0.15, 0.4, 0.7), 0.005)
    expected = [
        salient > 0.15,  # minus the speck
        (salient > 0.4) & (np.arange(20) > 9) & (salient < 0.6),
        (salient > 0.15) & (np.arange(20) < 9),
        salient > 0.7,
    ]
    expected[0][0, 19], expected[1][0, 19] = False, False
    areas = [int(mask.sum()) for mask in masks]
    assert areas == sorted(areas, reverse=True)
    for want in expected:
        assert any(np.array_equal(mask, want) for mask in masks)
    assert components(np.zeros((5, 5), np.float32), (0.15,), 0.01).shape == (0, 5, 5)


def test_near_equal_masks_are_dropped_the_first_stays():
    a = np.zeros((3, 10, 10), bool)
    a[0, :5], a[1, :5], a[2, 5:] = True, True, True
    a[1, 0, 0] = False
    assert np.array_equal(drop_duplicates(a), a[[0, 2]])
    assert np.array_equal(drop_duplicates(a, 0.99), a)
    assert drop_duplicates(a[:0]).shape == (0, 10, 10)


@pytest.mark.parametrize("max_iou", [0.0, 0.3, 0.5, 0.9])
def test_dropping_near_equal_masks_equals_looking_at_every_pair(max_iou):
    rng = np.random.default_rng(0)
    sides = rng.integers(1, 12, (60, 4))
    masks = np.zeros((60, 12, 12), bool)
    for mask, (top, left, height, width) in zip(masks, sides, strict=True):
        mask[top : top + height, left : left + width] = True
    overlap = pairwise_iou(masks, masks)
    kept = []
    for index in range(len(masks)):
        if not any(overlap[index, other] > max_iou for other in kept):
            kept.append(index)
    assert 2 < len(kept) < 60
    assert np.array_equal(drop_duplicates(masks, max_iou), masks[kept])


class Counting:
    """Says how often it was asked."""

    def __init__(self, masks):
        self.masks, self.asked, self.settings = masks, 0, {"name": "counting"}

    def __call__(self, frame):
        self.asked += 1
        return self.masks ^ bool(frame[0, 0, 0])


def test_equal_frames_are_asked_once():
    masks = np.random.default_rng(0).random((3, 5, 7)) > 0.5
    inner = Counting(masks)
    proposer = CachedProposer(inner, frames=2)
    dark, light, gray = (np.full((5, 7, 3), value, np.uint8) for value in (0, 255, 128))
    for frame in (light, dark, dark, light):
        assert np.array_equal(proposer(frame), masks ^ bool(frame[0, 0, 0]))
    assert inner.asked == 2
    proposer(gray)
    proposer(light)
    assert inner.asked == 3
    proposer(dark)  # was forgotten
    assert inner.asked == 4
    assert proposer.settings == {"name": "counting"}


def test_joined_proposers_answer_as_one():
    a = np.zeros((1, 4, 4), bool)
    a[0, :2] = True
    joined = JoinedProposer([Counting(a), Counting(np.concatenate([a, ~a]))])
    assert np.array_equal(joined(np.zeros((4, 4, 3), np.uint8)), np.concatenate([a, ~a]))
    assert [s["name"] for s in joined.settings["proposers"]] == ["counting", "counting"]


def test_shrinking_keeps_the_shape_and_masks_come_back():
    frame, things = scene(600, 800)
    assert downscale(frame, 400).shape == (300, 400, 3)
    assert downscale(frame, 800) is frame
    small = resize_mask(things[0], (150, 200))
    assert pairwise_iou(resize_mask(small, (600, 800))[None], things[:1]) > 0.97
    assert propose_downscaled(frame, lambda f: np.zeros((0, *f.shape[:2]), bool), 100).shape == (0, 600, 800)


def test_names():
    assert build_proposer("superpixels").settings["name"] == "superpixels"
    with pytest.raises(UsageError, match="saliency, superpixels"):
        build_proposer("superpixels+magic")


def test_a_damaged_network_is_named(tmp_path):
    path = tmp_path / "u2netp.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(WeightsError, match="not a readable ONNX network"):
        SaliencyProposer(path)


@pytest.mark.weights
def test_saliency_finds_the_things():
    frame, things = scene(384, 512)
    proposer = build_proposer("saliency")
    proposals = proposer(frame)
    assert proposals.shape[1:] == (384, 512)
    assert (pairwise_iou(things[:2], proposals).max(1) > 0.7).all()
    salient = proposer.saliency(frame)
    assert (salient.min(), salient.max()) == (0, 1)
    assert (proposer.saliency(np.zeros((9, 9, 3), np.uint8)) >= 0).all()
    for size in ((1, 1), (2, 700)):
        assert proposer(np.full((*size, 3), 200, np.uint8)).shape[1:] == size
