"""Fusion of cues against sums by hand; the chosen mask against a search over all of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from moca_avs.model.evidence import (
    STANDARDIZED,
    Fusion,
    best_level,
    choose_masks,
    confidence,
    evidence_grid,
    expected_iou,
    fuse,
    shipped_fusion,
    spread_out,
    standardize,
    supported,
)

FUSION = Fusion({"tags": 2.0, "motion": 0.5}, bias=-1.0, extent=1.0, offset=1.0, confidence=(2.0, 0.5))


def test_evidence_of_few_cues_is_spread_out_in_order_around_its_mean() -> None:
    for scale in (0.02, 0.5, 1.29):
        values = np.random.default_rng(0).normal(-2, scale, (5, 7)).astype(np.float32)
        found = spread_out(values)
        assert found.std() == pytest.approx(1.3, rel=1e-4) or values.std() >= 1.3
        assert found.mean() == pytest.approx(values.mean(), abs=1e-4)
        assert np.array_equal(found.argsort(axis=None), values.argsort(axis=None))
    for scale in (0.001, 3.0):
        values = np.random.default_rng(0).normal(-2, scale, (5, 7)).astype(np.float32)
        assert np.array_equal(spread_out(values), values)


def test_fusion_is_the_weighted_sum() -> None:
    tags, motion = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)
    assert np.allclose(fuse({"tags": tags, "motion": motion}, FUSION), 2 * tags + 0.5 * motion - 1)


def test_a_cue_without_a_weight_changes_nothing() -> None:
    tags = np.ones((4, 4), np.float32)
    assert np.array_equal(fuse({"tags": tags, "own": 9 * tags}, FUSION), fuse({"tags": tags}, FUSION))


def test_the_shipped_numbers_round_trip_and_hear() -> None:
    fusion = shipped_fusion()
    assert Fusion.from_dict(fusion.to_dict()) == fusion
    assert {"semantic", "tags", "synchrony", "motion", "objectness"} <= set(fusion.weights)
    assert all(fusion.weights[name] > 0 for name in ("tags", "synchrony", "motion", "objectness"))


@pytest.mark.parametrize(
    ("size", "grid"), [((480, 640), (18, 24)), ((100, 1000), (4, 24)), ((7, 7), (24, 24))]
)
def test_the_grid_keeps_the_aspect(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert evidence_grid(size) == grid


@pytest.mark.parametrize("name", STANDARDIZED)
def test_standardized_cues_do_not_depend_on_their_scale(name: str) -> None:
    values = np.random.default_rng(1).normal(size=(12, 12))
    one, other = (standardize(name, found, (18, 24)) for found in (values, 7 * values + 3))
    assert np.allclose(one, other, atol=1e-4)
    assert one.mean() == pytest.approx(0, abs=1e-5)
    assert one.std() == pytest.approx(1, abs=1e-4)


def test_a_constant_map_says_nothing() -> None:
    assert not standardize("tags", np.full((12, 12), 0.3), (18, 24)).any()


def test_expected_iou_is_the_mean_over_worlds() -> None:
    """Against the definition, where the support is 0 or 1: plain IoU."""
    rng = np.random.default_rng(2)
    truth, masks = rng.random((9, 9)) > 0.6, rng.random((6, 9, 9)) > 0.5
    plain = [(mask & truth).sum() / (mask | truth).sum() for mask in masks]
    assert np.allclose(expected_iou(truth.astype(np.float32), masks), plain)


def test_no_set_of_pixels_has_a_higher_expected_iou_than_the_best_level() -> None:
    support = np.random.default_rng(3).random((2, 4)).astype(np.float32)
    every = [np.array([index >> bit & 1 for bit in range(8)], bool).reshape(2, 4) for index in range(1, 256)]
    mask, value = best_level(support)
    assert value == pytest.approx(expected_iou(support, np.array(every)).max())
    assert expected_iou(support, mask[None])[0] == pytest.approx(value)


def test_two_halves_of_a_thing_are_merged_and_the_ground_is_left() -> None:
    support = np.full((20, 20), 0.02, np.float32)
    support[5:15, 5:15] = 0.95
    halves = np.zeros((3, 20, 20), bool)
    halves[0, 5:15, 5:10], halves[1, 5:15, 10:15], halves[2, :4] = True, True, True
    chosen, expected = choose_masks(support, halves)
    assert np.array_equal(chosen.any(0), support > 0.5)
    assert len(chosen) == 2
    best = max(
        expected_iou(support, halves[list(some)].any(0)[None])[0]
        for count in (1, 2, 3)
        for some in combinations(range(3), count)
    )
    assert expected == pytest.approx(best)


@pytest.mark.parametrize("count", [0, 1])
def test_where_no_proposal_fits_the_evidence_itself_is_the_mask(count: int) -> None:
    support = np.full((20, 20), 0.01, np.float32)
    support[2:5, 2:5] = 0.9
    chosen, _ = choose_masks(support, np.ones((count, 20, 20), bool))
    assert np.array_equal(chosen.any(0), support > 0.5)


def test_support_is_relative_to_the_peak() -> None:
    log_odds = np.random.default_rng(4).normal(size=(18, 24)).astype(np.float32)
    one, other = (supported(values, None, (36, 48), FUSION) for values in (log_odds, log_odds - 5))
    assert np.allclose(one, other, atol=1e-5)
    assert one.shape == (36, 48)


def test_objectness_says_where_the_thing_ends() -> None:
    thing = np.zeros((40, 40), np.float32)
    thing[10:30, 10:30] = 1
    support = supported(np.zeros((4, 4), np.float32), thing, (40, 40), FUSION)
    assert support[20, 20] > support[5, 5]


def test_confidence_is_a_probability_that_rises() -> None:
    found = [confidence(value, FUSION) for value in np.linspace(0, 1, 11)]
    assert found == sorted(found)
    assert 0 <= found[0] < 0.01
    assert found[-1] <= 1
