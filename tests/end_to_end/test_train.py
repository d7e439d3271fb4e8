"""`moca train` on a folder of videos, and its run as a preset of `moca segment`."""

import json

import pytest

from helpers.media_files import training_videos
from moca_avs import Segmentation

pytestmark = pytest.mark.weights

SMALL = ("--batch", "2", "--neighbours", "1", "--device", "cpu", "--steps", "2", "--lr", "1e-3")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = training_videos(tmp_path_factory.mktemp("videos"))
    (folder / "notes.txt").write_text("no video")
    return folder


def test_a_run_is_trained_told_resumed_and_used(moca, videos, tmp_path):
    run = tmp_path / "run"
    ended = moca("train", "--data", videos, "--out", run, *SMALL)
    assert ended.code == 0, ended.err
    assert "moca: note: notes.txt is left out: " in ended.err
    assert "device: cpu (asked for)\ndata: 8 frames\n" in ended.out
    assert f"adapters -> {run / 'adapters.safetensors'}" in ended.out
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2]
    assert json.loads((run / "config.json").read_text())["training"]["lr"] == 1e-3

    again = moca("train", "--data", videos, "--out", run, *SMALL)
    assert again.code == 2
    assert "holds this run already, finished; resume it or choose another folder" in again.err
    assert moca("train", "--data", videos, "--out", run, *SMALL, "--resume").code == 0

    segmented = moca("segment", videos / "0.mp4", "-o", tmp_path / "out", "--preset", run, "--device", "cpu")
    assert segmented.code == 0, segmented.err
    settings = Segmentation.load(tmp_path / "out" / "0").settings
    assert settings["method"] == "moca"
    assert len(settings["adapters"]["weights"]) == 64


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--data", "{empty}"), 1, "can be trained on"),
        (("--data", "{gone}"), 1, "is not a folder; expected a folder of videos"),
        (("--data", "{videos}", "--window", "2"), 2, "window must be odd"),
        (("--data", "{videos}", "--steps", "0"), 2, "steps must be"),
        (("--data", "{videos}", "--objective", "magic"), 2, "magic"),
    ],
)
def test_what_can_not_be_trained_is_told(moca, videos, tmp_path, options, code, said):
    (tmp_path / "empty").mkdir()
    sources = {"empty": tmp_path / "empty", "gone": tmp_path / "gone", "videos": videos}
    ended = moca("train", *(option.format(**sources) for option in options), "--out", tmp_path / "run")
    assert ended.code == code
    assert said in ended.err
    assert "Traceback" not in ended.err
