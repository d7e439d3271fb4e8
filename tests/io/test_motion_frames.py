"""Small frames around looked-at ones: compared with decoding all frames and choosing by hand."""

import numpy as np
import pytest

from helpers.media_files import gray_steps, images, make_image, make_video, make_wav, quadrants, tone
from moca_avs.io.frames import fitted_size
from moca_avs.io.motion_frames import SMALL, small_copies
from moca_avs.io.video import as_clip, clip_from_pair, read_clip, stream_clips


def expected(path, looked_at, step=1):
    """Every `step`-th native frame within three seconds of a looked-at one: times and mean gray levels."""
    whole = read_clip(path, fps="native")
    near = (np.abs(whole.times[:, None] - looked_at) <= 3).any(1) & (np.arange(len(whole)) % step == 0)
    return whole.times[near], whole.frames[near].reshape(near.sum(), -1).mean(1)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("motion") / "long.mp4", gray_steps(200), fps=10, sound=tone(20))


@pytest.mark.parametrize(("fps", "start", "end"), [(1.0, 0.0, None), (0.1, 0.0, None), (2.0, 7.0, 9.2)])
def test_every_frame_within_three_seconds_is_there(long_video, fps, start, end):
    clip = read_clip(long_video, fps, start, end)
    times, levels = expected(long_video, clip.times)
    near = (np.abs(clip.motion_times[:, None] - clip.times) <= 3).any(1)
    np.testing.assert_allclose(clip.motion_times[near], times)
    np.testing.assert_allclose(clip.motion_frames[near].mean((1, 2)), levels, atol=4)
    assert (np.abs(clip.motion_times[:, None] - clip.times) <= 3.01).any(1).all()
    assert clip.motion_frames.shape[1:] == (43, 64)


@pytest.mark.parametrize(("fps", "chunk"), [(1.0, 1), (1.0, 4), (0.25, 2), (3.0, 7), ("native", 16)])
def test_a_frame_sees_the_same_whatever_the_chunks(long_video, fps, chunk):
    whole = read_clip(long_video, fps)
    row = 0
    for clip in stream_clips(long_video, fps, chunk):
        for index in range(len(clip)):
            for found, same in zip(clip.motion_window(index), whole.motion_window(row), strict=True):
                np.testing.assert_array_equal(found, same)
            frames, times = clip.motion_window(index, 0.45)
            assert np.abs(times - clip.times[index]).max() <= 0.45
            assert len(frames) == len(times) >= 5
            row += 1
        assert len(clip.motion_times) < 6.1 * 10 + chunk * 10 / (10 if fps == "native" else fps)
    assert row == len(whole)


@pytest.mark.parametrize(("chunk", "context"), [(1, 1), (4, 1), (3, 2), (2, 5), (30, 1), (20, 1)])
def test_chunks_bring_the_frames_around_them(long_video, chunk, context):
    whole, row = read_clip(long_video), 0
    for clip in stream_clips(long_video, 1.0, chunk, context=context):
        assert len(clip.wanted) == min(chunk, len(whole) - row)
        low, high = max(row - context, 0), min(row + len(clip.wanted) + context, len(whole))
        np.testing.assert_array_equal(clip.times, whole.times[low:high])
        np.testing.assert_array_equal(clip.frames, whole.frames[low:high])
        np.testing.assert_array_equal(clip.times[clip.core], whole.times[row : row + len(clip.wanted)])
        for index in range(len(clip)):
            np.testing.assert_array_equal(clip.motion_window(index)[1], whole.motion_window(low + index)[1])
        row += len(clip.wanted)
    assert row == len(whole)


@pytest.mark.parametrize(("rate", "kept"), [(25, 25), (30, 30), (50, 25), (60, 30), (120, 30)])
def test_fast_videos_are_thinned_evenly(tmp_path, rate, kept):
    clip = read_clip(make_video(tmp_path / "fast.mp4", gray_steps(2 * rate), fps=rate))
    assert len(clip.motion_times) == 2 * kept
    np.testing.assert_allclose(np.diff(clip.motion_times), 1 / kept, atol=1e-6)


@pytest.mark.parametrize("turn", [None, (90, False), (180, True)])
def test_small_frames_stand_upright_like_the_large_ones(tmp_path, turn):
    path = make_video(tmp_path / "turned.mp4", np.stack([quadrants(96, 128)] * 3), fps=10, turn=turn)
    clip = read_clip(path, fps="native")
    height, width = clip.frames.shape[1:3]
    assert clip.motion_frames.shape[1:] == fitted_size(height, width, *SMALL)
    copies = small_copies(clip.frames)
    np.testing.assert_allclose(clip.motion_frames.astype(int), copies, atol=12)


def test_sizes():
    assert fitted_size(360, 640, *SMALL) == (36, 64)
    assert fitted_size(1920, 1080, *SMALL) == (64, 36)
    assert fitted_size(100, 2000, *SMALL) == (16, 64)
    assert fitted_size(9, 16, *SMALL) == (36, 64)


def test_small_copies_are_means():
    frames = np.random.default_rng(0).integers(0, 256, (2, 126, 192, 3)).astype(np.uint8)
    gray = frames @ np.array([0.299, 0.587, 0.114])
    expected = gray.reshape(2, 42, 3, 64, 3).mean((2, 4))
    found = small_copies(frames)
    assert found.shape == (2, 42, 64)
    np.testing.assert_allclose(found, expected, atol=1.1)


def test_stills_have_none_and_arrays_where_they_are_dense(tmp_path):
    make_image(tmp_path / "image.png", quadrants())
    make_wav(tmp_path / "sound.wav", tone(2.0))
    assert clip_from_pair(tmp_path / "image.png", tmp_path / "sound.wav").motion_frames is None
    frames = images(16, 36, 64)
    dense = as_clip((frames, np.zeros(2 * 16000, np.float32), 16000))
    np.testing.assert_array_equal(dense.motion_frames, small_copies(frames))
    np.testing.assert_array_equal(dense.motion_times, dense.times)
    assert as_clip((frames, np.zeros(3 * 16000, np.float32), 16000)).motion_frames is None


def test_images_far_apart_have_none_around_the_times_between(tmp_path):
    path = make_video(tmp_path / "slides.mkv", gray_steps(3), times=[0, 10, 20], sound=tone(21.0))
    whole = read_clip(path)
    for clip in stream_clips(path, chunk_frames=1):
        near = np.abs(np.array([0, 10, 20]) - clip.times[0]) <= 3
        np.testing.assert_array_equal(clip.motion_times, np.array([0, 10, 20])[near])
        assert clip.motion_frames.shape == (near.sum(), *whole.motion_frames.shape[1:])


@pytest.mark.parametrize(("chunk", "context"), [(1, 0), (4, 1), (7, 1), (64, 1)])
def test_where_memory_is_short_a_frame_still_sees_the_same(long_video, monkeypatch, chunk, context):
    """Frames too large to be held back for three seconds see less of what follows, in large chunks too."""
    monkeypatch.setattr("moca_avs.io.motion_frames._HELD_BYTES", 12 * 2 * 32 * 48)
    whole, row = read_clip(long_video, "native"), 0
    ahead = [whole.motion_window(index)[1][-1] - whole.times[index] for index in range(100)]
    assert 0.9 < max(ahead) < 1.5
    for clip in stream_clips(long_video, "native", chunk, context=context):
        for index in clip.wanted:
            np.testing.assert_array_equal(clip.motion_window(index)[1], whole.motion_window(row)[1])
            row += 1
    assert row == len(whole)
