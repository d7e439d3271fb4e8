"""ImageBind through the ordinary training loop at tiny size, and its run folder back into a method."""

import json

import numpy as np
import pytest
import torch

import moca_avs
from helpers.tiny_imagebind import write_tiny_imagebind
from helpers.tiny_training import TinyData, config
from moca_avs.clip import Clip
from moca_avs.encoders import build_encoder
from moca_avs.errors import WeightsError
from moca_avs.hub.huggingface import ModelSources
from moca_avs.model.adapter_file import read_adapter_config
from moca_avs.training.trainer import train


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    write_tiny_imagebind(folder / "imagebind")
    return folder


@pytest.fixture(scope="module")
def run(weights, tmp_path_factory):
    """Six adapted blocks of eight, layout Q, on images of 56 px."""
    encoder = build_encoder("imagebind", sources=ModelSources(weights), image_size=56)
    chosen = config(steps=4, count=6, pairing="encoder", share_sites=True, checkpoint_every=2, image_size=56)
    return train(encoder, TinyData(), chosen, tmp_path_factory.mktemp("runs") / "run", progress=False)


@pytest.fixture
def clip():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 60, 80, 3)).astype(np.uint8)
    return Clip(
        frames, np.array([0.5, 1.5]), (0.2 * rng.standard_normal(44_100 * 2)).astype(np.float32), 44_100
    )


def test_adapters_learn_and_say_whose_they_are(run, weights):
    settings = read_adapter_config(run / "adapters.safetensors")
    encoder = build_encoder("imagebind", sources=ModelSources(weights))
    assert settings["encoder"] == "imagebind"
    assert settings["encoder_hash"] == encoder.weights_hash()
    assert settings["pairs"] == [[2 + i, i] for i in range(6)]
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["gate_max"] > 0


def test_a_run_folder_segments_with_its_own_encoder(run, weights, clip):
    method = moca_avs.load(str(run), device="cpu", weights=weights, refine="none")
    assert method.settings["encoder"]["name"] == "imagebind"
    assert (method.settings["encoder"]["image_size"], method.settings["encoder"]["grid"]) == (56, 4)
    frozen = moca_avs.load(str(run), method="frozen", device="cpu", weights=weights, refine="none")
    results = [one(clip) for one in (method, frozen)]
    assert all(result.masks.shape == (2, 60, 80) and result.masks.any((1, 2)).all() for result in results)
    assert not np.array_equal(results[0].heatmaps, results[1].heatmaps)


def test_the_preset_without_training(weights, clip):
    method = moca_avs.load(
        "imagebind", "frozen", "cpu", models={"imagebind": str(weights / "imagebind")}, refine="none"
    )
    assert method.settings["encoder"]["image_size"] == 224
    assert method(clip).heatmaps.shape == (2, 16, 16)
    with pytest.raises(WeightsError, match="no trained adapters ship with the preset 'imagebind'"):
        moca_avs.load("imagebind", method="moca", device="cpu", weights=weights)


def test_other_weights_are_refused(run, tmp_path):
    write_tiny_imagebind(tmp_path / "imagebind", seed=1)
    with pytest.raises(WeightsError, match="was trained beside weights"):
        moca_avs.load(str(run), device="cpu", weights=tmp_path, refine="none")


def test_training_is_bit_equal_whether_states_are_cached_or_not(weights, tmp_path):
    encoder = build_encoder("imagebind", sources=ModelSources(weights), image_size=28)
    results = []
    for name, limit in (("cached", 10**9), ("on the fly", 0)):
        chosen = config(steps=2, pairing="encoder", image_size=28, checkpoint_every=2)
        out = train(encoder, TinyData(24), chosen, tmp_path / name, progress=False, cache_limit=limit)
        results.append((out / "adapters.safetensors").read_bytes())
    assert results[0] == results[1]
    assert not torch.are_deterministic_algorithms_enabled()
