"""mIoU and F against the public AVSBench script's own numbers (tests/golden, tolerance 1e-5)."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from helpers import GOLDEN
from moca_avs.errors import UsageError
from moca_avs_bench.metrics import region

TOLERANCE = 1e-5
EXPECTED = json.loads((GOLDEN / "avsbench_metrics.json").read_text())["expected"]
BATCHES = {"batch_1": 1, "batch_2": 2, "batch_4": 4, "batch_5": 5, "batch_10": 10}


@pytest.fixture(scope="module")
def tensors():
    return load_file(GOLDEN / "avsbench_metrics.safetensors")


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float32)))


@pytest.fixture(scope="module")
def cases(tensors):
    """What the public script got, its sigmoid applied: (probabilities, truth) by case."""
    logits, truth = tensors["logits"], tensors["gt_u8"] > 0
    return {
        "random": (sigmoid(logits), truth),
        "hard01": (sigmoid(logits > 0), truth),
        "perfect": (sigmoid(20.0 * truth - 10), truth),
        "all_empty_gt": (sigmoid(logits), np.zeros_like(truth)),
        "all_background_pred": (sigmoid(np.full_like(logits, -5)), truth),
        "all_foreground_pred": (sigmoid(np.full_like(logits, 5)), truth),
    }


def lengths(frames_per_call):
    return [min(frames_per_call, 10 - start) for start in range(0, 10, frames_per_call)]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("case", EXPECTED)
def test_every_case_and_batch_size_gives_the_golden_number(cases, case, batch):
    probabilities, truth = cases[case]
    videos = lengths(BATCHES[batch])
    golden = EXPECTED[case][batch]
    assert region.mean_iou(probabilities, truth, videos) == pytest.approx(golden["miou"], abs=TOLERANCE)
    assert region.f_score(probabilities, truth, videos) == pytest.approx(golden["F"], abs=TOLERANCE)
    ends = np.cumsum(videos)
    for end, length, (iou, f) in zip(ends, videos, golden["per_call_iou_F"], strict=True):
        call = slice(end - length, end)
        one = probabilities[call], truth[call], [length]
        assert region.mean_iou(*one) == pytest.approx(iou, abs=TOLERANCE)
        assert region.f_score(*one) == pytest.approx(f, abs=TOLERANCE)


@pytest.mark.parametrize("case", EXPECTED)
def test_frame_iou_is_golden(cases, case):
    np.testing.assert_allclose(
        region.frame_iou(*cases[case]), EXPECTED[case]["per_frame_iou"], atol=TOLERANCE
    )


def test_protocols_are_the_batch_sizes_they_stand_for(cases):
    probabilities, truth = cases["random"]
    golden = EXPECTED["random"]
    for protocol, batch in (("avsbench", "batch_5"), ("per_frame", "batch_1"), ("dataset", "batch_10")):
        assert region.f_score(probabilities, truth, [5, 5], protocol) == pytest.approx(
            golden[batch]["F"], abs=TOLERANCE
        )
        assert region.mean_iou(probabilities, truth, [5, 5], protocol) == pytest.approx(
            golden[batch]["miou"], abs=TOLERANCE
        )


def test_leaving_empty_frames_out_gives_the_other_number_of_the_facts(cases):
    probabilities, truth = cases["random"]
    sounding = truth.any((1, 2))
    assert region.f_score(probabilities[sounding], truth[sounding], [7], "per_frame") == pytest.approx(
        0.771, abs=5e-4
    )


@pytest.mark.parametrize("batch", BATCHES)
def test_a_mask_scores_as_the_same_mask_given_to_the_public_script_as_logits(tensors, batch):
    mask, truth = tensors["logits"] > 0, tensors["gt_u8"] > 0
    golden = EXPECTED["hard01"][batch]
    videos = lengths(BATCHES[batch])
    for given in (mask, mask.astype(np.float32), mask.astype(np.uint8)):
        assert region.f_score(given, truth, videos) == pytest.approx(golden["F"], abs=TOLERANCE)
        assert region.mean_iou(given, truth, videos) == pytest.approx(golden["miou"], abs=TOLERANCE)


def test_curves_are_golden(tensors, cases):
    np.testing.assert_allclose(region.THRESHOLDS, tensors["thresholds"], atol=1e-7)
    precision, recall = region.precision_recall(*cases["random"])
    np.testing.assert_allclose(precision[0], tensors["precision_frame0"], atol=TOLERANCE)
    np.testing.assert_allclose(recall[0], tensors["recall_frame0"], atol=TOLERANCE)
    curves = region.f_curves(*cases["random"])
    sounding = cases["random"][1].any((1, 2))
    np.testing.assert_allclose(
        curves[sounding], tensors["F_curves_random_per_nonempty_frame"], atol=TOLERANCE
    )
    np.testing.assert_allclose(curves[sounding].mean(0), tensors["F_curve_random_batch10"], atol=TOLERANCE)
    assert not curves[~sounding].any()
    hard = region.f_curves(*cases["hard01"])[sounding].mean(0)
    np.testing.assert_allclose(hard, tensors["F_curve_hard01_batch10"], atol=TOLERANCE)


def test_a_masks_curve_has_two_different_values(tensors):
    curves = region.f_curves(tensors["logits"] > 0, tensors["gt_u8"] > 0)
    assert np.array_equal(curves[:, 1:], np.repeat(curves[:, 1:2], 254, axis=1))


def slow_curve(probability, truth):
    """F at each threshold, pixel by pixel."""
    curve = []
    for threshold in np.linspace(0, 1 - 1e-10, 255).astype(np.float32):
        hits = predicted = true = 0
        for p, t in zip(probability.ravel(), truth.ravel(), strict=True):
            hits += bool(p >= threshold and t)
            predicted += bool(p >= threshold)
            true += bool(t)
        precision, recall = hits / (predicted + 1e-20), hits / (true + 1e-20)
        below = 0.3 * precision + recall
        curve.append(1.3 * precision * recall / below if below else 0.0)
    return curve


def test_curves_equal_a_slow_reference_also_on_threshold_values():
    rng = np.random.default_rng(0)
    probabilities = rng.random((4, 5, 6)).astype(np.float32)
    probabilities[1] = rng.choice(region.THRESHOLDS, (5, 6))  # exactly on a threshold
    probabilities[2] = rng.integers(0, 2, (5, 6))
    truth = rng.random((4, 5, 6)) > 0.6
    truth[3] = False
    curves = region.f_curves(probabilities, truth)
    for row in range(4):
        np.testing.assert_allclose(curves[row], slow_curve(probabilities[row], truth[row]), rtol=1e-12)


def test_an_empty_prediction_earns_what_the_facts_say():
    truth = np.zeros((1, 20, 20), bool)
    truth[0, :4, :5] = True
    area = 0.05
    assert region.f_score(np.zeros_like(truth), truth, [1]) == pytest.approx(1.3 * area / (0.3 * area + 1))


def test_a_video_of_only_empty_frames_has_f_0_and_counts_under_avsbench():
    truth = np.zeros((4, 3, 3), bool)
    truth[:2, 0] = True
    assert region.f_score(truth, truth, [2, 2]) == pytest.approx(0.5)
    assert region.f_score(truth, truth, [2, 2], "per_frame") == pytest.approx(0.5)
    assert region.f_score(truth, truth, [2, 2], "dataset") == pytest.approx(1)
    assert region.f_score(truth[2:], truth[2:], [2]) == 0


def test_sounding_frames_only():
    truth = np.zeros((4, 2, 2), bool)
    truth[0] = truth[2, 0] = True
    mask = np.zeros_like(truth)
    mask[0, 0] = mask[2] = mask[1] = True  # IoU .5, 0 (empty truth), .5, 1 (empty truth)
    assert region.mean_iou(mask, truth, [2, 2]) == pytest.approx(0.5)
    assert region.mean_iou(mask, truth, [2, 2], sounding_only=True) == pytest.approx(0.5)
    assert region.mean_iou(mask, truth, [1, 3]) == pytest.approx(0.5)
    assert region.mean_iou(mask, truth, [1, 3], "dataset") == pytest.approx(0.5)
    mask[2, 1] = False  # now exact
    assert region.mean_iou(mask, truth, [2, 2], sounding_only=True) == pytest.approx(0.75)
    assert region.mean_iou(mask, truth, [3, 1], sounding_only=True) == pytest.approx(0.75)  # the last: none
    assert region.mean_iou(mask, truth, [3, 1]) == pytest.approx((0.5 + 0 + 1) / 3 / 2 + 0.5)


@pytest.mark.parametrize(
    ("prediction", "videos", "message"),
    [
        (np.full((2, 3, 3), 1.5), [2], r"probabilities in \[0, 1\], found 1.5"),
        (np.full((2, 3, 3), np.nan), [2], "probabilities"),
        (np.zeros((2, 3, 4)), [2], "one shape"),
        (np.zeros((2, 3, 3)), [1], "add up to 2 frames"),
        (np.zeros((2, 3, 3)), [2, 0], "lengths >= 1"),
    ],
)
def test_bad_input_is_named(prediction, videos, message):
    with pytest.raises(UsageError, match=message):
        region.f_score(prediction, np.ones((2, 3, 3), bool), videos)


def test_an_unknown_protocol_is_named():
    with pytest.raises(UsageError, match="no protocol named 'batch'"):
        region.mean_iou(np.ones((1, 2, 2), bool), np.ones((1, 2, 2), bool), [1], "batch")
