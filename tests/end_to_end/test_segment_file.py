"""Reading ahead and writing behind change nothing: not the results, not what is kept where it ends badly."""

from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from helpers.media_files import bark, images, make_video
from helpers.tiny_encoders import TinyConvolution
from moca_avs.clip import Segmentation
from moca_avs.errors import MediaError
from moca_avs.inference.finished import identity
from moca_avs.inference.inputs import JobSpec
from moca_avs.inference.job import SOUND_MARGIN, JobResult, SegmentOptions
from moca_avs.inference.segment import CHUNK_FRAMES, segment_all, segment_file
from moca_avs.io.overlay import OverlayWriter
from moca_avs.io.results import OUTPUTS, SegmentationWriter, is_complete
from moca_avs.io.video import stream_clips
from moca_avs.methods.config import MocaConfig
from moca_avs.methods.moca import Moca
from moca_avs.proposals.superpixels import SuperpixelProposer

pytestmark = pytest.mark.usefixtures("no_thread_is_left")
NATIVE = SegmentOptions(fps="native", profile=True)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """18 frames; silent in the middle."""
    sound = bark(3.6)
    sound[22050 : 2 * 22050] = 0
    frames = images(18, 64, 96)
    frames[:, :, 60:] = np.random.default_rng(0).integers(0, 256, (18, 64, 36, 3))
    return make_video(tmp_path_factory.mktemp("video") / "band.mp4", frames, sound, fps=5)


def method():
    return Moca(
        TinyConvolution(), None, SuperpixelProposer(), MocaConfig(clusters=3, proposals="superpixels")
    )


class Failing:
    """A method that goes wrong at its third chunk."""

    def __init__(self, error):
        self.method, self.error, self.chunks = method(), error, 0
        self.settings = self.method.settings

    def __call__(self, clip):
        self.chunks += 1
        if self.chunks == 3:
            raise self.error
        return self.method(clip)


def run(job, load=method, options=NATIVE):
    outcome = JobResult(job)
    segment_file(job, load, options, outcome, progress=False)
    return outcome


def one_after_the_other(video, folder):
    """What segment_file does, without any thread of ours."""
    chosen = {"fps": "native", "start": 0.0, "end": None, "limit": None}
    chosen |= {"phase": 0.0, "propagate": "none", "outputs": sorted(OUTPUTS)}
    found = method()
    described = {"source": str(video), "sound": None, **chosen, "file": identity(video)}
    settings = {**found.settings, "input": described}
    counted = Counter()
    with (
        SegmentationWriter(folder, settings) as writer,
        OverlayWriter(folder / "overlay.mp4", video) as drawn,
    ):
        for clip in stream_clips(video, "native", CHUNK_FRAMES, SOUND_MARGIN):
            result = found(clip)
            writer.append(result)
            drawn.append(result)
            counted.update(reason for reason in result.reasons if reason)
    return counted


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shown(path):
    """Images as int, their times, and the packets of sound."""
    with av.open(path) as video:
        frames = list(video.decode(video=0))
    with av.open(path) as video:
        sound = [(packet.pts, bytes(packet)) for packet in video.demux(audio=0)]
    images = np.stack([frame.to_ndarray(format="rgb24") for frame in frames]).astype(int)
    return images, [frame.pts for frame in frames], sound


def test_every_file_equals_that_of_doing_one_thing_after_the_other(video, tmp_path):
    outcome = run(JobSpec(video, tmp_path / "a"))
    empty = one_after_the_other(video, tmp_path / "b")
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert a.keys() == b.keys()
    # Under load x264's own threads may decide otherwise, by a bit here and there; nothing else may.
    assert [name for name in a if a[name] != b[name] and name != "overlay.mp4"] == []
    (images_a, times_a, sound_a), (images_b, times_b, sound_b) = (
        shown(tmp_path / name / "overlay.mp4") for name in "ab"
    )
    assert times_a == times_b
    assert sound_a == sound_b
    assert np.abs(images_a - images_b).mean() < 4
    assert outcome.frames == 18
    assert outcome.empty == empty
    assert 0 < empty["silent"] < 18


