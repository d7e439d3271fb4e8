"""Videos that few programs write: alpha, palette, one pixel, far from zero, live, sizes that change."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from helpers.media_files import bark, gray_steps, make_video, quadrants, smooth
from helpers.raw_videos import make_raw_video
from moca_avs.io.frames import probe
from moca_avs.io.overlay import OverlayWriter
from moca_avs.io.video import read_clip, stream_clips

SIZES = [(1, 1), (1, 3), (3, 1), (2, 5), (5, 2), (7, 9), (63, 1), (1, 63)]


def overlay_size(path, folder, size):
    with OverlayWriter(folder / "overlay.mp4", path) as writer:
        writer.add(0.0, np.ones(size, bool))
    info = probe(folder / "overlay.mp4")
    return info.height, info.width


@pytest.mark.parametrize("turn", [None, (90, False), (180, True)])
@pytest.mark.parametrize("size", SIZES)
def test_any_size_any_way_up(tmp_path, size, turn):
    frames = np.repeat(smooth(*size)[None], 12, 0)
    path = make_video(tmp_path / "v.mov", frames, codec="png", turn=turn)
    clip = read_clip(path)
    expected = size[::-1] if turn == (90, False) else size
    assert clip.frames.shape[1:3] == expected
    assert sorted(clip.frames[0].reshape(-1, 3).tolist()) == sorted(frames[0].reshape(-1, 3).tolist())
    assert max(clip.motion_frames.shape[1:]) == 64
    assert overlay_size(path, tmp_path, expected) == tuple(side + side % 2 for side in expected)


@pytest.mark.parametrize("transfer", [1, 16, 18])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (5, 7), (2, 63)])
def test_any_size_of_ten_bits(tmp_path, size, transfer):
    height, width = size
    half = (height + 1) // 2, (width + 1) // 2
    planes = [np.full(shape, value, np.uint16) for shape, value in ((size, 600), (half, 512), (half, 512))]
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": transfer, "color_range": 1}
    path = make_raw_video(tmp_path / "v.mkv", [planes] * 3, "yuv420p10le", tags=tags)
    clip = read_clip(path)
    assert clip.frames.shape[1:3] == size
    assert np.ptp(clip.frames) <= 1
    assert overlay_size(path, tmp_path, size) == (height + height % 2, width + width % 2)


def test_what_is_transparent_is_black(tmp_path):
    """As in images (`read_image`), so that a picture is the same as PNG and as lossless video."""
    y, chroma = np.full((8, 12), 126, np.uint8), np.full((4, 6), 128, np.uint8)
    for alpha in (0, 255):
        planes = [y, chroma, chroma, np.full((8, 12), alpha, np.uint8)]
        path = make_raw_video(tmp_path / f"{alpha}.mkv", [planes] * 3, "yuva420p")
        assert np.abs(read_clip(path).frames.astype(int) - (128 if alpha else 0)).max() <= 1


def test_a_palette(tmp_path):
    image = Image.fromarray(quadrants()).quantize(8)
    data = io.BytesIO()
    image.save(data, "GIF", save_all=True, append_images=[image.rotate(180)] * 4, duration=200)
    (tmp_path / "a.gif").write_bytes(data.getvalue())
    clip = read_clip(tmp_path / "a.gif", fps="native")
    assert np.abs(clip.frames[0].astype(int) - quadrants()).max() <= 8
    assert np.diff(clip.times) == pytest.approx(0.2, abs=0.02)


def test_a_clock_that_starts_far_from_zero_and_wraps_around(tmp_path):
    """MPEG-TS counts 26.5 hours."""
    frames = gray_steps(60)
    path = make_video(tmp_path / "wrap.ts", frames, bark(6), options={"output_ts_offset": "95440"}, fps=10)
    clip = read_clip(path, fps=2, end=5.9)
    assert clip.times == pytest.approx(np.arange(12) / 2)
    whole = read_clip(path, fps="native")
    assert whole.frames.mean((1, 2, 3)) == pytest.approx(frames.mean((1, 2, 3)), abs=5)
    assert np.diff(whole.times) == pytest.approx(0.1)
    assert len(clip.sound) / clip.sample_rate == pytest.approx(5.9, abs=0.01)
    late = read_clip(path, fps=2, start=4, end=5.9)
    assert late.times == pytest.approx(np.arange(8, 12) / 2)
    assert np.array_equal(late.frames, clip.frames[8:])


@pytest.mark.parametrize("name", ["live.webm", "live.mkv", "live.mp4", "live.flv"])
def test_live_recordings_without_length_or_index(tmp_path, name):
    frames = gray_steps(40)
    options = {"movflags": "frag_keyframe+empty_moov"} if name.endswith("mp4") else {}
    options = {"live": "1"} if name[5:] in ("webm", "mkv") else options
    webm = name.endswith("webm")
    codec, sound_codec, rate = ("libvpx", "libopus", 48000) if webm else ("libx264", "aac", 44100)
    path = tmp_path / name
    stream = io.BytesIO()
    with av.open(stream, "w", format=name[5:] if name[5:] != "mkv" else "matroska", options=options) as out:
        video, sound = out.add_stream(codec, rate=10), out.add_stream(sound_codec, rate=rate, layout="mono")
        video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
        samples = bark(4, rate)[None]
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            out.mux(video.encode(frame))
            part = samples[:, index * rate // 10 : (index + 1) * rate // 10]
            part = np.ascontiguousarray((part * 32767).astype(np.int16) if webm else part)
            heard = av.AudioFrame.from_ndarray(part, "s16" if webm else "fltp", "mono")
            heard.sample_rate = rate
            out.mux(sound.encode(heard))
        out.mux(video.encode())
        out.mux(sound.encode())
    path.write_bytes(stream.getvalue())
    clips = list(stream_clips(path, fps=2, end=3.9))
    times = np.concatenate([clip.times for clip in clips])
    assert times == pytest.approx(np.arange(8) / 2)
    shown = read_clip(path, fps="native").frames.mean((1, 2, 3))
    assert shown == pytest.approx(frames.mean((1, 2, 3)), abs=8)


def test_sizes_that_change_on_the_way(tmp_path):
    """Two raw streams, one after the other: all frames get the size of the first."""
    parts = []
    for name, (height, width), gray in (("a", (48, 64), 60), ("b", (80, 96), 180)):
        frames = np.full((15, height, width, 3), gray, np.uint8)
        parts.append(make_video(tmp_path / f"{name}.h264", frames, form="h264", fps=25).read_bytes())
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(parts))
    clip = read_clip(path, fps="native")
    assert clip.frames.shape[1:3] == (48, 64)
    assert [round(frame.mean() / 60) for frame in clip.frames] == [1] * 15 + [3] * 15
    assert overlay_size(path, tmp_path, (48, 64)) == (48, 64)
