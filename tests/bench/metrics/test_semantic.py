"""AVSS's IoU and F against the public script's own numbers (tests/golden, tolerance 1e-5)."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from helpers import GOLDEN
from moca_avs.errors import UsageError
from moca_avs_bench.metrics import semantic

NUMBERS = json.loads((GOLDEN / "avsbench_metrics.json").read_text())["avss"]


@pytest.fixture(scope="module")
def tensors():
    return load_file(GOLDEN / "avsbench_metrics.safetensors")


@pytest.fixture(scope="module")
def maps(tensors):
    """(prediction, truth) uint8 [6, 28, 28]."""
    return tensors["avss.logits_i8"].argmax(1).astype(np.uint8), tensors["avss.label_u8"]


@pytest.mark.parametrize("batch", [1, 2, 4, 6])
def test_the_golden_sums_and_means_whatever_the_batch(tensors, maps, batch):
    totals = semantic.begin(71)
    for start in range(0, 6, batch):
        totals = semantic.update(totals, *(m[start : start + batch] for m in maps))
    np.testing.assert_array_equal(totals.seen, tensors["avss.cls_count"])
    np.testing.assert_allclose(totals.iou, tensors["avss.iou_sum"], atol=1e-5)
    np.testing.assert_allclose(totals.f, tensors["avss.F_sum"], atol=1e-5)
    scores = semantic.compute(totals)
    np.testing.assert_allclose(scores.class_iou, tensors["avss.per_class_iou"], atol=1e-5)
    np.testing.assert_allclose(scores.class_f, tensors["avss.per_class_F"], atol=1e-5)
    assert scores.miou == pytest.approx(NUMBERS["miou_over_71_as_logged"], abs=1e-5)
    assert scores.f == pytest.approx(NUMBERS["F_over_71_as_logged"], abs=1e-5)
    seen = totals.seen > 0
    assert scores.class_iou[seen].mean() == pytest.approx(
        NUMBERS["miou_over_seen_as_printed_per_batch"], abs=1e-5
    )
    assert scores.class_f[seen].mean() == pytest.approx(NUMBERS["F_over_seen_as_printed_per_batch"], abs=1e-5)
    without = [np.delete(v, 70).mean() for v in (scores.class_iou, scores.class_f)]
    # The public "noBg" drops the last class, not the background.
    assert without[0] == pytest.approx(NUMBERS["miou_noBg_as_logged_drops_index_70"], abs=1e-5)
    assert without[1] == pytest.approx(NUMBERS["F_noBg_as_logged_drops_index_70"], abs=1e-5)
    assert scores.frames == 6


def test_per_class_numbers_of_the_json(maps):
    scores = semantic.compute(semantic.update(semantic.begin(71), *maps))
    for key, found in (("per_class_iou", scores.class_iou), ("per_class_F", scores.class_f)):
        for index, value in NUMBERS[key].items():
            assert found[int(index)] == pytest.approx(value, abs=1e-5)


def test_padding_is_background_in_both(maps):
    prediction, truth = maps
    blank = np.zeros((4, 28, 28), np.uint8)
    asked = semantic.update(
        semantic.begin(71), np.concatenate([prediction, blank]), np.concatenate([truth, blank])
    )
    counted = semantic.update(semantic.begin(71), prediction, truth, padding=4)
    for name in ("iou", "f", "seen"):
        np.testing.assert_allclose(getattr(counted, name), getattr(asked, name))
    assert counted.frames == asked.frames == 10
    assert semantic.compute(counted).miou > semantic.compute(semantic.update(semantic.begin(71), *maps)).miou


def slow(prediction, truth, classes):
    """Class by class, pixel set by pixel set."""
    sums = np.zeros((3, classes))
    for p, t in zip(prediction, truth, strict=True):
        for c in range(classes):
            said, true = set(np.flatnonzero(p == c)), set(np.flatnonzero(t == c))
            if not said | true:
                continue
            hits = len(said & true)
            precision, recall = hits / max(len(said), 1), hits / max(len(true), 1)
            f = 1.3 * precision * recall / (0.3 * precision + recall) if hits else 0
            sums[:, c] += hits / len(said | true), f, 1
    return sums


def test_sums_equal_a_slow_reference_and_add_up():
    rng = np.random.default_rng(3)
    prediction, truth = rng.integers(0, 5, (2, 7, 6, 4)) % np.array([5, 4])[:, None, None, None]
    expected = slow(prediction, truth, 6)
    totals = semantic.update(semantic.begin(6), prediction, truth)
    np.testing.assert_allclose([totals.iou, totals.f, totals.seen], expected)
    parts = [semantic.update(semantic.begin(6), prediction[k : k + 3], truth[k : k + 3]) for k in (0, 3, 6)]
    whole = parts[0] + parts[1] + parts[2]
    np.testing.assert_allclose(whole.iou, totals.iou)
    assert whole.frames == 7


def test_a_draw_without_a_class_is_not_punished_for_it():
    iou, seen = np.array([[4.0, 2, 0, 0], [2, 0, 0, 0]]), np.array([[4.0, 4, 4, 0], [4, 0, 4, 0]])
    sums = np.concatenate([iou, seen, [[4], [4]]], axis=1)
    split, draw = semantic.mean_over_classes(sums, sums[0])
    assert split == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert draw == pytest.approx((0.5 + 0.5 + 0 + 0) / 4)


def test_the_split_itself_scores_as_compute_says(maps):
    totals = semantic.update(semantic.begin(71), *maps)
    row = np.concatenate([totals.iou, totals.seen, [6]])
    assert semantic.mean_over_classes(row[None], row)[0] == pytest.approx(semantic.compute(totals).miou)


def test_a_perfect_map_scores_1_on_the_classes_it_holds():
    truth = np.zeros((2, 4, 4), np.uint8)
    truth[0, :2] = 3
    scores = semantic.compute(semantic.update(semantic.begin(4), truth, truth))
    assert scores.class_iou.tolist() == [1, 0, 0, 1]
    assert scores.miou == scores.f == 0.5


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (np.zeros((2, 4, 3), int), r"like the truth \[2, 4, 4\], found int64 \[2, 4, 3\]"),
        (np.zeros((2, 4, 4)), "integer class maps"),
        (np.full((2, 4, 4), 6), "class indices from 0 to 5, found 6 to 6"),
        (np.full((2, 4, 4), -1), "found -1 to -1"),
    ],
)
def test_maps_that_do_not_fit_are_named(prediction, message):
    with pytest.raises(UsageError, match=message):
        semantic.update(semantic.begin(6), prediction, np.zeros((2, 4, 4), int))


def test_no_frame_adds_only_its_padding():
    none = np.zeros((0, 2, 2), int)
    assert semantic.update(semantic.begin(3), none, none).frames == 0
    scores = semantic.compute(semantic.update(semantic.begin(3), none, none, padding=2))
    assert scores.frames == 2
    assert scores.class_iou.tolist() == [1, 0, 0]
