"""`Segmentation.save(overlay=True)` gives the overlay of the command, from the saved result alone."""

import numpy as np
import pytest
from PIL import Image

from helpers.color_models import ColorProposer
from helpers.media_files import bark, images, look, make_video, make_wav, shown_times
from helpers.tiny_encoders import TinyConvolution
from moca_avs import Segmentation, read_clip
from moca_avs.errors import MediaError
from moca_avs.inference.inputs import JobSpec
from moca_avs.inference.job import SegmentOptions
from moca_avs.inference.segment import segment_all
from moca_avs.methods.config import MocaConfig
from moca_avs.methods.moca import Moca


def method():
    return Moca(TinyConvolution(), None, ColorProposer(), MocaConfig(clusters=2, window=1.0))


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "a.mp4"
    make_video(path, images(40, 40, 60), sound=bark(4)[None])
    return path


def segment(job, **options):
    (result,) = segment_all([job], method, SegmentOptions(**options), progress=False)
    assert result.state == "done", result.message
    return Segmentation.load(job.folder)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fps": "native"},
        {"limit": 2},
        {"start": 1.0, "end": 2.5},
        {"start": 1.0, "end": 3.5, "fps": "native", "limit": 5},
        {"fps": 2.0, "limit": 3},
    ],
    ids=str,
)
def test_it_shows_the_frames_that_the_command_shows(video, tmp_path, options):
    result = segment(JobSpec(video, tmp_path / "out"), **options)
    again = result.save(tmp_path / "again", overlay=True)
    assert shown_times(again / "overlay.mp4") == shown_times(tmp_path / "out" / "overlay.mp4")
    assert look(again / "overlay.mp4") == look(tmp_path / "out" / "overlay.mp4")


def test_an_image_with_a_sound_and_a_video_with_another_sound(video, tmp_path):
    make_wav(tmp_path / "s.wav", bark(3))
    Image.fromarray(images(1, 40, 60)[0]).save(tmp_path / "dog.png")
    for name, job in (
        ("still", JobSpec(tmp_path / "dog.png", tmp_path / "still", sound=tmp_path / "s.wav", still=True)),
        ("other", JobSpec(video, tmp_path / "other", sound=tmp_path / "s.wav")),
    ):
        again = segment(job).save(tmp_path / f"{name}2", overlay=True)
        assert look(again / "overlay.mp4") == look(tmp_path / name / "overlay.mp4")


def test_a_clip_that_was_read_in_python(video, tmp_path):
    segment(JobSpec(video, tmp_path / "out"))
    whole = method()(str(video)).save(tmp_path / "whole", overlay=True)
    assert look(whole / "overlay.mp4") == look(tmp_path / "out" / "overlay.mp4")
    part = method()(read_clip(video, start=1.0, end=3.0)).save(tmp_path / "part", overlay=True)
    assert len(shown_times(part / "overlay.mp4")) == 20  # two seconds of ten frames


def test_without_its_source_nothing_is_touched(video, tmp_path):
    result = segment(JobSpec(video, tmp_path / "out"))
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    video.unlink()
    with pytest.raises(MediaError, match="the overlay needs the video"):
        result.save(tmp_path / "out", overlay=True)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    arrays = method()(images(2, 40, 60), np.zeros(2000, np.float32) + 0.1, 1000)
    with pytest.raises(MediaError, match="found 'no path'"):
        arrays.save(tmp_path / "arrays", overlay=True)
    assert not (tmp_path / "arrays").exists()
