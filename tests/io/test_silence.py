"""Levels against known signals; the gate against rooms, barks, steady tones and padding."""

import math

import numpy as np
import pytest

from moca_avs.errors import UsageError
from moca_avs.io.audio import LOWEST, SilenceConfig, block_levels, is_silent, level, noise_floor, silence

RATE = 16000


def room(seconds, dbfs, slope, seed=0):
    """Noise falling by 6 * slope dB an octave above 40 Hz (0 white, 0.5 pink, 1 brown), RMS `dbfs`."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(seconds * RATE))
    frequency = np.maximum(np.fft.rfftfreq(seconds * RATE, 1 / RATE), 40)
    noise = np.fft.irfft(spectrum / frequency**slope, seconds * RATE)
    return (noise * 10 ** (dbfs / 20) / np.sqrt((noise**2).mean())).astype(np.float32)


def tone(seconds, dbfs, hz=440.0):
    time = np.arange(round(seconds * RATE)) / RATE
    return (math.sqrt(2) * 10 ** (dbfs / 20) * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def gate(sound, config=None):
    """Which seconds of a recording are silent."""
    floor = noise_floor(block_levels(sound, RATE), config)
    return [is_silent(sound[i : i + RATE], RATE, floor, config) for i in range(0, len(sound), RATE)]


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_levels_are_dbfs(rate):
    time = np.arange(rate) / rate
    assert level(np.sign(np.sin(2 * np.pi * 100 * time + 0.1)).astype(np.float32)) == pytest.approx(0)
    assert level(np.sin(2 * np.pi * 100 * time).astype(np.float32)) == pytest.approx(-3.0103, abs=1e-3)
    assert level(np.full(rate, 0.01, np.float32)) == pytest.approx(-40)


def test_digital_silence_has_a_level():
    assert level(np.zeros(100, np.float32)) == LOWEST
    assert level(np.zeros(0, np.float32)) == LOWEST
    assert block_levels(np.zeros(0, np.float32), RATE).tolist() == [LOWEST]


def test_blocks_are_counted_and_measured_one_by_one():
    sound = np.concatenate(
        [np.full(800, a, np.float32) for a in (1, 0.1, 0, 0.001)] + [np.ones(799, np.float32)]
    )
    levels = block_levels(sound, RATE, 0.05)
    assert levels.dtype == np.float64
    np.testing.assert_allclose(levels, [0, -20, LOWEST, -60], atol=1e-4)
    np.testing.assert_allclose(block_levels(np.full(10, 0.1, np.float32), RATE, 0.05), [-20], atol=1e-4)


@pytest.mark.parametrize("slope", [0, 0.5, 1])
@pytest.mark.parametrize("dbfs", [-70, -60, -55, -50])
def test_a_room_is_silent_and_a_voice_in_it_is_not(dbfs, slope):
    for seed in range(10):
        sound = room(6, dbfs, slope, seed)
        assert gate(sound) == [True] * 6
        sound[2 * RATE : 4 * RATE] += tone(2, max(dbfs + 15, -58))
        assert gate(sound) == [True, True, False, False, True, True]


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_one_short_bark_is_enough(at):
    sound = room(5, -52, 0.7)
    start = round((2 + at) * RATE)
    sound[start : start + RATE // 10] += tone(0.1, -25)
    assert gate(sound) == [True, True, False, True, True]


@pytest.mark.parametrize("dbfs", [-20, -30, -44])
def test_what_is_loud_throughout_is_no_room_noise(dbfs):
    assert gate(tone(5, dbfs)) == [False] * 5
    assert gate(room(5, dbfs + 1, 0)) == [False] * 5


def test_padding_with_zeros_does_not_hide_the_room():
    padded = np.concatenate([np.zeros(3 * RATE, np.float32), room(3, -50, 1)])
    assert gate(padded) == [True] * 6
    padded[4 * RATE : 5 * RATE] += tone(1, -30)
    assert gate(padded) == [True] * 4 + [False, True]


def test_zeros_around_a_sound():
    sound = np.zeros(5 * RATE, np.float32)
    sound[RATE : 2 * RATE] = tone(1, -40)
    assert gate(sound) == [True, False, True, True, True]


def test_sounds_at_every_level_above_the_room_are_heard():
    """The other side of the gate: few false silences in real-looking seconds."""
    rng = np.random.default_rng(0)
    wrong = 0
    for seed in range(60):
        dbfs = rng.uniform(-60, -50)
        sound = room(5, dbfs, rng.uniform(0.5, 1), seed)
        for second in range(4):
            sound[second * RATE : (second + 1) * RATE] += tone(1, rng.uniform(dbfs + 15, -10), 80 * 2**second)
        wrong += sum(gate(sound)[:4]) + (not gate(sound)[4])
    assert wrong <= 2


def test_the_levels_can_be_set():
    sound = tone(2, -50)
    assert gate(sound, SilenceConfig(ceiling=-80)) == [False, False]
    assert gate(sound, SilenceConfig(absolute=-40, ceiling=-80)) == [True, True]
    assert gate(room(2, -50, 0), SilenceConfig(margin=0)) == [False, False]
    with pytest.raises(UsageError, match="block must be positive"):
        SilenceConfig(block=0)


def test_an_empty_window_is_silent():
    assert is_silent(np.zeros(0, np.float32), RATE, -60)


OWN_FLOOR = "not above the recording's own floor"


def reasons(sound):
    """Of each second of a recording."""
    levels = block_levels(sound, RATE)
    floor, loudest = noise_floor(levels), levels.max()
    return [silence(sound[i : i + RATE], RATE, floor, loudest) for i in range(0, len(sound), RATE)]


@pytest.mark.parametrize("dbfs", [-58, -50, -46])
def test_a_steady_quiet_sound_is_not_called_silent(dbfs):
    for steady in (
        tone(5, dbfs),
        tone(5, dbfs, 100) + room(5, dbfs - 20, 0.5),
        room(5, dbfs + 1, 0),
        room(5, dbfs, 1),
    ):
        assert reasons(steady) == [OWN_FLOOR] * 5
        assert gate(steady) == [True] * 5


def test_a_pause_is_silent_though_the_room_is_not():
    sound = room(5, -50, 0.5)
    sound[2 * RATE : 3 * RATE] += tone(1, -20)
    assert reasons(sound) == ["silent", "silent", "", "silent", "silent"]


def test_digital_silence_and_what_is_below_the_absolute_level_are_silent():
    assert reasons(np.zeros(2 * RATE, np.float32)) == ["silent"] * 2
    assert reasons(tone(2, -65)) == ["silent"] * 2
    assert reasons(np.concatenate([tone(1, -50), np.zeros(RATE, np.float32)])) == [OWN_FLOOR, "silent"]


def test_without_the_recordings_loudest_part_it_is_silent():
    assert silence(tone(1, -50), RATE, -50.0) == "silent"
    assert silence(tone(1, -30), RATE, -50.0) == ""
    assert silence(np.zeros(0, np.float32), RATE, -60.0) == "silent"
