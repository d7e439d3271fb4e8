"""Pixels that are not square: told to players, or made square."""

from fractions import Fraction

import av
import numpy as np
import pytest

from helpers.media_files import smooth
from helpers.raw_videos import make_raw_video
from moca_avs.clip import Segmentation
from moca_avs.io.frames import coded_aspect, probe
from moca_avs.io.open import pixel_aspect
from moca_avs.io.overlay import OverlayWriter, overlay_writer
from moca_avs.io.video import read_clip, stream_clips


def video(path, aspect, turn=None, height=36, width=48):
    image = smooth(height, width)
    planes = [np.ascontiguousarray(image[..., channel]) for channel in range(3)]
    return make_raw_video(path, [planes] * 5, "yuv444p", aspect=aspect, turn=turn)


def overlay_of(path, source, size, **options):
    with OverlayWriter(path, source, **options) as writer:
        writer.add(0.0, np.zeros(size, bool))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.height, stream.width, pixel_aspect(stream)


@pytest.mark.parametrize("turn", [None, (90, False), (-90, True), (180, False)])
@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(16, 11), Fraction(8, 9)])
def test_the_aspect_is_kept_or_made_square(tmp_path, aspect, turn):
    path = video(tmp_path / "v.mkv", aspect, turn)
    turned = turn is not None and abs(turn[0]) == 90
    coded, square = (36, 48), (36, round(48 * aspect))
    if turned:
        coded, square, aspect = coded[::-1], square[::-1], 1 / aspect
    assert read_clip(path).frames.shape[1:3] == coded
    assert probe(path).pixel_aspect == aspect
    assert overlay_of(tmp_path / "o.mp4", path, coded) == (*coded, aspect)
    clip = read_clip(path, square_pixels=True)
    assert clip.frames.shape[1:3] == square
    assert max(clip.motion_frames.shape[1:]) == 64
    assert clip.motion_frames.shape[1] / clip.motion_frames.shape[2] == pytest.approx(
        square[0] / square[1], 0.05
    )
    assert all((one.frames == clip.frames).all() for one in stream_clips(path, square_pixels=True))
    found = overlay_of(tmp_path / "s.mp4", path, square, square_pixels=True)
    assert found == (square[0] + square[0] % 2, square[1] + square[1] % 2, 1)
    assert np.abs(clip.frames.mean((0, 1, 2)) - read_clip(path).frames.mean((0, 1, 2))).max() < 2


def test_the_container_has_the_last_word(tmp_path):
    """The codec says 4:3; MP4 gets another ratio of its own ("pasp", patched here)."""
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 36, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        image = av.VideoFrame.from_ndarray(smooth(36, 48), format="rgb24")
        container.mux(stream.encode(image.reformat(format="yuv420p")))
        container.mux(stream.encode())
    assert probe(path).pixel_aspect == Fraction(4, 3)
    data = path.read_bytes()
    old, new = (b"pasp" + width.to_bytes(4, "big") + (3).to_bytes(4, "big") for width in (4, 5))
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    assert probe(path).pixel_aspect == Fraction(5, 3)


@pytest.mark.parametrize("aspect", [None, Fraction(1), Fraction(1, 500), Fraction(300)])
def test_square_absent_or_absurd(tmp_path, aspect):
    path = video(tmp_path / "v.mkv", aspect)
    assert coded_aspect(path) == 1
    assert read_clip(path, square_pixels=True).frames.shape[1:3] == (36, 48)


def test_a_saved_result_remembers(tmp_path):
    path = video(tmp_path / "v.mkv", Fraction(2))
    masks = np.zeros((1, 36, 96), bool)
    given = {"source": str(path), "fps": 1.0, "start": 0.0, "end": None, "square_pixels": True}
    result = Segmentation(
        masks, np.zeros((1, 2, 2), np.float16), np.zeros(1, np.float32), ("",), np.zeros(1), {"input": given}
    )
    with overlay_writer(result, tmp_path / "o.mp4") as writer:
        writer.append(result)
    assert probe(tmp_path / "o.mp4").width == 96
