import os
import tracemalloc

import av
import numpy as np
import pytest
from PIL import Image

from helpers.media_files import gray_steps, make_video, make_wav, noise, quadrants, tone
from moca_avs.io import video as decode
from moca_avs.io.audio import block_levels, noise_floor, read_audio
from moca_avs.io.frames import probe
from moca_avs.io.video import clip_from_pair, read_clip, stream_clips, stream_pair

LATE = 0.7e-3  # a little more than containers round times by


def shown_at(times, moments):
    """Slow reference: the index of the frame on screen at each moment."""
    return [
        max([k for k, time in enumerate(times) if time <= moment + LATE], default=0) for moment in moments
    ]


def levels(frames):
    return frames.reshape(len(frames), -1).mean(1)


@pytest.mark.parametrize(
    ("name", "codec", "sound_codec"),
    [
        ("video.mp4", "libx264", "aac"),
        ("video.mov", "libx264", "pcm_s16le"),
        ("video.mkv", "libx264", "flac"),
        ("video.avi", "mpeg4", "pcm_s16le"),
        ("video.ts", "libx264", "aac"),
        ("video.flv", "libx264", "aac"),
    ],
)
def test_every_frame_comes_in_order_with_its_time(tmp_path, name, codec, sound_codec):
    frames = gray_steps(25)
    path = make_video(tmp_path / name, frames, fps=10, sound=tone(2.5), codec=codec, sound_codec=sound_codec)
    clip = read_clip(path, fps="native")
    assert len(clip) == 25
    np.testing.assert_allclose(levels(clip.frames), levels(frames), atol=4)
    # Where sound has priming samples the file may begin up to a packet before the first frame.
    np.testing.assert_allclose(np.diff(clip.times), 0.1, atol=1.1e-3)
    assert 0 <= clip.times[0] < 0.06
    info = probe(path)
    assert (info.has_video, info.has_sound, info.height, info.width, info.rate) == (True, True, 32, 48, 22050)
    assert info.fps == pytest.approx(10, abs=0.1)
    assert info.duration == pytest.approx(2.5, abs=0.25)


@pytest.mark.parametrize("fps", [1.0, 3.0, 7.3, 25.0, 0.4])
def test_sampling_takes_the_frame_on_screen(tmp_path, fps):
    times = np.array([0.0, 0.2, 0.25, 0.9, 1.0, 1.6, 1.633, 2.4, 3.1])
    frames = gray_steps(len(times))
    path = make_video(tmp_path / "vfr.mkv", frames, times=times, codec="ffv1")
    native = read_clip(path, fps="native")
    np.testing.assert_allclose(native.times, times, atol=0.6e-3)
    clip = read_clip(path, fps=fps)
    end = times[-1] + 0.1  # the last frame lasts 1 / 10 s
    moments = [k / fps for k in range(100) if k / fps < end - LATE]
    np.testing.assert_array_equal(clip.times, moments)
    np.testing.assert_array_equal(clip.frames, frames[shown_at(times, moments)])


@pytest.mark.parametrize(
    ("fps", "start", "end"), [(1.0, 0.0, None), (0.4, 0.0, None), (7.3, 0.3, 2.3), (1.0, 0.5, 2.8)]
)
def test_frames_are_looked_at_in_the_middle_of_their_interval(tmp_path, fps, start, end):
    times = np.array([0.0, 0.2, 0.25, 0.9, 1.0, 1.6, 1.633, 2.4, 3.1])
    frames = gray_steps(len(times))
    path = make_video(tmp_path / "vfr.mkv", frames, times=times, codec="ffv1")
    clip = read_clip(path, fps, start, end, phase=0.5)
    assert len(clip) == len(read_clip(path, fps, start, end))  # one frame for each interval, as without
    stop, moments = (times[-1] + 0.1) if end is None else end, []
    for k in range(len(clip)):
        middle, begin = start + (k + 0.5) / fps, start + k / fps
        last = max(time for time in times if time < stop)
        moments.append(middle if middle < stop - LATE else max(begin, last))
    np.testing.assert_allclose(clip.times, moments, atol=LATE)
    np.testing.assert_array_equal(clip.frames, frames[shown_at(times, moments)])
    streamed = list(stream_clips(path, fps, 1, start=start, end=end, phase=0.5))
    np.testing.assert_array_equal([one.times[0] for one in streamed], clip.times)


