"""Cues of motion on films whose every movement and sound is known."""

from __future__ import annotations

import numpy as np
import pytest

from moca_avs.clip import Clip
from moca_avs.cues.motion import RATE, correlation, loudness, motion, synchrony

FPS, RATE_HZ, SECONDS = 25, 8000, 6.0


def film(beats: np.ndarray, sound_beats: np.ndarray, pan: float = 0.0, seed: int = 0) -> Clip:
    """Left: a patch that jumps at `beats` (seconds); right: one that jumps at other times. Sound: clicks."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(60, 120, (36, 400)).astype(np.float32)
    patch = rng.integers(0, 255, (8, 8)).astype(np.float32)
    times = np.arange(round(SECONDS * FPS)) / FPS
    others = np.sort(rng.uniform(0, SECONDS, len(beats)))
    frames = []
    for step, time in enumerate(times):
        frame = ground[:, round(step * pan) :][:, :64].copy()
        for column, when in ((8, beats), (44, others)):
            row = 6 + 12 * (np.searchsorted(when, time, side="right") % 2)
            frame[row : row + 8, column : column + 8] = patch
        frames.append(frame)
    sound = 0.001 * rng.normal(size=round(SECONDS * RATE_HZ)).astype(np.float32)
    for beat in sound_beats:
        start = round(beat * RATE_HZ)
        sound[start : start + 400] += 0.5 * np.sin(np.arange(len(sound[start : start + 400])))
    return Clip(
        frames=np.zeros((1, 36, 64, 3), np.uint8),
        times=[SECONDS / 2],
        sound=sound,
        sample_rate=RATE_HZ,
        motion_frames=np.array(frames).round().astype(np.uint8),
        motion_times=times,
    )


BEATS = np.sort(np.random.default_rng(7).uniform(0.3, SECONDS - 0.3, 9))


def test_what_moves_with_the_sound_is_found() -> None:
    found = synchrony(film(BEATS, BEATS), 0)
    assert found is not None
    columns = found.shape[1]
    assert found[:, : columns // 2].max() > 2 * found[:, columns // 2 :].max()


def test_another_sound_moves_nothing() -> None:
    wrong = np.sort(np.random.default_rng(8).uniform(0.3, SECONDS - 0.3, 9))
    own, other = synchrony(film(BEATS, BEATS), 0), synchrony(film(BEATS, wrong), 0)
    assert own is not None
    assert other is not None
    assert other.max() < own.max() / 2


def test_motion_is_where_things_move_and_not_where_the_camera_does() -> None:
    still, panned = (motion(film(BEATS, BEATS, pan), 0) for pan in (0.0, 1.0))
    assert still is not None
    assert panned is not None
    assert still[:, 6:18].mean() > 3 * still[:, 22:40].mean()
    assert panned[4:30, 6:18].mean() > panned[4:30, 22:40].mean()


def test_a_still_image_says_nothing() -> None:
    clip = Clip(np.zeros((1, 8, 8, 3), np.uint8), [0.0], np.ones(8000, np.float32), 8000)
    assert motion(clip, 0) is None
    assert synchrony(clip, 0) is None


def test_no_sound_leaves_motion() -> None:
    whole = film(BEATS, BEATS)
    clip = Clip(
        whole.frames,
        whole.times,
        np.zeros(0, np.float32),
        8000,
        motion_frames=whole.motion_frames,
        motion_times=whole.motion_times,
    )
    assert motion(clip, 0) is not None
    assert synchrony(clip, 0) is None


def test_loudness_against_a_loop() -> None:
    clip = film(BEATS, BEATS)
    grid = np.arange(0.5, 2.0, 1 / RATE)
    found = loudness(clip, grid)
    assert found is not None
    for time, level in zip(grid, found, strict=True):
        part = clip.sound[round(time * RATE_HZ) : round((time + 1 / RATE) * RATE_HZ)].astype(np.float64)
        assert level == pytest.approx(max(10 * np.log10((part**2).mean()), -80), abs=0.05)


def test_correlation_is_that_of_numpy_at_the_right_lag() -> None:
    """One position repeats the sound two steps late and is loud: near 1, less what other lags give."""
    rng = np.random.default_rng(5)
    sound = rng.normal(size=150)
    late = np.concatenate([np.zeros(2), sound[:-2]])
    noise = rng.normal(size=150)
    found = correlation(np.stack([late, noise], 1)[:, None, :], sound)
    assert found.shape == (1, 2)
    assert found[0, 0] > 0.7
    assert found[0, 1] < 0.3
