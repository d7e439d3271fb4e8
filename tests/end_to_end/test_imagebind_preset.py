"""All five methods as a user meets them, in both presets: `imagebind` on tiny weights of the real classes."""

import json

import numpy as np
import pytest
import torch

from helpers.media_files import bark, images, make_video
from helpers.tiny_encoders import open_gates
from helpers.tiny_imagebind import write_tiny_imagebind
from helpers.tiny_pretrained import write_tiny_weights
from moca_avs import Segmentation
from moca_avs.encoders import build_encoder
from moca_avs.hub.huggingface import ModelSources
from moca_avs.methods import METHODS
from moca_avs.model.adapter import AdapterSet, save_adapters

PARTS = {
    "moca": {"encoder": "imagebind", "proposer": "box-proposals"},
    "frozen": {"encoder": "imagebind", "proposer": "box-proposals"},
    "at-gdino-sam": {"tagger": "ast", "grounder": "grounding-dino", "segmenter": "sam-boxes"},
    "owod-bind": {"encoder": "imagebind", "detector": "openworld-text", "segmenter": "sam-boxes"},
    "sam-bind": {"encoder": "imagebind", "proposer": "sam-grid"},
}
# Random networks are sure of nothing: the thresholds are taken away, so that there is something to see.
OPEN = {
    "at-gdino-sam": ("tag_threshold=0",),
    "owod-bind": ("objectness=0",),
    "sam-bind": (),
    "moca": ("match_iou=0",),
    "frozen": (),
}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Two seconds, two frames; the second one hears nothing."""
    sound = bark(2)
    sound[8820:] = 0
    return make_video(tmp_path_factory.mktemp("video") / "band.mp4", images(10, 64, 96), sound, fps=5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = write_tiny_weights(tmp_path_factory.mktemp("weights"), "sam", "grounding-dino", "ast", "owlv2")
    write_tiny_imagebind(folder / "imagebind")
    return folder


@pytest.fixture(scope="module")
def trained(weights, tmp_path_factory):
    """A folder of adapters, as `moca train --preset imagebind` writes it."""
    encoder = build_encoder("imagebind", "cpu", ModelSources(weights))
    adapters = open_gates(AdapterSet(encoder, count=2, generator=torch.Generator().manual_seed(0)))
    folder = tmp_path_factory.mktemp("run")
    save_adapters(adapters, folder / "adapters.safetensors")
    return folder


def segment(moca, video, out, *options):
    ended = moca("segment", video, "-o", out, "--device", "cpu", *options)
    assert ended.code == 0, ended.err
    return ended, Segmentation.load(out / "band")


@pytest.mark.parametrize("method", list(METHODS))
def test_the_imagebind_preset(moca, video, weights, trained, tmp_path, method):
    preset = trained if method == "moca" else "imagebind"
    choices = [option for setting in OPEN[method] for option in ("--set", setting)]
    options = ("--preset", preset, "--weights", weights, "--method", method, *choices)
    ended, found = segment(moca, video, tmp_path / "out", *options)
    assert f"method: {method} (" in ended.out
    assert "Traceback" not in ended.err
    assert found.masks.shape == (2, 64, 96)
    assert found.heatmaps.shape == (2, 16, 16)
    assert found.reasons == ("", "silent")
    assert found.masks.any((1, 2)).tolist() == [True, False]
    assert found.heatmaps.any((1, 2)).tolist() == [True, False]
    assert {part: found.settings[part]["name"] for part in PARTS[method]} == PARTS[method]
    assert found.settings["working_side"] == 1024
    assert (method == "moca") == bool(found.settings.get("adapters"))
    for setting in OPEN[method]:
        name, value = setting.split("=")
        assert found.settings[name] == json.loads(value)


def test_owlv2_is_the_other_detector(moca, video, weights, tmp_path):
    options = ("--preset", "imagebind", "--weights", weights, "--method", "owod-bind")
    _, found = segment(moca, video, tmp_path, *options, "--set", "detector=owlv2", "--set", "objectness=0")
    assert found.settings["detector"]["name"] == "owl-objectness"
    assert found.masks[0].any()


def test_classes_are_named_from_a_list(moca, video, weights, tmp_path):
    classes = tmp_path / "label2idx.json"
    classes.write_text(json.dumps({"background": 0, "dog": 3, "drum": 9, "guitar": 4, "bird": 5, "man": 6}))
    options = ("--preset", "imagebind", "--weights", weights, "--method", "sam-bind")
    _, found = segment(moca, video, tmp_path / "out", *options, "--set", f"classes={classes}")
    assert found.labels.shape == found.masks.shape
    assert set(np.unique(found.labels)) - {0} <= {3, 4, 5, 6, 9}
    assert found.labels[found.masks].any() or not found.masks.any()
    assert not found.labels[~found.masks].any()


def test_what_is_missing_is_said(moca, video, tmp_path, weights, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    some = tmp_path / "some"
    some.mkdir()
    (some / "imagebind").symlink_to(weights / "imagebind")
    options = ("--preset", "imagebind", "--weights", some, "--method", "sam-bind", "--device", "cpu")
    ended = moca("segment", video, "-o", tmp_path / "out", *options)
    assert ended.code == 1
    assert "WEIGHTS/sam/" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("score=best",), "score must be one of literal, rescaled"),
        (("widow=2",), "unknown settings widow"),
        (("score",), "--set must be NAME=VALUE"),
        (("tagger=ears", "method"), "--set must be NAME=VALUE"),
    ],
)
def test_settings_that_do_not_exist_are_named(moca, video, tmp_path, settings, says):
    choices = [option for setting in settings for option in ("--set", setting)]
    ended = moca("segment", video, "-o", tmp_path, "--method", "owod-bind", "--device", "cpu", *choices)
    assert ended.code == 2
    assert says in ended.err


@pytest.mark.weights
@pytest.mark.parametrize("method", list(METHODS))
def test_the_lite_preset(moca, video, tmp_path, method):
    # Adapters ship for lite-soundnet alone.
    preset = "lite-soundnet" if method == "moca" else "lite"
    small = ("--preset", preset, "--limit", "1", "--set", "image_size=128")
    ended, found = segment(moca, video, tmp_path, "--method", method, *small)
    assert f"method: {method} (" in ended.out
    assert found.masks.shape == (1, 64, 96)
    # Several cues meet on a grid of the frame's own shape.
    assert found.heatmaps.shape == ((1, 16, 24) if method == "frozen" else (1, 4, 4))
    # Nothing in a frame of plain colors looks like what a tone is named.
    assert found.reasons == (("no box",) if method == "at-gdino-sam" else ("",))
    assert found.masks.any() == (method != "at-gdino-sam")
    assert found.settings["method"] == method


@pytest.mark.weights
def test_one_cue_is_the_inference_of_the_paper_and_several_are_not(moca, video, tmp_path):
    one = ("--limit", "1", "--set", "image_size=128", "--set")
    _, paper = segment(moca, video, tmp_path / "paper", "--config", "paper", *one, "refine=none")
    _, alone = segment(moca, video, tmp_path / "alone", *one, "cues=semantic")
    _, deaf = segment(moca, video, tmp_path / "deaf", *one, "cues=motion+objectness")
    assert paper.settings["masks"] == "clusters"
    assert paper.settings["cues"] == alone.settings["cues"] == "semantic"
    assert paper.heatmaps.shape == alone.heatmaps.shape == (1, 4, 4)
    assert "fusion" not in alone.settings
    assert deaf.heatmaps.shape == (1, 16, 24)
    assert 0 <= deaf.scores[0] <= 1


@pytest.mark.weights
def test_lites_parts_go_with_other_encoders(moca, video, weights, tmp_path):
    """Parts are chosen one by one: ImageBind's ears on lite's proposals."""
    options = ("--preset", "imagebind", "--weights", weights, "--method", "sam-bind")
    _, found = segment(moca, video, tmp_path, *options, "--set", "proposals=saliency", "--limit", "1")
    assert (found.settings["encoder"]["name"], found.settings["proposer"]["name"]) == (
        "imagebind",
        "saliency",
    )
