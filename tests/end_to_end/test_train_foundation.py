"""`moca train` beside ImageBind and LanguageBind at tiny size, with weights from a folder."""

import json

import pytest

from helpers.media_files import bark, images, make_video
from helpers.tiny_imagebind import write_tiny_imagebind
from helpers.tiny_languagebind import write_tiny_languagebind

SMALL = ("--batch", "2", "--neighbours", "1", "--device", "cpu", "--steps", "1", "--count", "2")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for index in range(3):
        make_video(folder / f"{index}.mp4", images(10, 48, 48, seed=index), bark(2, seed=index), fps=5)
    return folder


@pytest.mark.parametrize("preset", ["imagebind", "languagebind"])
def test_train_with_weights_from_a_folder(moca, videos, tmp_path, preset):
    weights = tmp_path / "weights"
    write_tiny_imagebind(weights / "imagebind")
    write_tiny_languagebind(weights)
    chosen = ("--preset", preset, "--weights", weights, "--image-size", "28", "--pairing", "encoder")
    run = tmp_path / "run"
    ended = moca("train", "--data", videos, "--out", run, *SMALL, *chosen)
    assert ended.code == 0, ended.err
    told = json.loads((run / "config.json").read_text())["encoder"]
    assert (told["name"], told["image_size"]) == (preset, 28)
    assert (run / "adapters.safetensors").is_file()


def test_a_model_from_elsewhere(moca, videos, tmp_path):
    folder = write_tiny_imagebind(tmp_path / "here")
    chosen = ("--preset", "imagebind", "--model", f"imagebind={folder}", "--model", "dino=gone")
    options = ("--image-size", "28", "--pairing", "encoder")
    ended = moca("train", "--data", videos, "--out", tmp_path / "run", *SMALL, *chosen, *options)
    assert ended.code == 0, ended.err


def test_weights_that_are_not_there_are_asked_for(moca, videos, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "weights").mkdir()
    chosen = ("--preset", "imagebind", "--weights", tmp_path / "weights")
    ended = moca("train", "--data", videos, "--out", tmp_path / "run", *SMALL, *chosen)
    assert ended.code == 1
    assert ended.err.count("moca: ") == 1
    assert "WEIGHTS/imagebind/ holds" in ended.err
    assert "Traceback" not in ended.err
