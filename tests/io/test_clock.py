"""Time stamps that run backwards or jump by hours; several video tracks."""

from fractions import Fraction

import av
import numpy as np
import pytest

from helpers.media_files import TICK, gray_steps, make_video
from moca_avs.io.clock import LONGEST_GAP, Clock
from moca_avs.io.frames import probe
from moca_avs.io.open import MediaWarning
from moca_avs.io.video import read_clip


def walked(stamps, usual=0.1, stated=0.0, sought=False):
    clock = Clock(usual, stated, sought)
    return [clock.time(stamp) for stamp in stamps], clock


def test_what_can_be_believed_is_kept_to_the_bit():
    stamps = [0.0, 0.1 + 0.2, 1 / 3, 7.7, 7.7 + LONGEST_GAP]
    assert walked(stamps)[0] == stamps
    assert walked([5.0, 5.1], sought=True)[0] == [5.0, 5.1]
    assert walked([500.0, 500.1], sought=True)[0] == [500.0, 500.1]
    assert walked([0.0, 3000.0, 3599.0], stated=3600)[0] == [0.0, 3000.0, 3599.0]


def test_stamps_that_are_missing_or_out_of_order():
    assert walked([None, None, 0.5, 0.4, None])[0] == pytest.approx([0, 0.1, 0.5, 0.6, 0.7])


@pytest.mark.parametrize("far", [1e4, 1e9, -1e4, -1e9])
def test_a_jump_is_cut_whether_or_not_the_stamps_come_back(far):
    plain = np.arange(30) * 0.1
    for there, back in ((10, 30), (10, 20), (10, 11), (0, 30), (0, 5), (29, 30)):
        stamps = plain.copy()
        stamps[there:back] += far
        times, clock = walked(list(stamps))
        assert np.diff(times).min() > 0
        assert times[-1] <= 3.1
        assert np.abs(np.array(times) - plain).max() < 0.11
        assert clock.jumps >= 1


def test_lengths_beyond_belief():
    clock = Clock(0.1, 100.0)
    clock.time(0.0)
    assert clock.length(0.0) == 0.1
    assert clock.length(90.0) == 90.0
    assert clock.length(1e9) == pytest.approx(101)
    assert Clock(86400.0, 0.0).length(0.0) == LONGEST_GAP


def test_a_gap_that_the_frames_own_lengths_do_not_know():
    clock = Clock(0.1, 1e6, timed=True)
    times = []
    for stamp, length in ((0.0, 0.1), (0.1, 500.0), (500.1, 0.1), (9000.0, 0.1), (9000.1, 0.1)):
        times.append(clock.time(stamp))
        assert clock.length(length) == length
    assert times == pytest.approx([0, 0.1, 500.1, 500.2, 500.3])


@pytest.mark.parametrize("ending", [".mkv", ".ts", ".flv"])
def test_hours_between_two_frames_are_not_walked_through(tmp_path, ending):
    """Live recordings, which state no length."""
    times = np.arange(20) * 0.1
    times[10:] += 7 * 3600
    options = {"live": "1"} if ending == ".mkv" else {}
    codec = "mpeg4" if ending == ".flv" else "libx264"
    path = write_stamped(tmp_path / f"jump{ending}", gray_steps(20), times, options, codec)
    with pytest.warns(MediaWarning, match="jump"):
        clip = read_clip(path, fps=5)
    assert len(clip) <= 12
    assert clip.times[-1] < 2.5
    assert clip.frames[-1].mean() == pytest.approx(gray_steps(20)[-1].mean(), abs=30)


def write_stamped(path, frames, times, options, codec):
    """A video with any time stamps, in a container that lets them pass."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264" if codec == "libx264" else "flv1", rate=10)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast", "g": "5", "bf": "0"} if codec == "libx264" else {}
        stream.codec_context.time_base = Fraction(1, 10)
        packets = []
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            packets += stream.encode(frame)
        packets += stream.encode()
        for packet, time in zip(packets, times, strict=True):
            packet.time_base = TICK
            packet.pts = packet.dts = round(time / TICK)
            packet.duration = round(0.1 / TICK)
            container.mux(packet)
    return path


def test_a_slide_show_whose_header_states_its_length_is_believed(tmp_path):
    path = make_video(tmp_path / "slides.mkv", gray_steps(3), times=[0.0, 100.0, 250.0], codec="ffv1", fps=10)
    clip = read_clip(path, fps=0.02)
    assert clip.times == pytest.approx([0, 50, 100, 150, 200, 250])
    assert [int(frame.mean()) for frame in clip.frames] == [20, 20, 43, 43, 43, 66]


def two_tracks(path, sizes, default=None):
    """Flat gray 50, 100, ... in tracks of these sizes (height, width)."""
    with av.open(str(path), "w") as container:
        streams = []
        for index, (height, width) in enumerate(sizes):
            stream = container.add_stream("ffv1", rate=10)
            stream.height, stream.width, stream.pix_fmt = height, width, "bgr0"
            stream.codec_context.time_base = Fraction(1, 10)
            if default is not None:
                stream.disposition = av.stream.Disposition.default if index == default else 0
            streams.append(stream)
        for step in range(5):
            for index, stream in enumerate(streams):
                image = np.full((stream.height, stream.width, 3), 50 + 50 * index, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="bgr0")
                frame.pts, frame.time_base = step, Fraction(1, 10)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("sizes", "default", "chosen"),
    [
        ([(8, 10), (16, 20)], None, 1),
        ([(16, 20), (8, 10), (16, 20)], None, 0),
        ([(16, 20), (8, 10)], 1, 1),
        ([(8, 10), (16, 20), (12, 12)], 0, 0),
    ],
)
def test_of_several_tracks_the_default_or_the_largest_is_taken_and_named(tmp_path, sizes, default, chosen):
    path = two_tracks(tmp_path / "tracks.mkv", sizes, default)
    with pytest.warns(MediaWarning, match=f"{len(sizes)} video tracks; only track {chosen}"):
        clip = read_clip(path)
    assert clip.frames.shape[1:3] == sizes[chosen]
    assert (clip.frames == 50 + 50 * chosen).all()
    assert (probe(path).height, probe(path).width) == sizes[chosen]
