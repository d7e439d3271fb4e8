"""Interlaced videos: no combs, one frame for one, the same times; all else is left alone."""

import av
import numpy as np
import pytest

from helpers.media_files import make_video, shown_times, smooth
from helpers.raw_videos import interlaced, make_interlaced, raw_frame
from moca_avs.io.color import filter_graph
from moca_avs.io.deinterlacing import Deinterlacer
from moca_avs.io.open import MediaWarning
from moca_avs.io.overlay import OverlayWriter
from moca_avs.io.video import read_clip


def moments(count, height=48, width=64):
    """A bright bar that moves 3 pixels from one to the next: uint8 [T, H, W, 3]."""
    frames = np.full((count, height, width, 3), 40, np.uint8)
    for index, frame in enumerate(frames):
        frame[8:40, 3 * index % (width - 8) : 3 * index % (width - 8) + 8] = 220
    return frames


def combs(frames):
    """How much each line differs from the mean of its neighbors."""
    frames = frames.astype(float)
    return np.abs(frames[:, 1:-1] - (frames[:, 2:] + frames[:, :-2]) / 2)[:, 10:36].mean()


@pytest.fixture
def video(tmp_path):
    frames = interlaced(moments(48))
    return make_interlaced(tmp_path / "interlaced.mkv", frames), frames


def test_no_combs_and_one_frame_for_one(tmp_path, video):
    path, frames = video
    with pytest.warns(MediaWarning, match="interlaced"):
        clip = read_clip(path, fps="native")
    assert combs(frames) > 15
    assert combs(clip.frames) < 2
    assert np.abs(clip.times - shown_times(path)).max() < 1e-6
    assert len(clip) == len(frames)
    moment = moments(48).astype(float)  # one of each frame's, whole
    assert min(np.abs(clip.frames - moment[first::2]).mean() for first in (0, 1)) < 2
    with pytest.warns(MediaWarning, match="interlaced"), OverlayWriter(tmp_path / "o.mp4", path) as writer:
        writer.add(0.0, np.zeros(frames.shape[1:3], bool))
    assert combs(read_clip(tmp_path / "o.mp4", fps="native").frames) < 4


@pytest.mark.filterwarnings("ignore:.*interlaced")
@pytest.mark.parametrize("start", [0.0, 0.24, 0.5])
def test_a_stretch_is_that_of_the_whole(video, start):
    path, _ = video
    whole, part = (read_clip(path, fps="native", start=one) for one in (0.0, start))
    assert (part.frames == whole.frames[np.searchsorted(whole.times, start - 1e-6) :]).all()


@pytest.mark.filterwarnings("error")
def test_progressive_videos_are_left_alone(tmp_path):
    frames = np.repeat(smooth()[None], 4, 0)
    clip = read_clip(make_video(tmp_path / "p.mkv", frames, codec="ffv1"), fps="native")
    assert (clip.frames == frames).all()


def flagged(value, two_fields, shape=(48, 64)):
    """A gray frame, interlaced or not."""
    planes = [np.full((side // part, other // part), value, np.uint8)
              for part in (1, 2, 2) for side, other in [shape]]  # fmt: skip
    frame = raw_frame(planes)
    frame.pts = 0
    if not two_fields:
        return frame
    graph = filter_graph(frame, [("setfield", {"mode": "tff"})])
    graph.vpush(frame)
    return graph.vpull()


@pytest.mark.parametrize("fields", ["ppiippip", "iiii", "i", "pi", "ip"])
def test_streams_may_be_mixed_and_change_their_size(fields):
    given = [flagged(40 + 20 * index, one == "i") for index, one in enumerate(fields)]
    given += [flagged(200, fields[-1] == "i", (64, 80)), flagged(220, True, (2, 2))]
    deinterlace = Deinterlacer()
    found = [frame for one in [*given, None] for frame in deinterlace(one)]
    values = [np.frombuffer(memoryview(frame.planes[0]), np.uint8)[0] for frame in found]
    assert values == [40 + 20 * index for index in range(len(fields))] + [200, 220]
    assert [frame.height for frame in found[-2:]] == [64, 2]


def test_a_turned_interlaced_video_stands_upright(tmp_path, video):
    path, _ = video
    turned = tmp_path / "turned.mkv"
    with av.open(str(path)) as source, av.open(str(turned), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with pytest.warns(MediaWarning, match="interlaced"):
        upright, coded = read_clip(turned, fps="native").frames, read_clip(path, fps="native").frames
    assert (upright == np.rot90(coded, 1, (1, 2))).all() or (upright == np.rot90(coded, -1, (1, 2))).all()
