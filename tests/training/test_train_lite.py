"""The loop with the real `lite` networks, small images and few steps."""

import shutil

import pytest
import torch

from helpers.tiny_training import TinyData, config
from moca_avs.encoders import build_encoder
from moca_avs.training.trainer import train

pytestmark = pytest.mark.weights


def test_cache_and_resume_change_no_bit_and_only_adapters_learn(tmp_path) -> None:
    encoder = build_encoder("lite-soundnet", image_size=64, binding=None)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    settings = config(count=6, steps=4, checkpoint_every=2, batch=3, neighbours=2, margin=5.0)

    def run(name: str, **options: object) -> bytes:
        out = train(encoder, TinyData(8), settings, tmp_path / name, progress=False, **options)  # type: ignore[arg-type]
        return (out / "adapters.safetensors").read_bytes()

    cached = run("cached", cache=tmp_path / "cache")
    assert run("computed", cache_limit=0) == cached
    shutil.copytree(tmp_path / "cached", tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed/steps/000004")
    (tmp_path / "killed/adapters.safetensors").unlink()
    assert (tmp_path / "killed/steps/000002/adapters.safetensors").read_bytes() != cached
    assert run("killed", resume=True, cache=tmp_path / "cache") == cached
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not any(weight.requires_grad or weight.grad is not None for weight in encoder.parameters())