def test_every_stage_is_counted(video, tmp_path):
    outcome = run(JobSpec(video, tmp_path / "a"))
    stages = {"read", "audio encoder", "image encoder", "proposals", "clustering", "matching", "decide"}
    assert stages | {"masks", "overlay"} <= outcome.seconds.keys()
    assert all(seconds > 0 for seconds in outcome.seconds.values())
    waiting = sum(seconds for name, seconds in outcome.seconds.items() if name.startswith("waiting"))
    inside = ("audio encoder", "image encoder", "clustering", "matching", "decide")
    assert sum(outcome.seconds[name] for name in inside) + waiting <= outcome.wall


def test_a_method_that_fails_midway_keeps_what_was_finished(video, tmp_path):
    job = JobSpec(video, tmp_path / "a")
    (outcome,) = segment_all([job], lambda: Failing(MediaError("broken")), NATIVE, progress=False)
    assert (outcome.state, outcome.message, outcome.frames) == ("failed", "broken", 8)
    assert len(Segmentation.load(job.folder)) == 8
    assert not is_complete(job.folder)


def test_ctrl_c_keeps_what_was_finished(video, tmp_path):
    jobs = [JobSpec(video, tmp_path / "a"), JobSpec(video, tmp_path / "b")]
    outcomes = segment_all(jobs, lambda: Failing(KeyboardInterrupt()), NATIVE, progress=False)
    outcome = next(outcomes)
    assert (outcome.state, outcome.frames) == ("stopped", 8)
    with pytest.raises(KeyboardInterrupt):
        next(outcomes)
    assert len(Segmentation.load(tmp_path / "a")) == 8
    assert not (tmp_path / "b").exists()


def test_a_video_that_breaks_midway_keeps_the_chunks_before(video, tmp_path, monkeypatch):
    def broken(*arguments, **options):
        for index, clip in enumerate(stream_clips(*arguments, **options)):
            if index == 2:
                raise MediaError("the disk is gone")
            yield clip

    monkeypatch.setattr("moca_avs.inference.job.stream_clips", broken)
    job = JobSpec(video, tmp_path / "a")
    (outcome,) = segment_all([job], method, NATIVE, progress=False)
    assert (outcome.state, outcome.message, outcome.frames) == ("failed", "the disk is gone", 8)
    assert len(Segmentation.load(job.folder)) == 8


def test_a_disk_that_is_full_midway_keeps_the_frames_before_and_says_so(video, tmp_path, monkeypatch):
    append, calls = SegmentationWriter._append, []

    def full(writer, result, index):
        calls.append(index)
        if len(calls) > 6:
            raise OSError(28, "No space left on device")
        append(writer, result, index)

    monkeypatch.setattr(SegmentationWriter, "_append", full)
    job = JobSpec(video, tmp_path / "a")
    (outcome,) = segment_all([job], method, NATIVE, progress=False)
    assert (outcome.state, outcome.frames) == ("failed", 6)
    assert "the disk is full" in outcome.message
    assert "The 6 frames finished before are kept" in outcome.message
    assert len(calls) == 7
    assert len(Segmentation.load(job.folder)) == 6


def test_an_input_that_can_not_be_read_loads_no_method_and_leaves_nothing(tmp_path):
    fake = tmp_path / "fake.mp4"
    fake.write_text("no video")
    (outcome,) = segment_all([JobSpec(fake, tmp_path / "a")], lambda: pytest.fail("loaded"), NATIVE, False)
    assert outcome.state == "failed"
    assert not (tmp_path / "a").exists()


def test_what_is_damaged_is_noted_once_and_warned_of_nowhere(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 96, 3), np.uint8)
    video = make_video(tmp_path / "cut.mkv", noise, bark(6), fps=5)
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 6 // 10])
    outcome = run(JobSpec(video, tmp_path / "a"))  # in these tests a warning is an error
    assert any("it was cut off" in note for note in outcome.notes)
    assert len(set(outcome.notes)) == len(outcome.notes)
    assert 10 < outcome.frames < 30
    assert Path(tmp_path / "a" / "overlay.mp4").is_file()
