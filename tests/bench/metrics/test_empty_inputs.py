"""All-empty, all-full and flat inputs: every score is a number, or is not defined and says so."""

import numpy as np
import pytest

from moca_avs.errors import UsageError
from moca_avs_bench.metrics import bootstrap, localization, objects, pointing, region, semantic

MASKS = {
    "black": np.zeros((4, 12, 9), bool),
    "full": np.ones((4, 12, 9), bool),
    "none": np.zeros((0, 12, 9), bool),
    "one": np.eye(12, 9, dtype=bool)[None],
}
HEATS = {"0": 0.0, "0.4": np.float16(0.4), "1": 1.0}
PROTOCOLS = ("avsbench", "per_frame", "dataset")


@pytest.mark.parametrize("truth", MASKS)
@pytest.mark.parametrize("said", MASKS)
def test_region_scores_of_frames_are_numbers(said, truth):
    prediction, true = MASKS[said], MASKS[truth]
    prediction = np.resize(prediction, true.shape) if len(prediction) else np.zeros(true.shape, bool)
    for answer in (prediction, prediction.astype(np.float32), np.full(true.shape, 0.5, np.float32)):
        for found in (region.frame_iou(answer, true), region.f_curves(answer, true)):
            assert found.shape[0] == len(true)
            assert ((found >= 0) & (found <= 1)).all()
        for protocol in PROTOCOLS if len(true) else ():
            assert 0 <= region.mean_iou(answer, true, [len(true)], protocol) <= 1
            assert 0 <= region.f_score(answer, true, [len(true)], protocol) <= 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_not_defined_says_so(protocol):
    black, none = MASKS["black"], MASKS["none"]
    assert region.mean_iou(black, black, [4], protocol) == pytest.approx(1)
    with pytest.raises(UsageError, match="not defined: none of 4 frames has a truth"):
        region.mean_iou(black, black, [4], protocol, sounding_only=True)
    for score in (region.mean_iou, region.f_score):
        with pytest.raises(UsageError, match="lengths >= 1 that add up to 0 frames"):
            score(none, none, [], protocol)
    with pytest.raises(UsageError, match="at least the background, found 0 classes"):
        semantic.begin(0)


def test_class_maps_of_no_frame_and_of_background():
    nothing = semantic.compute(semantic.begin(3))
    assert (nothing.miou, nothing.f, nothing.frames) == (0, 0, 0)
    background = np.zeros((2, 5, 6), np.uint8)
    scores = semantic.compute(semantic.update(semantic.begin(3), background, background))
    assert scores.class_iou.tolist() == [1, 0, 0]
    sums = np.zeros((2, 7))
    assert semantic.mean_over_classes(sums, sums[0]).tolist() == [0, 0]


@pytest.mark.parametrize("grid", [(12, 12), (7, 14), (1, 1)])
@pytest.mark.parametrize("value", HEATS)
def test_flat_heat_counts_as_a_whole_under_the_median_rules(grid, value):
    """The issue's own numbers: 1.0 where the image is full of sound, the truth's share elsewhere."""
    heat = np.full((2, *grid), HEATS[value])
    for kind in (np.float16, np.float32, np.float64):
        for protocol in ("lvs", "ez-vsl"):
            predicted = localization.predicted(protocol, heat.astype(kind), np.zeros((2, 5, 5), bool))
            assert predicted.all()
            assert localization.ciou(predicted, np.ones((2, 224, 224))).tolist() == [1, 1]
            assert localization.ciou(predicted, np.zeros((2, 224, 224))).tolist() == [0, 0]
    black = localization.predicted("mask", heat, MASKS["black"][:2])
    assert localization.ciou(black, np.zeros((2, 224, 224))).tolist() == [0, 0]


