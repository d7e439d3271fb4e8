"""MPM and its relatives against slow references written from the paper's sentence."""

import numpy as np
import pytest

from moca_avs.errors import UsageError
from moca_avs.model.proposal_matching import (
    best_proposal,
    connected_parts,
    heat_contrast,
    hottest_proposal,
    match_proposals,
)
from moca_avs.proposals.masks import pairwise_iou


def slow_iou(a, b):
    inter = sum(bool(x and y) for x, y in zip(a.ravel(), b.ravel(), strict=True))
    union = sum(bool(x or y) for x, y in zip(a.ravel(), b.ravel(), strict=True))
    return inter / union if union else 0.0


def slow_match(proposals, mask, min_iou, when_unmatched):
    """Keep the proposals with IoU above the threshold; their union."""
    out = np.zeros_like(mask)
    matched = False
    for proposal in proposals:
        if slow_iou(proposal, mask) > min_iou:
            matched = True
            for place in np.argwhere(proposal):
                out[tuple(place)] = True
    if not matched and when_unmatched == "cluster":
        return mask
    return out


def blobs(count, seed, shape=(12, 15)):
    """Random rectangles."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, *shape), bool)
    for mask in masks:
        y, x = rng.integers(0, shape[0] - 4), rng.integers(0, shape[1] - 4)
        mask[y : y + rng.integers(2, 9), x : x + rng.integers(2, 9)] = True
    return masks


def test_iou_of_every_pair():
    a, b = blobs(7, 0), blobs(5, 1)
    b[2] = False
    a[3] = False
    expected = [[slow_iou(x, y) for y in b] for x in a]
    np.testing.assert_allclose(pairwise_iou(a, b), expected)
    np.testing.assert_allclose(np.diag(pairwise_iou(blobs(7, 0), blobs(7, 0))), 1)
    assert pairwise_iou(a[:0], b).shape == (0, 5)


@pytest.mark.parametrize("when_unmatched", ["cluster", "empty"])
@pytest.mark.parametrize("min_iou", [0.1, 0.5, 0.9])
def test_mpm_equals_the_sentence(min_iou, when_unmatched):
    outcomes = set()
    for seed in range(40):
        proposals, mask = blobs(9, seed), blobs(1, 1000 + seed)[0]
        if seed % 4 == 0:
            proposals[5] = mask
        if seed % 4 == 1:
            proposals &= ~mask
        got = match_proposals(proposals, mask, min_iou, when_unmatched).any(0)
        assert np.array_equal(got, slow_match(proposals, mask, min_iou, when_unmatched))
        outcomes.add(max(slow_iou(p, mask) for p in proposals) > min_iou)
    assert outcomes == {True, False}


def test_an_iou_of_exactly_the_threshold_does_not_match():
    mask, half = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    mask[:2], half[:1] = True, True
    assert not match_proposals(half[None], mask, 0.5, "empty").any()
    assert np.array_equal(match_proposals(half[None], mask, 0.49, "empty"), half[None])


def test_without_proposals():
    mask, none = blobs(1, 0)[0], np.zeros((0, 12, 15), bool)
    assert np.array_equal(match_proposals(none, mask), mask[None])
    assert not match_proposals(none, mask, when_unmatched="empty").any()
    assert np.array_equal(best_proposal(none, mask), mask)
    assert np.array_equal(hottest_proposal(none, np.ones((12, 15)), mask), mask)


def test_the_best_one_proposal():
    for seed in range(30):
        proposals, mask = blobs(9, seed), blobs(1, 1000 + seed)[0]
        overlaps = [slow_iou(p, mask) for p in proposals]
        best = int(np.argmax(overlaps))
        expected = proposals[best] if overlaps[best] > 0.3 else mask
        assert np.array_equal(best_proposal(proposals, mask, 0.3), expected)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_heat_contrast_is_inside_minus_outside(power):
    heat = np.random.default_rng(0).standard_normal((12, 15)).astype(np.float32)
    proposals = blobs(8, 3)
    expected = [(heat[p].mean() - heat[~p].mean()) * (p.sum() / p.size) ** power for p in proposals]
    np.testing.assert_allclose(heat_contrast(proposals, heat, power), expected, rtol=1e-4, atol=1e-6)
    nothing = np.stack([np.zeros((12, 15), bool), np.ones((12, 15), bool)])
    assert heat_contrast(nothing, heat, power).tolist() == [0, 0]


def test_the_hottest_proposal():
    heat = np.full((12, 15), -0.2, np.float32)
    heat[2:6, 3:8] = 0.6
    right, part, large, wrong = np.zeros((4, 12, 15), bool)
    right[2:6, 3:8], part[2:4, 3:5], large[0:10, 0:12], wrong[8:, 9:] = True, True, True, True
    proposals = np.stack([wrong, large, part, right])
    assert np.array_equal(hottest_proposal(proposals, heat, wrong), right)
    assert np.array_equal(hottest_proposal(proposals[:1], heat, right), right)  # colder than the rest: keep


def test_an_unknown_rule_is_refused():
    with pytest.raises(UsageError, match="cluster, empty"):
        match_proposals(blobs(1, 0), blobs(1, 1)[0], when_unmatched="guess")


@pytest.mark.parametrize(("max_parts", "min_share"), [(1, 0.0), (2, 0.0), (9, 0.0), (9, 0.2), (3, 0.9)])
def test_parts_are_what_hangs_together(max_parts, min_share):
    seen = set()
    for seed in range(20):
        mask = blobs(3, seed).any(0)
        left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
        parts = []
        while left:  # flood
            part, border = set(), [left.pop()]
            while border:
                y, x = border.pop()
                part.add((y, x))
                near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
                left -= near
                border += near
            parts.append(part)
        sizes = sorted((len(part) for part in parts), reverse=True)
        kept = [size for size in sizes[:max_parts] if size >= min_share * sum(sizes)] or sizes[:1]
        found = connected_parts(mask, max_parts, min_share)
        if max_parts == 1:
            assert np.array_equal(found, mask[None])
            continue
        assert [int(part.sum()) for part in found] == kept
        assert all({(int(y), int(x)) for y, x in np.argwhere(part)} in parts for part in found)
        seen.add(len(found))
    assert max_parts == 1 or max(seen) > 1 or min_share > 0.5
    assert not connected_parts(np.zeros((4, 5), bool), max_parts).any()
