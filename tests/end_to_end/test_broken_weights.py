"""Weights that are of another encoder, damaged, or carry code: message and exit code."""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from helpers.media_files import bark, images, make_video
from moca_avs.hub.catalog import ASSETS
from moca_avs.model.adapter import AdapterSet, save_adapters


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("videos") / "good.mp4", images(5, 64, 96), bark(1), fps=5)


@dataclass
class Attack:
    """Unpickling it writes a file."""

    marker: Path

    def __reduce__(self):
        return Path.touch, (self.marker,)


def save_foreign_adapters(folder, name):
    """Adapters of a small random encoder that calls itself `name`."""
    from helpers.tiny_encoders import TinyConvolution

    encoder = TinyConvolution()
    encoder.name = name
    folder.mkdir()
    save_adapters(AdapterSet(encoder, "last", 2, latents=2, bottleneck=4), folder / "adapters.safetensors")
    return folder


def refused(ended, code):
    assert ended.code == code
    assert "Traceback" not in ended.err
    assert ended.err.count("moca: ") == 1
    return ended.err


def test_a_checkpoint_of_an_encoder_nobody_knows(moca, video, tmp_path):
    run = save_foreign_adapters(tmp_path / "run", "tiny")
    said = refused(moca("segment", video, "-o", tmp_path / "out", "--preset", run), 2)
    assert "unknown encoder 'tiny'; there are: lite, imagebind" in said


@pytest.mark.weights
def test_a_checkpoint_trained_beside_other_weights(moca, video, tmp_path):
    run = save_foreign_adapters(tmp_path / "run", "lite")
    said = refused(moca("segment", video, "-o", tmp_path / "out", "--preset", run), 1)
    assert "was trained beside weights" in said
    assert "use the same version of moca-avs, or train again" in said
    assert not (tmp_path / "out").exists()


def test_a_folder_without_adapters(moca, video, tmp_path):
    said = refused(moca("segment", video, "-o", tmp_path / "out", "--preset", tmp_path), 1)
    assert f"{tmp_path} holds no adapters.safetensors" in said


def test_a_weight_file_with_a_wrong_hash(moca, video, tmp_path, monkeypatch):
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path / "cache"))
    asset = ASSETS["efficientnet-lite0"]
    archive = tmp_path / "cache" / "downloads" / asset.archive
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"something else")
    said = refused(moca("segment", video, "-o", tmp_path / "out", "--method", "frozen"), 1)
    assert "has the wrong hash: expected SHA-256" in said
    assert asset.archive_sha256 in said


def test_adapters_that_are_a_pickle_with_code_are_refused_and_not_run(moca, video, tmp_path):
    run, marker = tmp_path / "run", tmp_path / "ran"
    run.mkdir()
    (run / "adapters.safetensors").write_bytes(pickle.dumps(Attack(marker)))
    said = refused(moca("segment", video, "-o", tmp_path / "out", "--preset", run), 1)
    assert "is not a readable safetensors file" in said
    assert not marker.exists()


@pytest.mark.weights
def test_a_checkpoint_state_with_code_is_refused_and_not_run(moca, tmp_path):
    marker, run, videos = tmp_path / "ran", tmp_path / "run", tmp_path / "videos"
    for index in range(3):
        make_video(videos / f"{index}.mp4", images(10, 48, 48, seed=index), bark(2, seed=index), fps=5)
    options = ("--data", videos, "--out", run, "--batch", "2", "--neighbours", "1", "--device", "cpu")
    assert moca("train", *options, "--steps", "1", "--checkpoint-every", "1").code == 0
    (run / "adapters.safetensors").unlink()  # as if killed after its last checkpoint
    torch.save(Attack(marker), run / "steps" / "000001" / "state.pt")
    ended = moca("train", *options, "--steps", "1", "--checkpoint-every", "1", "--resume")
    assert "000001" in refused(ended, 1)
    assert not marker.exists()
    assert json.loads((run / "config.json").read_text())["training"]["steps"] == 1