@pytest.mark.parametrize("protocol", localization.PROTOCOLS)
def test_localization_of_no_image(protocol):
    found = localization.predicted(protocol, np.zeros((0, 7, 7)), np.zeros((0, 5, 5), bool))
    assert (found.shape, found.dtype) == ((0, 224, 224), bool)
    assert localization.ciou(found, np.zeros((0, 224, 224))).shape == (0,)
    assert localization.auc_of_each([]).shape == (0,)


@pytest.mark.parametrize("size", [(90, 120), (224, 97)])
@pytest.mark.parametrize("grid", [(12, 12), (7, 16), (48, 31)])
def test_flat_heat_ties_every_pair(grid, size):
    rng = np.random.default_rng(0)
    masks = np.zeros((4, 5, *size), bool)
    for index, mask in enumerate(masks.reshape(-1, *size)):  # each object in a quarter of its own
        corner = divmod(index // 5 % 4, 2)
        top, left = (
            place * side // 2 + int(rng.integers(0, 8)) for place, side in zip(corner, size, strict=True)
        )
        mask[top : top + int(rng.integers(3, 36)), left : left + int(rng.integers(3, 36))] = True
    sounding = np.array([[True] * 5, [False] * 5, [True] * 5, [False] * 5])
    for value in (0, 1, np.float16(0.4), *rng.uniform(0, 1, 30)):
        for kind in (np.float16, np.float32, np.float64):
            heat = np.full((5, *grid), value, kind)
            assert objects.object_accuracy(heat, masks, sounding).tolist() == [0.5] * 5
            assert objects.swap_accuracy(heat, heat, masks, sounding, masks[1]).tolist() == [0] * 5


def test_objects_that_are_not_there_leave_frames_out():
    heat = np.zeros((3, 4, 4))
    for count in (0, 2):
        hidden = np.zeros((count, 3, 6, 8), bool)
        sounding = np.zeros((count, 3), bool)
        assert objects.heat_inside(heat, hidden).shape == (count, 3)
        assert np.isnan(objects.object_accuracy(heat, hidden, sounding)).all()  # documented: no pair
        assert np.isnan(objects.swap_accuracy(heat, heat, hidden, sounding, np.zeros((3, 6, 8), bool))).all()
    nothing = objects.object_accuracy(heat[:0], np.zeros((2, 0, 6, 8), bool), np.zeros((2, 0), bool))
    assert nothing.shape == (0,)


@pytest.mark.parametrize("inside", ["black", "full", "one"])
@pytest.mark.parametrize("value", HEATS)
def test_pointing_with_flat_heat(inside, value):
    truth, heat = MASKS[inside][0], np.full((3, 4), HEATS[value])
    share = pointing.pointing(heat, truth)
    assert share == {"black": 0, "full": 1}.get(inside, share)
    assert 0 <= share <= 1
    for said in ("black", "full"):
        mask = MASKS[said][0]
        assert 0 <= pointing.mask_iou(mask, truth) <= 1
        assert 0 <= pointing.box_iou(mask, truth) <= 1
        assert pointing.bounding_box(mask).sum() == mask.sum()
    if inside == "one":
        assert pointing.heat_auc(heat, truth) == 0.5


def test_intervals_of_one_sample_and_of_none():
    one = bootstrap.bootstrap_mean([0.25], ["a"])
    assert (one.estimate, one.n, one.clusters) == (0.25, 1, 1)
    for nothing in (
        bootstrap.bootstrap_mean([], []),
        bootstrap.bootstrap_difference([], [], []),
        bootstrap.bootstrap_mean([0.5], ["a"], [0.0]),
        bootstrap.interval(np.zeros((0, 2))),
    ):
        assert (nothing.n, nothing.clusters) == (0, 0)
    # No two of the sources that a pair needs are drawn together.
    sums = np.array([[1.0, 1.0], [0.0, 1.0]])
    found = bootstrap.interval(sums, resamples=1, seed=3, sources=[("a", "b"), ("c", "d")])
    assert (found.estimate, found.n) == (0.5, 2)
    assert np.isnan([found.low, found.high]).all()
