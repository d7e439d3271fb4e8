"""Cuts are planted where we know them; smoothing is compared with a loop."""

import numpy as np
import pytest

from moca_avs.model.shots import find_cuts, same_shot, shot_numbers


def scene(seed, count, speed=1.0, size=(36, 64)):
    """A smooth random picture that drifts by `speed` pixels a frame, a little noisy: uint8 [count, h, w]."""
    rng = np.random.default_rng(seed)
    height, width = size
    waves = [
        (rng.uniform(-3, 3), rng.uniform(-3, 3), rng.uniform(0, 6.3), rng.uniform(10, 30)) for _ in range(8)
    ]
    y, x = np.mgrid[:height, :width] / height
    frames = []
    for step in range(count):
        moved = x + step * speed / height
        picture = 120 + sum(a * np.sin(2 * np.pi * (v * y + u * moved) + p) for u, v, p, a in waves)
        frames.append(picture + rng.normal(0, 2, size))
    return np.clip(np.round(frames), 0, 255).astype(np.uint8)


def times_of(frames, rate=30):
    return np.arange(len(frames)) / rate


@pytest.mark.parametrize("speed", [0.0, 0.3, 1.0])
def test_cuts_are_where_shots_meet(speed):
    shots = [scene(seed, 40 + 10 * seed, speed) for seed in range(5)]
    frames = np.concatenate(shots)
    ends = np.cumsum([len(shot) for shot in shots])[:-1] / 30
    np.testing.assert_allclose(find_cuts(frames, times_of(frames)), ends)


@pytest.mark.parametrize("odd", [1, 2])
def test_a_flash_is_no_cut(odd):
    frames = scene(0, 90, 0.3)
    frames[40 : 40 + odd] = 255
    frames[70 : 70 + odd] = scene(1, odd)  # a picture of its own for a moment
    assert find_cuts(frames, times_of(frames)).size == 0


def test_light_that_stays_on_is_no_cut():
    frames = scene(0, 90, 0.3)
    frames[45:] = np.clip(frames[45:] * 0.6 + 90, 0, 255).astype(np.uint8)
    assert find_cuts(frames, times_of(frames)).size == 0


def test_fast_motion_is_no_cut():
    calm, fast = scene(0, 40, 0.1), scene(0, 40, 3.0)
    frames = np.concatenate([calm, fast])
    assert find_cuts(frames, times_of(frames)).size == 0


def test_a_dissolve_is_no_cut():
    one, other = scene(0, 90, 0.3), scene(1, 90, 0.3)
    share = np.clip((np.arange(90) - 30) / 30, 0, 1)[:, None, None]
    frames = np.round(one * (1 - share) + other * share).astype(np.uint8)
    assert find_cuts(frames, times_of(frames)).size == 0


def test_repeated_frames_do_not_hide_or_make_cuts():
    frames = np.repeat(np.concatenate([scene(0, 30, 0.7), scene(1, 30, 0.7)]), 2, axis=0)
    np.testing.assert_allclose(find_cuts(frames, times_of(frames)), [2.0])


def test_a_cut_to_black():
    frames = np.concatenate([scene(0, 40, 0.3), np.full((30, 36, 64), 4, np.uint8)])
    np.testing.assert_allclose(find_cuts(frames, times_of(frames)), [40 / 30])


def test_a_stretch_agrees_with_the_whole():
    frames = np.concatenate([scene(seed, 50, 0.5) for seed in range(4)])
    times, cuts = times_of(frames), find_cuts(frames, times_of(frames))
    for low in range(0, 140, 7):
        found = find_cuts(frames[low : low + 60], times[low : low + 60])
        inner = (times[low] + 0.5, times[low + 59] - 0.5)
        np.testing.assert_array_equal(
            [cut for cut in found if inner[0] <= cut <= inner[1]],
            [cut for cut in cuts if inner[0] <= cut <= inner[1]],
        )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_almost_nothing(count):
    assert find_cuts(scene(0, count).reshape(count, 36, 64), np.arange(count) / 30).size == 0


def test_shot_numbers():
    cuts = np.array([1.0, 2.5])
    np.testing.assert_array_equal(
        shot_numbers(np.array([0, 0.99, 0.9995, 1.0, 2.4, 2.5, 9]), cuts), [0, 0, 1, 1, 1, 2, 2]
    )
    np.testing.assert_array_equal(shot_numbers(np.array([0.0, 5.0]), np.zeros(0)), [0, 0])


def test_frames_of_the_same_shot():
    frames = np.concatenate([scene(seed, 40, 0.5) for seed in range(3)])
    times = times_of(frames)
    for now, rows in ((0.2, range(40)), (40 / 30, range(40, 80)), (3.9, range(80, 120))):
        np.testing.assert_array_equal(np.flatnonzero(same_shot(frames, times, now)), rows)
    assert same_shot(frames[:0], times[:0], 1.0).shape == (0,)
