"""Videos whose sound lasts 23 ms, one sample, or not at all: every method, every preset, and training."""

import numpy as np
import pytest

import moca_avs
from helpers.media_files import images, make_video, noise
from moca_avs import Segmentation
from moca_avs.io.video import read_clip

pytestmark = pytest.mark.weights

RATE = 16_000
FRAMES = images(20, 32, 48)
LENGTHS = {"short": 368, "one": 1}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for name, samples in LENGTHS.items():
        sound = noise(1.0, RATE)[:, :samples]
        make_video(folder / f"{name}.mkv", FRAMES, sound, RATE, sound_codec="pcm_s16le", layout="mono")
    make_video(
        folder / "none.mkv", FRAMES, noise(1.0, RATE)[:, :0], RATE, sound_codec="pcm_s16le", layout="mono"
    )
    return folder


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("lite", None),
        ("lite", "frozen"),
        ("lite", "at-gdino-sam"),
        ("lite", "owod-bind"),
        ("lite", "sam-bind"),
        ("lite-soundnet", None),
    ],
)
def test_every_method(videos, preset, name):
    method = moca_avs.load(preset, method=name, device="cpu")
    clips = [read_clip(videos / f"{each}.mkv") for each in ("short", "one", "none")]
    for clip, result in zip(clips, method.predict_batch(clips), strict=True):
        assert np.isfinite(result.heatmaps).all()
        assert np.isfinite(result.scores).all()
        assert [bool(reason) for reason in result.reasons] == [not mask.any() for mask in result.masks]
        heard = [reason not in ("silent", "no sound") for reason in result.reasons]
        assert heard == [len(clip.sound) > 0, False]


def test_the_command_says_why(moca, videos, tmp_path):
    ended = moca("segment", videos, "-o", tmp_path, "--method", "frozen", "--device", "cpu")
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    for name in LENGTHS:
        assert Segmentation.load(tmp_path / name).reasons[1] in ("no sound", "silent")
    assert Segmentation.load(tmp_path / "none").reasons == ("no sound", "no sound")


@pytest.mark.parametrize("objective", ["triplet", "infonce"])
def test_training_on_short_sounds(moca, videos, tmp_path, objective):
    for index in range(4):
        make_video(
            tmp_path / f"videos/{index}.mkv",
            images(20, 48, 64, index) // (index + 1),
            noise(1.0, RATE, seed=index)[:, : (368, 1)[index % 2]],
            RATE,
            sound_codec="pcm_s16le",
            layout="mono",
        )
    options = (
        "--batch",
        "2",
        "--neighbours",
        "1",
        "--steps",
        "2",
        "--device",
        "cpu",
        "--objective",
        objective,
    )
    ended = moca("train", "--data", tmp_path / "videos", "--out", tmp_path / "run", *options)
    assert "Traceback" not in ended.err
    assert ended.code == 0, ended.err
    log = (tmp_path / "run/log.jsonl").read_text()
    assert "NaN" not in log
    assert "Infinity" not in log
