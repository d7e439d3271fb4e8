from fractions import Fraction

import av
import numpy as np
import pytest

from helpers.media_files import gray_steps, quadrants, shown_times, tone
from moca_avs.errors import MediaError
from moca_avs.io.audio import read_audio
from moca_avs.io.frames import probe
from moca_avs.io.video import read_clip, stream_clips
from moca_avs.io.write_video import VideoTrack, mp4, write_video


def described(path):
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        return video.codec.name, video.pix_fmt, video.codec_context.width, video.codec_context.height


def test_a_video_comes_back(tmp_path):
    frames = gray_steps(20)
    path = write_video(tmp_path / "new/video.mp4", frames, np.arange(20) / 8, tone(2.5)[0], 22050)
    assert described(path) == ("h264", "yuv420p", 48, 32)
    clip = read_clip(path, fps="native")
    np.testing.assert_allclose(clip.times, np.arange(20) / 8, atol=1e-5)
    assert np.abs(clip.frames.astype(int) - frames).max() <= 4
    assert clip.sample_rate == 22050
    np.testing.assert_allclose(clip.sound[: tone(2.5).size], tone(2.5)[0], atol=0.05)
    assert probe(path).duration == pytest.approx(2.5, abs=0.06)
    head = path.read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")  # plays while it loads


def test_colors_survive(tmp_path):
    image = quadrants(64, 96)
    path = write_video(tmp_path / "video.mp4", image[None], np.zeros(1))
    found = read_clip(path).frames[0].astype(int)
    assert np.abs(found - image)[4:28, 4:44].max() <= 6
    assert np.abs(found - image)[36:60, 52:92].max() <= 6
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (
            1,
            1,
            1,
            1,
        )


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 17), (2, 301)])
def test_odd_sizes_get_one_more_row_or_column(tmp_path, height, width):
    image = np.full((1, height, width, 3), 120, np.uint8)
    path = write_video(tmp_path / "video.mp4", image, np.zeros(1))
    assert described(path)[2:] == (width + width % 2, height + height % 2)
    assert np.abs(read_clip(path).frames.astype(int) - 120).max() <= 3


def test_the_largest_frames(tmp_path):
    image = np.full((1, 4320, 7680, 3), 90, np.uint8)
    path = write_video(tmp_path / "video.mp4", image, np.zeros(1))
    assert described(path)[2:] == (7680, 4320)
    (clip,) = stream_clips(path)
    assert clip.frames.shape == image.shape
    assert np.abs(clip.frames[0, ::100, ::100].astype(int) - 90).max() <= 3


def test_irregular_times_are_kept(tmp_path):
    times = np.array([0.0, 0.01, 0.5, 0.52, 3.0])
    path = write_video(tmp_path / "video.mp4", gray_steps(5), times)
    np.testing.assert_allclose(shown_times(path), times, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 6, 8, 11])
def test_channels(tmp_path, channels):
    path = write_video(
        tmp_path / "video.mp4", gray_steps(10), np.arange(10) / 10, tone(1.0, channels=channels), 22050
    )
    assert probe(path).channels == (1 if channels == 11 else channels)
    np.testing.assert_allclose(read_audio(path)[0][2000:20000], tone(1.0)[0][2000:20000], atol=0.1)


@pytest.mark.parametrize(("rate", "written"), [(192000, 96000), (11000, 11025), (4000, 7350)])
def test_rates_that_aac_lacks(tmp_path, rate, written):
    sound = tone(1.0, rate=rate, hertz=200)[0]
    path = write_video(tmp_path / "video.mp4", gray_steps(10), np.arange(10) / 10, sound, rate)
    found, found_rate = read_audio(path)
    assert found_rate == written
    expected = tone(1.0, rate=written, hertz=200)[0][1000:-1000]
    np.testing.assert_allclose(found[1000:][: expected.size], expected, atol=0.1)


@pytest.mark.parametrize(
    ("cores", "height", "width", "threads"),
    [(2, 360, 640, 1), (2, 1080, 1920, 2), (16, 360, 640, 8), (16, 1080, 1920, 8)],
)
def test_a_quick_track_has_threads_where_they_pay(tmp_path, monkeypatch, cores, height, width, threads):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    flat = tuple(np.full(size, 128, np.uint8) for size in ((height, width), *[(height // 2, width // 2)] * 2))
    with mp4(tmp_path / "a.mp4") as container:
        track = VideoTrack(container, height, width, Fraction(25), Fraction(1, 1000), quick=True)
        track.add_planes(flat, 0.0, 0.04)
        with pytest.raises(MediaError, match=r"found \[8, 8\]"):
            track.add_planes((flat[0][:8, :8], flat[1][:4, :4], flat[2][:4, :4]), 0.04, 0.04)
        track.finish()
    about = (tmp_path / "a.mp4").read_bytes()  # the encoder notes its settings in the video
    assert f" threads={threads} ".encode() in about
    assert b" sliced_threads=0 " in about
    assert b" subme=0 " in about
    assert np.abs(read_clip(tmp_path / "a.mp4").frames[0].astype(int) - 130).max() <= 2


def test_what_cannot_be_written(tmp_path):
    frames, times = gray_steps(3), np.arange(3.0)
    for bad in (np.zeros(0), np.array([0.0, 0.0, 1.0]), np.array([-1.0, 0.0, 1.0])):
        with pytest.raises(MediaError, match="increasing times"):
            write_video(tmp_path / "a.mp4", frames, bad)
    with pytest.raises(MediaError, match="found 0 frames"):
        write_video(tmp_path / "a.mp4", [], times)
    with pytest.raises(MediaError, match="3 times, found 2"):
        write_video(tmp_path / "a.mp4", frames[:2], times)
    with pytest.raises(MediaError, match="must all be uint8"):
        write_video(tmp_path / "a.mp4", [frames[0], frames[1, :16], frames[2]], times)
    with pytest.raises(MediaError, match="rate in Hz"):
        write_video(tmp_path / "a.mp4", frames, times, tone(1.0)[0])
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="can't be written"):
        write_video(tmp_path / "file/a.mp4", frames, times)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_video_replaces_an_older_one_whole(tmp_path):
    path = write_video(tmp_path / "a.mp4", gray_steps(3), np.arange(3.0))
    before = path.read_bytes()
    with pytest.raises(MediaError):
        write_video(path, [gray_steps(1)[0], quadrants(8, 8)], np.arange(2.0))
    assert path.read_bytes() == before
    write_video(path, gray_steps(5), np.arange(5.0))
    assert len(shown_times(path)) == 5