def test_variable_frame_rate_keeps_its_own_times(tmp_path):
    times = [0.0, 0.04, 0.31, 0.32, 1.5]
    path = make_video(tmp_path / "vfr.mp4", gray_steps(5), times=times)
    np.testing.assert_allclose(read_clip(path, fps="native").times, times, atol=1e-5)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_display_matrix_is_applied(tmp_path, turns, mirrored):
    image = quadrants()
    path = make_video(tmp_path / "turned.mp4", image[None], turn=(90 * turns, mirrored))
    upright = np.rot90(image, turns)
    upright = upright[:, ::-1] if mirrored else upright
    clip = read_clip(path)
    assert clip.frames.shape[1:] == upright.shape
    info = probe(path)
    assert (info.height, info.width) == upright.shape[:2]
    inner = np.abs(clip.frames[0].astype(int) - upright)[4:12, 4:12]
    assert inner.max() < 25


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 17), (2, 4001)])
def test_any_size(tmp_path, height, width):
    image = np.full((1, height, width, 3), 90, np.uint8)
    path = make_video(tmp_path / "video.mkv", image, codec="ffv1", sound=tone(0.5), sound_codec="flac")
    (clip,) = stream_clips(path)
    assert clip.frames.shape == (1, height, width, 3)
    assert (clip.frames == 90).all()
    np.testing.assert_array_equal(clip.times, [0.0])


def test_time_zero_is_where_the_file_begins(tmp_path):
    times = 5 + np.arange(20) / 10
    path = make_video(tmp_path / "video.ts", gray_steps(20), times=times, sound=tone(2.0), sound_start=5.0)
    with av.open(str(path)) as container:
        assert container.start_time > 4_900_000
    clip = read_clip(path, fps="native")
    assert 0 <= clip.times[0] < 0.06
    assert clip.sound_start == 0
    assert clip.sound.size / clip.sample_rate == pytest.approx(2.0, abs=0.1)


def test_sound_that_starts_late_is_in_its_place(tmp_path):
    path = make_video(
        tmp_path / "late.mkv", gray_steps(30), sound=tone(1.0), sound_start=1.5, sound_codec="flac"
    )
    clip = read_clip(path)
    first = np.flatnonzero(np.abs(clip.sound) > 0.01)[0] / clip.sample_rate
    assert first == pytest.approx(1.5, abs=2e-3)
    assert not clip.sound[: round(1.49 * clip.sample_rate)].any()
    assert clip.sound.size / clip.sample_rate == pytest.approx(2.5, abs=2e-3)
    # What was filled in is not part of the recording: it has no say in the noise floor.
    recorded = clip.sound[round(1.5 * clip.sample_rate) :]
    assert clip.noise_floor == pytest.approx(noise_floor(block_levels(recorded, clip.sample_rate)), abs=0.1)


