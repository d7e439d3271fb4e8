"""Heat and masks against boxes: slow counts over all pairs of pixels, and cases known by construction."""

import numpy as np
import pytest

from moca_avs.errors import UsageError
from moca_avs_bench.metrics.objects import upsample
from moca_avs_bench.metrics.pointing import (
    bounding_box,
    box_iou,
    boxes_mask,
    heat_auc,
    mask_iou,
    pointing,
)


def slow_auc(heat, inside):
    """Mann and Whitney's U over all pairs."""
    heat = upsample(heat[None], *inside.shape)[0]
    gaps = heat[inside][:, None] - heat[~inside][None]
    return np.where(gaps == 0, 0.5, gaps > 0).mean()


@pytest.mark.parametrize("size", [(12, 12), (6, 15), (1, 1)])
@pytest.mark.parametrize("levels", [2, 1000])
def test_auc_counts_pairs_of_pixels_and_ties_one_half(size, levels):
    rng = np.random.default_rng(levels)
    heat = (rng.integers(0, levels, size) / levels).astype(np.float16)
    inside = rng.random((18, 30)) < 0.3
    assert heat_auc(heat, inside) == pytest.approx(slow_auc(heat, inside))


def test_auc_of_known_maps():
    inside = np.zeros((4, 6), bool)
    inside[:, 3:] = True
    assert heat_auc(np.array([[0.0, 1.0]]), inside) == 1
    assert heat_auc(np.array([[1.0, 0.0]]), inside) == 0
    assert heat_auc(np.zeros((3, 3)), inside) == 0.5
    assert np.isnan(heat_auc(np.zeros((3, 3)), np.ones((4, 6), bool)))
    assert np.isnan(heat_auc(np.zeros((3, 3)), np.zeros((4, 6), bool)))


def test_pointing_takes_the_center_of_the_hottest_position_and_the_share_of_ties():
    inside = boxes_mask([[0.5, 0, 1, 0.5]], 40, 90)
    heat = np.zeros((2, 6))
    heat[0, 4] = 1
    assert pointing(heat, inside) == 1
    heat[1, 0] = 1
    assert pointing(heat, inside) == 0.5
    assert pointing(np.zeros((2, 6)), inside) == 0.25  # says nothing: right by chance
    assert pointing(-heat, ~inside) == pytest.approx(8 / 10)


def test_boxes_cover_the_pixels_whose_centers_they_hold():
    mask = boxes_mask([[0, 0.5, 0.5, 1], [0.9, 0, 1, 0.1], [0.31, 0.31, 0.311, 0.311]], 10, 20)
    expected = np.zeros((10, 20), bool)
    expected[5:, :10] = expected[:1, 18:] = True
    expected[3, 6] = True  # never less than a pixel
    assert np.array_equal(mask, expected)
    assert not boxes_mask(np.zeros((0, 4)), 10, 20).any()


def test_iou_of_masks_and_of_their_bounding_boxes():
    ring = np.zeros((10, 10), bool)
    ring[2:8, 2:8] = True
    box = ring.copy()
    ring[3:7, 3:7] = False
    assert np.array_equal(bounding_box(ring), box)
    assert mask_iou(ring, box) == pytest.approx(20 / 36)
    assert box_iou(ring, box) == 1
    corners = np.zeros((10, 10), bool)
    corners[0, 0] = corners[9, 9] = True
    assert bounding_box(corners).all()
    assert box_iou(corners, box) == pytest.approx(0.36)
    nothing = np.zeros((10, 10), bool)
    assert mask_iou(nothing, box) == box_iou(nothing, box) == mask_iou(nothing, nothing) == 0
    with pytest.raises(UsageError, match="one shape"):
        mask_iou(nothing, box[:5])
