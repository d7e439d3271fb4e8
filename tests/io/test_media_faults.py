"""Frames that outlast a stretch's beginning, sample formats, channels that change, streams without stamps."""

from fractions import Fraction

import av
import numpy as np
import pytest

from helpers.media_files import gray_steps, make_video, tone
from moca_avs.inference.carrying import MaskCarrier
from moca_avs.io.audio import level, read_audio
from moca_avs.io.frames import probe
from moca_avs.io.overlay import OverlayWriter
from moca_avs.io.video import read_clip


@pytest.fixture
def slides(tmp_path):
    """Three frames at 0, 1 and 2 s, each shown for a second."""
    return make_video(tmp_path / "slides.mkv", gray_steps(3), fps=1, codec="ffv1")


@pytest.mark.parametrize(
    ("start", "times", "first"), [(0.5, [0.5, 1, 2], 0), (1, [1, 2], 1), (2.9, [2.9], 2)]
)
def test_the_frame_on_screen_at_the_start_is_shown_from_there_on(tmp_path, slides, start, times, first):
    with OverlayWriter(tmp_path / "o.mp4", slides, start=start) as writer:
        writer.add(start, np.zeros((32, 48), bool))
    drawn = read_clip(tmp_path / "o.mp4", fps="native")
    assert drawn.times.tolist() == pytest.approx(np.array(times) - start, abs=2e-3)
    assert np.abs(drawn.frames[0].astype(int) - gray_steps(3)[first]).max() < 6
    carrier = MaskCarrier(slides, 1.0, start, None)
    assert [shown.time for shown in carrier._coming] == pytest.approx(times)


def test_no_frame_is_shown_beyond_the_end_of_the_video(slides):
    with pytest.raises(Exception, match="no frame"):
        read_clip(slides, fps="native", start=3.5)


def test_64_bit_samples_are_read(tmp_path):
    wave = tone(1.0)[0]
    with av.open(str(tmp_path / "a.nut"), "w") as container:
        track = container.add_stream("pcm_s64le", rate=22050, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = 22050, 0
        for one in av.AudioResampler(format="s64").resample(frame):
            container.mux(track.encode(one))
        container.mux(track.encode())
    found, _ = read_audio(tmp_path / "a.nut")
    np.testing.assert_allclose(found, wave, atol=1e-6)


def test_mono_that_becomes_stereo_of_opposite_signs_is_heard(tmp_path):
    wave = tone(2.0)
    mono = make_video(tmp_path / "a.aac", None, wave, layout="mono", form="adts").read_bytes()
    both = make_video(tmp_path / "b.aac", None, np.concatenate([wave, -wave]), layout="stereo", form="adts")
    path = tmp_path / "joined.aac"
    path.write_bytes(mono + both.read_bytes())
    sound, rate = read_audio(path)
    assert level(sound[rate // 2 : rate]) == pytest.approx(level(wave[0]), abs=0.2)
    assert level(sound[-rate : -rate // 2]) == pytest.approx(level(wave[0]), abs=0.2)


@pytest.mark.parametrize("fps", [10, 25])
def test_streams_without_time_stamps_are_counted_packet_by_packet(tmp_path, fps):
    path = tmp_path / "raw.h264"
    with av.open(str(path), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for index in range(25):
            frame = av.VideoFrame(48, 32, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    info = probe(path)
    assert (info.duration, info.fps) == pytest.approx((25 / fps, fps))
    assert read_clip(path, fps="native").times[-1] == pytest.approx(24 / fps)
