"""cIoU and AUC against the public scripts' own numbers (tests/golden), and the nulls' known ones."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from helpers import GOLDEN
from moca_avs.errors import UsageError
from moca_avs_bench.metrics import localization as loc
from moca_avs_bench.metrics.objects import upsample

NUMBERS = json.loads((GOLDEN / "vggss_metrics.json").read_text())
RULES = {
    "LVS": (loc.lvs_predicted, False),
    "EZVSL": (loc.ez_vsl_predicted, True),
    "strict_rule_on_align_corners_upsampling": (loc.lvs_predicted, True),
    "inclusive_rule_on_cv2_upsampling": (loc.ez_vsl_predicted, False),
}


@pytest.fixture(scope="module")
def maps():
    """The 8 heat maps by the way they are upsampled: float32 [8, 224, 224]."""
    tensors = load_file(GOLDEN / "vggss_metrics.safetensors")
    large = tensors["maps56_u8"].astype(np.float32).repeat(4, 1).repeat(4, 2)
    return {
        corners: np.concatenate([upsample(tensors["maps7"], 224, 224, corners), large]) for corners in (0, 1)
    }


@pytest.fixture(scope="module")
def truths():
    return {
        "vggss": np.stack([loc.boxes_map(np.array(b)) for b in NUMBERS["boxes_vggss_fractions_xyxy"]]),
        "flickr": np.stack([loc.consensus_map(np.array(b)) for b in NUMBERS["boxes_flickr_of_256_xyxy"]]),
    }


@pytest.mark.parametrize("dataset", ["vggss", "flickr"])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_gives_the_golden_numbers(maps, truths, dataset, rule):
    golden, (predict, corners) = NUMBERS["expected"][dataset][rule], RULES[rule]
    predicted = predict(maps[corners])
    assert predicted.sum((1, 2)).tolist() == golden["predicted_pixels"]
    scores = loc.ciou(predicted, truths[dataset])
    np.testing.assert_allclose(scores[:6], golden["ciou"][:6], atol=3e-4)
    np.testing.assert_allclose(scores[6:], golden["ciou"][6:], atol=1e-7)
    assert loc.success_rate(scores) == golden["cIoU_at_0.5"]
    assert loc.auc(scores) == pytest.approx(golden["AUC"], abs=1e-6)
    assert scores.mean() == pytest.approx(golden["mean_ciou"], abs=3e-4)
    curve = (scores[:, None] >= loc.AUC_THRESHOLDS).mean(0)
    np.testing.assert_array_equal(curve, golden["curve"])


@pytest.mark.parametrize("dataset", ["vggss", "flickr"])
def test_ground_truth_maps_are_golden(truths, dataset):
    assert truths[dataset].sum((1, 2)).tolist() == NUMBERS["expected"][dataset]["gt_sum"]


@pytest.mark.parametrize("value", [0.3, -0.3, 0.0])
def test_constant_maps_are_golden(truths, value):
    flat = np.full((1, 224, 224), value, np.float32)
    golden = NUMBERS["constant_map_on_case0"][str(value)]
    for rule in ("LVS", "EZVSL"):
        score = loc.ciou(RULES[rule][0](flat), truths["vggss"][:1])[0]
        assert score == pytest.approx(golden[rule], abs=1e-7)


def test_a_mask_is_scored_as_it_is(truths):
    mask = loc.nearest(truths["vggss"][2] > 0, 448, 672)
    heat = np.random.default_rng(0).random((1, 7, 7))
    assert loc.ciou(loc.predicted("mask", heat, mask[None]), truths["vggss"][2:3]) == 1
    assert loc.ciou(loc.predicted("mask", heat, ~mask[None]), truths["vggss"][2:3]) == 0
    assert loc.ciou(loc.predicted("mask", heat, mask[None] & False), truths["vggss"][2:3]) == 0
    with pytest.raises(UsageError, match="no protocol named 'best'; choose from lvs, ez-vsl, mask"):
        loc.predicted("best", heat, mask[None])


def test_protocols_are_the_public_rules(maps):
    tensors = load_file(GOLDEN / "vggss_metrics.safetensors")
    masks = np.zeros((6, 9, 9), bool)
    for protocol, rule in (("lvs", "LVS"), ("ez-vsl", "EZVSL")):
        predict, corners = RULES[rule]
        np.testing.assert_array_equal(
            loc.predicted(protocol, tensors["maps7"], masks), predict(maps[corners][:6])
        )


def test_upsampling_with_aligned_corners_keeps_the_corners():
    heat = np.random.default_rng(1).random((2, 3, 4)).astype(np.float32)
    large = upsample(heat, 9, 10, align_corners=True)
    np.testing.assert_allclose(large[:, ::4, ::3], heat, atol=1e-6)  # every old position is one of the new
    np.testing.assert_allclose(large[:, 2, 0], (heat[:, 0, 0] + heat[:, 1, 0]) / 2, atol=1e-6)


@pytest.mark.parametrize("predict", [loc.lvs_predicted, loc.ez_vsl_predicted])
def test_the_disk_null_covers_half_of_the_image_under_both_rules(predict):
    disk = predict(loc.disk_heat()[None])[0]
    assert disk.mean() == pytest.approx(0.5, abs=1e-3)
    wrong = disk ^ loc.disk_mask(224, 224)
    assert wrong.sum() <= 32  # ties on the rim
    assert loc.disk_mask(100, 300).mean() == pytest.approx(0.5, abs=0.01)


def test_boxes_far_outside_and_without_area():
    far = loc.boxes_map(np.array([[-2.9e16, 0.25, 0.5, 0.75]]))
    assert far.sum() == 112 * 112
    assert far[56, 0] == 1
    assert loc.boxes_map(np.array([[0.2, 0.2, 0.2, 0.9]])).sum() == 0
    assert loc.boxes_map(np.zeros((0, 4))).sum() == 0
    assert loc.ciou(np.ones((1, 224, 224), bool), np.zeros((1, 224, 224))) == 0


def test_auc_is_the_trapezoid_of_the_success_rate():
    scores = np.random.default_rng(2).random(400)
    rate = [(scores >= 0.05 * k).mean() for k in range(21)]
    trapezoid = 0.05 * (sum(rate) - (rate[0] + rate[-1]) / 2)
    assert loc.auc(scores) == pytest.approx(trapezoid)
    assert loc.auc(np.ones(3)) == 1
    assert loc.auc(np.zeros(3)) == pytest.approx(0.025)
    assert np.isnan([loc.auc([]), loc.success_rate([])]).all()


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(
        UsageError, match=r"one shape, predicted bool; found bool \[1, 2, 2\] and \[1, 3, 2\]"
    ):
        loc.ciou(np.ones((1, 2, 2), bool), np.ones((1, 3, 2)))
    with pytest.raises(UsageError, match=r"224 x 224, found \[5, 5\]"):
        loc.ez_vsl_predicted(np.ones((1, 5, 5)))


def test_a_constant_map_counts_as_a_whole():
    heat = np.full((2, 12, 12), np.float16(0.4))
    for protocol in ("lvs", "ez-vsl"):
        assert loc.predicted(protocol, heat, np.zeros((2, 8, 8), bool)).all()
