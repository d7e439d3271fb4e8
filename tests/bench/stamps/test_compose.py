"""Composites of shapes made here: exact masks, limits of occlusion, determinism."""

from itertools import pairwise

import numpy as np
import pytest

from moca_avs_bench.stamps.compose import OCCLUSION, compose_scene, plain_ground
from moca_avs_bench.stamps.sounds import MARGIN, RATE, Event, compose_sound, decibels, level, room_noise, trim


def disk(color, side=120):
    y, x = np.mgrid[0:side, 0:side] - side / 2 + 0.5
    inside = x**2 + y**2 < (side / 2) ** 2
    rgba = np.zeros((side, side, 4), np.uint8)
    rgba[inside] = (*color, 255)
    return rgba


RED, GREEN, BLUE = disk((230, 20, 20)), disk((20, 230, 20)), disk((20, 20, 230))
GRAY = np.full((300, 400, 3), 128, np.uint8)


@pytest.mark.parametrize("seed", range(6))
def test_masks_lie_where_the_colors_are(seed):
    frames, masks = compose_scene(GRAY, [RED, GREEN], np.random.default_rng(seed), size=192)
    assert frames.shape == (1, 192, 192, 3)
    assert frames.dtype == np.uint8
    assert masks.shape == (2, 1, 192, 192)
    for mask, channel in zip(masks, (0, 1), strict=True):
        strongest = frames.argmax(-1) == channel
        saturated = frames.max(-1).astype(int) - frames.min(-1) > 90
        seen = (strongest & saturated)[0]
        both = (seen & mask[0]).sum() / (seen | mask[0]).sum()
        assert both > 0.9, f"overlap of mask and color is {both:.2f}"


def test_masks_never_overlap_and_no_disk_is_hidden_too_much():
    rng = np.random.default_rng(3)
    for _ in range(30):
        _, masks = compose_scene(GRAY, [RED, GREEN, BLUE], rng, size=128)
        assert masks[:, 0].sum(0).max() <= 1
        for mask in masks[:, 0]:
            rows, columns = np.nonzero(mask)
            # Whole disks fill at least their hull's pi / 4; a tenth may lie outside, a quarter be hidden.
            hull = max(np.ptp(rows), np.ptp(columns)) + 1
            assert mask.sum() > (np.pi / 4 - OCCLUSION - 0.12) * min(hull, np.sqrt(mask.sum() * 2)) ** 2 * 0.6


def test_objects_cover_a_few_hundredths():
    rng = np.random.default_rng(0)
    cover = [compose_scene(GRAY, [RED], rng, size=128)[1].mean() for _ in range(60)]
    assert 0.05 < np.mean(cover) < 0.1
    assert min(cover) > 0.015
    assert max(cover) < 0.16


def test_equal_seeds_give_equal_pixels_and_other_seeds_others():
    one, same, other = (
        compose_scene(GRAY, [RED, GREEN], np.random.default_rng(s), size=96, frames=3, moving=True)
        for s in (5, 5, 6)
    )
    assert (one[0] == same[0]).all()
    assert (one[1] == same[1]).all()
    assert (one[0] != other[0]).any()


def test_objects_move_only_when_asked_to():
    still, masks = compose_scene(GRAY, [RED], np.random.default_rng(1), size=96, frames=4)
    assert (still == still[0]).all()
    assert (masks == masks[:, :1]).all()
    moving, masks = compose_scene(GRAY, [RED], np.random.default_rng(1), size=96, frames=4, moving=True)
    assert (masks[:, 0] != masks[:, 3]).any()
    assert (moving[0] != moving[3]).any()


def test_plain_grounds_are_smooth():
    ground = plain_ground(np.random.default_rng(2), 64).astype(int)
    assert np.abs(np.diff(ground, axis=0)).max() <= 2
    assert np.abs(np.diff(ground, axis=1)).max() <= 2


def tone(seconds, hertz=440.0):
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def click():
    """A short burst, then a long quiet tail: the hardest case for seconds that must be audible."""
    tail = tone(3) * np.exp(-12 * np.arange(3 * RATE) / RATE).astype(np.float32)
    return level(tail, -20.0)


@pytest.mark.parametrize("sound", [tone(0.2), tone(9.0), click()], ids=["short", "long", "fading"])
@pytest.mark.parametrize("seed", range(4))
def test_sounding_seconds_are_loud_and_silent_ones_quiet(sound, seed):
    active = np.array([1, 0, 1, 1, 0], bool)
    mix = compose_sound([Event(sound, active, gain=-8.0)], 5, np.random.default_rng(seed))
    assert mix.sound.shape == (5 * RATE,)
    assert np.abs(mix.sound).max() <= 1
    assert -60 <= mix.room <= -50
    found = np.array([decibels(second) for second in mix.sound.reshape(5, RATE)])
    assert (found[active] > mix.room + MARGIN).all()
    assert (np.abs(found[~active] - mix.room) < 2).all()
    assert (mix.levels[0][~active] == -120).all()
    np.testing.assert_allclose(mix.levels[0][active], found[active], atol=0.5)


def test_each_event_is_heard_in_its_own_seconds():
    low, high = tone(1, 300), tone(1, 3000)
    first = np.array([1, 1, 0], bool)
    mix = compose_sound([Event(low, first), Event(high, ~first)], 3, np.random.default_rng(0))
    for second, hertz in enumerate((300, 300, 3000)):
        spectrum = np.abs(np.fft.rfft(mix.sound[second * RATE : (second + 1) * RATE]))
        assert abs(spectrum.argmax() - hertz) < 5


def test_loud_mixtures_are_not_clipped():
    sound, active = np.full(RATE, 0.9, np.float32), np.ones(2, bool)
    mix = compose_sound([Event(sound, active), Event(sound, active)], 2, np.random.default_rng(0))
    assert 0.9 < np.abs(mix.sound).max() <= 1


def test_trim_cuts_ends_and_shortens_pauses():
    quiet = np.zeros(RATE, np.float32)
    sound = np.concatenate([quiet, tone(0.5), quiet, tone(0.5), quiet])
    assert trim(sound).size / RATE == pytest.approx(0.5 + 0.2 + 0.5, abs=0.12)
    assert trim(quiet).size == quiet.size


def test_level_measures_the_audible_parts():
    half = np.concatenate([tone(1), np.zeros(RATE, np.float32)])
    assert decibels(level(half, -20.0)[:RATE]) == pytest.approx(-20, abs=0.2)
    spike = np.zeros(RATE, np.float32)
    spike[80] = 0.1
    assert np.abs(level(spike, -3.0)).max() == pytest.approx(0.95)


def test_room_noise_has_its_level_and_falls_with_frequency():
    noise = room_noise(4 * RATE, -55.0, np.random.default_rng(0))
    assert decibels(noise) == pytest.approx(-55, abs=0.01)
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [10 * np.log10(power[4 * f : 8 * f].mean()) for f in (100, 200, 400, 800, 1600)]
    assert all(-7 < after - before < -2 for before, after in pairwise(octaves))