def test_images_that_start_late(tmp_path):
    path = make_video(
        tmp_path / "late.mkv", gray_steps(10), times=1.25 + np.arange(10) / 10, sound=tone(3.0),
        sound_codec="flac", codec="ffv1",
    )  # fmt: skip
    clip = read_clip(path, fps=1.0)
    np.testing.assert_array_equal(clip.times, [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(clip.frames, gray_steps(10)[[0, 0, 7]])


@pytest.mark.parametrize(("image_seconds", "sound_seconds"), [(3, 1), (1, 3)])
def test_lengths_may_differ(tmp_path, image_seconds, sound_seconds):
    path = make_video(
        tmp_path / "video.mkv", gray_steps(10 * image_seconds), sound=tone(sound_seconds), sound_codec="flac"
    )
    clip = read_clip(path)
    assert len(clip) == image_seconds
    assert clip.sound.size == sound_seconds * 22050
    assert sum(len(c) for c in stream_clips(path, chunk_frames=2)) == image_seconds


def test_no_sound_track(tmp_path):
    clip = read_clip(make_video(tmp_path / "mute.mp4", gray_steps(15)))
    assert len(clip) == 2
    assert clip.sound.size == 0
    assert clip.noise_floor is None


def test_a_sound_of_its_own_may_take_the_place_of_the_videos(tmp_path):
    video = make_video(tmp_path / "video.mp4", gray_steps(20), sound=tone(2.0))
    other = make_wav(tmp_path / "other.wav", noise(1.5), rate=8000)
    clip = read_clip(video, sound=other)
    np.testing.assert_array_equal(clip.sound, read_audio(other)[0])
    assert clip.sample_rate == 8000


def test_eight_channels_at_96_khz(tmp_path):
    planes = noise(1.0, rate=96000, channels=8)
    path = make_video(
        tmp_path / "video.mkv", gray_steps(10), sound=planes, rate=96000, sound_codec="pcm_f32le"
    )
    clip = read_clip(path)
    assert clip.sample_rate == 96000
    np.testing.assert_allclose(clip.sound, planes.mean(0), atol=1e-6)
    assert probe(path).channels == 8


@pytest.mark.parametrize("name", ["video.mp4", "video.mkv", "video.ts", "video.avi"])
def test_a_stretch_is_cut_out_exactly(tmp_path, name):
    codec, sound_codec = ("mpeg4", "mp3") if name.endswith("avi") else ("libx264", "aac")
    path = make_video(
        tmp_path / name, gray_steps(120), sound=noise(12.0), codec=codec, sound_codec=sound_codec
    )
    whole = read_clip(path, fps="native")
    for start, end in [(3.333, 4.2), (0.0, 1.0), (11.05, None), (7.0, 7.11)]:
        part = read_clip(path, fps="native", start=start, end=end)
        last = np.inf if end is None else end
        inside = (whole.times >= start - 6e-4) & (whole.times < last - 6e-4)
        np.testing.assert_array_equal(part.frames, whole.frames[inside])
        np.testing.assert_allclose(part.times, whole.times[inside])
        low, high = (round(min(edge, 99) * whole.sample_rate) for edge in (start, last))
        np.testing.assert_array_equal(part.sound, whole.sound[low:high])
        assert part.sound_start == pytest.approx(start, abs=1e-4)
        assert part.noise_floor == whole.noise_floor


def test_samples_of_a_stretch_begin_with_the_stretch(tmp_path):
    path = make_video(tmp_path / "video.mkv", gray_steps(60), codec="ffv1")
    clip = read_clip(path, fps=2.0, start=1.25, end=3.0)
    np.testing.assert_allclose(clip.times, [1.25, 1.75, 2.25, 2.75])
    np.testing.assert_array_equal(clip.frames, gray_steps(60)[[12, 17, 22, 27]])


@pytest.mark.parametrize("fps", [1.0, "native"])
def test_streaming_gives_what_reading_gives(tmp_path, fps):
    path = make_video(tmp_path / "video.mp4", gray_steps(95), sound=noise(9.5, rate=16000), rate=16000)
    whole = read_clip(path, fps=fps)
    clips = list(stream_clips(path, fps=fps, chunk_frames=4, margin=2.0))
    assert max(map(len, clips)) == 4
    np.testing.assert_array_equal(np.concatenate([clip.frames for clip in clips]), whole.frames)
    np.testing.assert_array_equal(np.concatenate([clip.times for clip in clips]), whole.times)
    windows = [clip.window(k, 2.0) for clip in clips for k in range(len(clip))]
    for index, window in enumerate(windows):
        np.testing.assert_array_equal(window, whole.window(index, 2.0))
    assert all(clip.noise_floor == whole.noise_floor for clip in clips)
    assert clips[-1].sound_start > 5


def test_the_noise_floor_is_that_of_the_whole_recording(tmp_path):
    sound = noise(8.0)
    sound[:, : 4 * 22050] *= 1e-3
    path = make_video(tmp_path / "video.mkv", gray_steps(80), sound=sound, sound_codec="pcm_f32le")
    whole = noise_floor(block_levels(sound[0], 22050))
    for clip in stream_clips(path, chunk_frames=1, margin=0.5):
        assert clip.noise_floor == pytest.approx(whole, abs=1e-6)


def test_nothing_grows_with_length(tmp_path):
    def peak(minutes):
        path = make_video(
            tmp_path / f"{minutes}.mkv", gray_steps(60 * minutes, 8, 8), fps=1, codec="ffv1",
            sound=noise(60.0 * minutes, rate=4000), rate=4000, sound_codec="pcm_s16le",
        )  # fmt: skip
        tracemalloc.start()
        count = sum(len(clip) for clip in stream_clips(path))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == 60 * minutes
        return size

    peak(1)  # first use imports things
    short, long = peak(2), peak(5)
    # Three minutes of sound alone would be 2.9 MB; the levels of the noise floor are 8 bytes for 0.05 s.
    assert long - short < 400_000


def test_large_frames_share_a_clip_with_fewer_others(tmp_path, monkeypatch):
    path = make_video(tmp_path / "video.mp4", gray_steps(10))
    monkeypatch.setattr(decode, "_CHUNK_BYTES", 3 * 32 * 48 * 3)
    assert [len(clip) for clip in stream_clips(path, fps="native")] == [3, 3, 3, 1]
    monkeypatch.setattr(decode, "_CHUNK_BYTES", 1)
    assert {len(clip) for clip in stream_clips(path, fps="native")} == {1}


def test_a_image_and_a_sound_make_a_clip(tmp_path):
    Image.fromarray(quadrants()).save(tmp_path / "a.png")
    make_wav(tmp_path / "a.wav", noise(2.5))
    clip = clip_from_pair(tmp_path / "a.png", tmp_path / "a.wav", fps=2.0)
    np.testing.assert_array_equal(clip.times, [0.0, 0.5, 1.0, 1.5, 2.0])
    assert clip.frames.shape == (5, 32, 48, 3)
    assert clip.frames.strides[0] == 0  # one image's memory
    assert (clip.frames == quadrants()).all()
    np.testing.assert_array_equal(clip.sound, read_audio(tmp_path / "a.wav")[0])
    clips = list(stream_pair(tmp_path / "a.png", tmp_path / "a.wav", fps=2.0, chunk_frames=2))
    assert [len(c) for c in clips] == [2, 2, 1]
    np.testing.assert_array_equal(clips[1].window(0, 1.0), clip.window(2, 1.0))


def test_a_short_sound_still_makes_one_frame(tmp_path):
    Image.fromarray(quadrants()).save(tmp_path / "a.png")
    make_wav(tmp_path / "a.wav", noise(0.1))
    assert len(clip_from_pair(tmp_path / "a.png", tmp_path / "a.wav")) == 1


def test_a_raw_stream_has_no_clock_but_a_rate(tmp_path):
    path = make_video(tmp_path / "video.h264", gray_steps(50), form="h264", fps=25)
    whole = read_clip(path, fps="native")
    assert len(whole) == 50
    assert (np.diff(whole.times) > 0).all()
    part = read_clip(path, fps="native", start=1.0)
    np.testing.assert_array_equal(part.frames, whole.frames[whole.times >= 1.0 - 6e-4])


def test_a_size_that_changes_on_the_way_is_that_of_the_first_frame(tmp_path):
    small = make_video(tmp_path / "a.ts", gray_steps(10, 32, 48))
    large = make_video(tmp_path / "b.ts", gray_steps(10, 64, 80), times=1 + np.arange(10) / 10)
    joined = tmp_path / "c.ts"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    clip = read_clip(joined, fps="native")
    assert clip.frames.shape == (20, 32, 48, 3)
    np.testing.assert_allclose(levels(clip.frames[10:]), levels(gray_steps(10)), atol=4)


def test_odd_file_names_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "video.mp4", gray_steps(3))
    for name in ("12:30.mp4", "-.mp4", "pipe:0", "ä %03d.mp4"):
        os.link("video.mp4", name)
        assert len(read_clip(name)) == 1
