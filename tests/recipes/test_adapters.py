"""The moving scenes that adapters learned from: what moves, when, and what the cue makes of it."""

import numpy as np
import pytest

from helpers.scripts import script_module
from moca_avs import Clip
from moca_avs.cues.motion import synchrony


@pytest.fixture(scope="module")
def recipe():
    with script_module("recipes/lite/adapters.py", "adapters_recipe") as module:
        yield module


def two_objects() -> tuple[np.ndarray, list[np.ndarray]]:
    gray = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    masks = np.zeros((2, 64, 64), np.float32)
    masks[0, 20:40, 4:24] = masks[1, 20:40, 40:60] = 1
    return gray, list(masks)


def test_objects_move_up_as_their_levels_say(recipe) -> None:
    gray, masks = two_objects()
    frames = recipe.bobbing(gray, masks, [np.array([0, 1, 0.5]), np.array([0, 0, 0.25])])
    assert frames.dtype == np.uint8
    expected = np.stack([gray] * 3)
    expected[1, 16:36, 4:24] = gray[20:40, 4:24]  # the loudest moment: SWING = 4 pixels
    expected[2, 18:38, 4:24] = gray[20:40, 4:24]
    expected[2, 19:39, 40:60] = gray[20:40, 40:60]
    np.testing.assert_array_equal(frames, expected)


def test_loudness_in_decibels(recipe) -> None:
    amplitude = np.repeat([1.0, 0.1, 0.0], 2 * recipe.SOUND_RATE)
    found = recipe.loudness((amplitude * np.tile([1, -1], len(amplitude) // 2)).astype(np.float32))
    np.testing.assert_allclose(found, np.repeat([1, 0.5, 0], 50), atol=1e-6)


def test_the_cue_finds_the_object_that_moves_with_the_sound(recipe) -> None:
    rng = np.random.default_rng(1)
    sounds = []
    for starts in ([0.5, 1.9, 3.8, 5.1], [1.2, 2.7, 3.2, 4.5]):
        sound = rng.normal(0, 1e-4, 6 * recipe.SOUND_RATE)
        for start in starts:
            first = round(start * recipe.SOUND_RATE)
            sound[first : first + 4000] += rng.normal(0, 0.1, 4000)
        sounds.append(sound.astype(np.float32))
    gray, masks = two_objects()
    levels = [recipe.loudness(sound) for sound in sounds]
    for heard, other in ((0, 1), (1, 0)):
        times = np.arange(150) / 25
        frames = recipe.bobbing(gray, masks, levels)
        clip = Clip(
            np.zeros((1, 64, 64, 3), np.uint8), np.array([3.0]), sounds[heard], recipe.SOUND_RATE,
            motion_frames=frames, motion_times=times,
        )  # fmt: skip
        found = synchrony(clip, 0)
        scale = found.shape[0] / 64
        y, *x = (int(one * scale) for one in (30, 14, 50))
        assert found[y, x[heard]] > found[y, x[other]] + 0.2
