import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from moca_avs import Clip, Segmentation
from moca_avs.cues.motion import loudness
from moca_avs.errors import MediaError


def clip(**changes):
    fields = {
        "frames": np.zeros((3, 4, 5, 3), np.uint8),
        "times": np.array([0.0, 1.0, 2.0]),
        "sound": np.arange(30, dtype=np.float32) / 100,
        "sample_rate": 10,
    }
    return Clip(**{**fields, **changes})


def test_windows_are_centered_and_shortened_at_the_ends():
    found = [clip().window(index, 1.0) * 100 for index in range(3)]
    np.testing.assert_allclose(found[0], np.arange(0, 5))
    np.testing.assert_allclose(found[1], np.arange(5, 15))
    np.testing.assert_allclose(clip(times=np.array([0.0, 1.0, 2.9])).window(2, 1.0) * 100, np.arange(24, 30))
    assert clip(times=np.array([0.0, 1.0, 9.0])).window(2, 1.0).size == 0


def test_a_sound_that_begins_later_gives_the_same_window():
    whole = clip()
    cut = clip(sound=whole.sound[7:], sound_start=0.7)
    np.testing.assert_array_equal(cut.window(2, 1.0), whole.window(2, 1.0))
    np.testing.assert_array_equal(cut.window(1, 1.0), whole.window(1, 1.0)[2:])


def test_sound_times_take_the_place_of_times():
    found = clip(sound_times=np.array([0.5, 1.5, 2.5])).window(1, 1.0) * 100
    np.testing.assert_allclose(found, np.arange(10, 20))


def test_motion_windows_are_centered_and_shortened_at_the_ends():
    times = np.arange(20) / 8
    small = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 3), np.uint8)
    moving = clip(motion_frames=small, motion_times=times)
    for index, rows in ((0, range(3)), (1, range(6, 11)), (2, range(14, 19))):
        frames, found = moving.motion_window(index, 0.25)
        np.testing.assert_array_equal(frames, small[list(rows)])
        np.testing.assert_array_equal(found, times[list(rows)])
    assert [len(found) for found in clip().motion_window(0)] == [0, 0]


@pytest.mark.parametrize("sound_times", [None, np.array([0.5, 1.5, 2.5])])
def test_a_part_has_fewer_frames_and_all_of_the_sound(sound_times):
    whole = clip(core=slice(1, 2), sound_times=sound_times)
    part = whole.part(slice(1, 3))
    assert (len(part), part.wanted, part.times.tolist()) == (2, range(2), [1.0, 2.0])
    np.testing.assert_array_equal(part.frames, whole.frames[1:])
    np.testing.assert_array_equal(part.window(1, 1.0), whole.window(2, 1.0))


def test_the_length_is_the_number_of_frames():
    assert len(clip()) == 3
    assert len(clip(frames=np.zeros((0, 4, 5, 3), np.uint8), times=np.zeros(0))) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": np.zeros((3, 4, 5, 3), np.float32)}, "frames must be uint8"),
        ({"frames": np.zeros((3, 4, 5), np.uint8)}, r"found uint8 \[3, 4, 5\]"),
        ({"times": np.zeros(2)}, r"float64 \[3\], found float64 \[2\]"),
        ({"times": np.zeros(3, complex)}, "found complex128"),
        ({"frames": np.zeros((3, 3, 4, 5), np.uint8)}, r"channels last\), found uint8 \[3, 3, 4, 5\]"),
        ({"frames": np.zeros((3, 0, 5, 3), np.uint8)}, r"found uint8 \[3, 0, 5, 3\]"),
        ({"frames": [np.zeros((4, 5, 3)), np.zeros((4, 6, 3))]}, "frames must be one array"),
        ({"times": np.array([0, np.nan, 1])}, "times must be finite, in seconds, found nan"),
        ({"sound": np.zeros((2, 30), np.float32)}, "mono float32.*; average the channels"),
        ({"sound": np.zeros(30, np.int16)}, r"found int16 \[30\]; divide by full scale \(32768"),
        (
            {"sound": np.zeros(30, np.uint8)},
            r"found uint8 \[30\]; subtract 128 and divide by full scale \(128",
        ),
        ({"sound": 1e4 * np.sin(np.arange(30))}, r"in \[-1, 1\], found a peak of 9999.*32768"),
        ({"sound": np.array([None, 1])}, "found object"),
        ({"sound": torch.zeros(30, dtype=torch.bfloat16)}, "sound must be one array"),
        ({"sample_rate": 0}, "must be positive"),
        ({"sample_rate": "16000"}, "a number in Hz, found '16000'"),
        ({"sample_rate": None}, "found None"),
        ({"sample_rate": math.nan}, "found nan"),
        ({"sound": np.array([0, np.nan, np.inf], np.float32)}, "2 NaN or infinite"),
        ({"sound_times": np.zeros(2)}, "sound_times"),
        ({"motion_times": np.zeros(2)}, "go together"),
        ({"motion_frames": np.zeros((2, 4, 5), np.float32), "motion_times": np.arange(2)}, "motion_frames"),
        ({"motion_frames": np.zeros((2, 4, 5), np.uint8), "motion_times": np.zeros(2)}, "increasing"),
        ({"motion_frames": np.zeros((2, 4, 5), np.uint8), "motion_times": np.arange(3)}, r"float64 \[2\]"),
    ],
)
def test_bad_clips_are_refused(changes, message):
    with pytest.raises(MediaError, match=message):
        clip(**changes)


def segmentation(**changes):
    fields = {
        "masks": np.zeros((2, 4, 5), bool),
        "heatmaps": np.zeros((2, 2, 2), np.float16),
        "scores": np.zeros(2, np.float32),
        "reasons": ("", "silent"),
        "times": np.zeros(2),
    }
    return Segmentation(**{**fields, **changes})


def test_a_good_segmentation():
    assert len(segmentation()) == 2
    assert segmentation().settings == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("masks", np.zeros((2, 4, 5), np.uint8)),
        ("masks", np.zeros((3, 4, 5), bool)),
        ("heatmaps", np.zeros((2, 2, 2), np.float32)),
        ("heatmaps", np.zeros((2, 2), np.float16)),
        ("scores", np.zeros(2)),
        ("times", np.zeros(3)),
        ("carried_from", np.zeros(3)),
        ("carried_from", np.zeros(2, np.float32)),
    ],
)
def test_bad_segmentations_are_refused(name, value):
    with pytest.raises(MediaError, match=name):
        segmentation(**{name: value})


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
def test_a_window_holds_the_same_samples_wherever_its_clip_begins(rate):
    """Also where its ends fall between two samples."""
    sound = np.arange(20 * rate, dtype=np.float32) / rate / 20
    times = (np.arange(rate, 19 * rate, rate // 2 + 1) + 0.5) / rate
    whole = Clip(np.zeros((len(times), 1, 1, 3), np.uint8), times, sound, rate)
    grid = times[16] + np.arange(30) / 25
    for first in range(0, rate, 1237):
        part = replace(whole, sound=sound[first:], sound_start=first / rate)
        for index in np.flatnonzero(times > 2.2):
            np.testing.assert_array_equal(part.window(index, 2.0), whole.window(index, 2.0))
        np.testing.assert_array_equal(loudness(part, grid), loudness(whole, grid))
