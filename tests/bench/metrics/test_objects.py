"""Object, swap and silence scores against slow references and against what deaf answers must score."""

import numpy as np
import pytest
import torch

from moca_avs.errors import UsageError
from moca_avs_bench.metrics import objects


@pytest.mark.parametrize(
    ("size", "target"), [((3, 4), (7, 9)), ((5, 5), (5, 5)), ((1, 2), (6, 3)), ((8, 6), (3, 2))]
)
def test_upsampling_equals_torch(size, target):
    maps = np.random.default_rng(0).random((2, *size)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(maps)[:, None], target, mode="bilinear")[:, 0]
    np.testing.assert_allclose(objects.upsample(maps, *target), expected.numpy(), atol=1e-6)


def scene(seed, count=4, frames=5, side=12):
    """Objects side by side with random gaps; some hidden in some frames; random sound."""
    rng = np.random.default_rng(seed)
    owner = rng.integers(-1, count, (frames, side, side))
    masks = np.stack([owner == k for k in range(count)])
    masks[0, 1] = False
    return masks, rng.random((count, frames)) > 0.5, rng.random((frames, 4, 4)).astype(np.float16)


def slow_object_accuracy(heat, masks, sounding):
    frames = len(heat)
    full = torch.nn.functional.interpolate(
        torch.from_numpy(heat.astype(np.float32))[:, None], masks.shape[2:], mode="bilinear"
    )[:, 0].numpy()
    scores = []
    for t in range(frames):
        points = []
        for a in range(len(masks)):
            for b in range(len(masks)):
                if sounding[a, t] and not sounding[b, t] and masks[a, t].any() and masks[b, t].any():
                    gap = full[t][masks[a, t]].mean() - full[t][masks[b, t]].mean()
                    points.append(1.0 if gap > 0 else 0.0 if gap < 0 else 0.5)
        scores.append(np.mean(points) if points else np.nan)
    return scores


@pytest.mark.parametrize("seed", range(5))
def test_object_accuracy_equals_a_slow_reference(seed):
    masks, sounding, heat = scene(seed)
    np.testing.assert_allclose(
        objects.object_accuracy(heat, masks, sounding), slow_object_accuracy(heat, masks, sounding)
    )


def test_frames_without_a_pair_are_undefined():
    masks, sounding, heat = scene(0, count=2)
    sounding[:] = [[True, True, True, False, False], [False, True, False, False, True]]
    expected = [True, False, True, False, True]
    masks[:, :] = False
    masks[0, :, :3], masks[1, :, 5:] = True, True
    masks[1, 2] = False  # hidden
    expected[2] = False
    assert (~np.isnan(objects.object_accuracy(heat, masks, sounding))).tolist() == expected


def test_a_flat_map_scores_one_half_and_never_swaps():
    masks, sounding, heat = scene(1)
    sounding[0], sounding[1] = True, False
    flat = np.full_like(heat, 0.5)
    found = objects.object_accuracy(flat, masks, sounding)
    assert set(found[~np.isnan(found)]) == {0.5}
    swapped = objects.swap_accuracy(flat, flat, masks, sounding, masks[1])
    assert set(swapped[~np.isnan(swapped)]) == {0.0}


@pytest.mark.parametrize("seed", range(5))
def test_what_does_not_hear_never_swaps(seed):
    masks, sounding, heat = scene(seed)
    sounding[0], sounding[1] = True, False
    swapped = objects.swap_accuracy(heat, heat, masks, sounding, masks[1])
    assert (~np.isnan(swapped)).sum() >= 4
    assert not swapped[~np.isnan(swapped)].any()


def test_swapping_needs_both_sounds_right():
    masks = np.zeros((3, 1, 4, 12), bool)
    masks[0, 0, :, :4], masks[1, 0, :, 4:8], masks[2, 0, :, 8:] = True, True, True
    sounding = np.array([[True], [False], [True]])
    left, middle = np.zeros((1, 4, 12), np.float16), np.zeros((1, 4, 12), np.float16)
    left[..., :4], middle[..., 4:8] = 1, 1
    swap = objects.swap_accuracy
    assert swap(left, middle, masks, sounding, masks[1]) == [
        0.5
    ]  # object 0 right, object 2 only under the swap
    assert swap(left + middle * 0.5, middle, masks[:2], sounding[:2], masks[1]) == [1.0]
    assert swap(left, left, masks[:2], sounding[:2], masks[1]) == [0.0]
    assert swap(middle, middle, masks[:2], sounding[:2], masks[1]) == [0.0]
    assert swap(middle, left, masks[:2], sounding[:2], masks[1]) == [0.0]
    assert np.isnan(swap(left, middle, masks, sounding, masks[2]))  # heard in the clip already
    assert np.isnan(swap(left, middle, masks, sounding, np.zeros_like(masks[1])))  # silent or hidden
    assert np.isnan(swap(left, middle, masks, sounding & False, masks[1]))


def test_silent_and_false_silent_frames():
    truth = np.zeros((5, 3, 3), bool)
    truth[:3, 0] = True
    masks = np.zeros_like(truth)
    masks[0, 2, 2] = masks[4, 0, 0] = True
    assert objects.silent_accuracy(masks, truth) == 0.5
    assert objects.false_silence_rate(masks, truth) == pytest.approx(2 / 3)
    assert np.isnan(objects.silent_accuracy(masks[:3], truth[:3]))
    assert np.isnan(objects.false_silence_rate(masks[3:], truth[3:]))


def test_shapes_that_do_not_fit_are_named():
    masks, sounding, heat = scene(0)
    with pytest.raises(UsageError, match="as many frames"):
        objects.heat_inside(heat[:2], masks)
    with pytest.raises(UsageError, match="objects, frames"):
        objects.object_accuracy(heat, masks, sounding[:1])


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("grid", [(12, 12), (7, 9), (24, 13)])
def test_what_is_flat_stays_flat(grid, align_corners):
    """Rounding noise would decide medians and ties."""
    values = [np.float16(0.4), *np.random.default_rng(0).uniform(-1, 1, 50).astype(np.float32)]
    for value in values:
        for size in ((224, 224), (100, 333)):
            found = objects.upsample(np.full((1, *grid), value), *size, align_corners)
            assert (found == np.float32(value)).all()
    halves = np.full((1, *grid), np.float16(0.3))
    halves[:, :, grid[1] // 2 :] = np.float16(0.7)
    found = objects.upsample(halves, 224, 224, align_corners)[0]
    assert (found[:, :60] == np.float32(np.float16(0.3))).all()
    assert (found[:, -60:] == np.float32(np.float16(0.7))).all()


def test_a_constant_map_ties_every_pair():
    rng = np.random.default_rng(0)
    for _ in range(50):
        masks = np.zeros((2, 1, 90, 120), bool)
        for mask in masks:
            top, left = rng.integers(0, 60, 2)
            mask[0, top : top + rng.integers(5, 30), left : left + rng.integers(5, 60)] = True
        heat = np.full((1, 12, 12), rng.uniform(0, 1)).astype(np.float16)
        assert objects.object_accuracy(heat, masks, np.array([[True], [False]])) == 0.5
