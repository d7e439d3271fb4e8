"""LanguageBind through the training loop at tiny size, and its run folder back into a method."""

import numpy as np

import moca_avs
from helpers.tiny_languagebind import write_tiny_languagebind
from helpers.tiny_training import TinyData, config
from moca_avs.clip import Clip
from moca_avs.encoders import build_encoder
from moca_avs.hub.huggingface import ModelSources
from moca_avs.training.trainer import train


def test_trains_and_segments_like_any_other(tmp_path):
    weights = write_tiny_languagebind(tmp_path / "weights")
    encoder = build_encoder("languagebind", sources=ModelSources(weights), image_size=28)
    chosen = config(steps=1, count=2, image_size=28, checkpoint_every=1, pairing="encoder")
    run = train(encoder, TinyData(12), chosen, tmp_path / "run", progress=False)
    method = moca_avs.load(str(run), device="cpu", weights=weights, refine="none")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (1, 60, 80, 3)).astype(np.uint8)
    sound = (0.2 * rng.standard_normal(16_000)).astype(np.float32)
    result = method(Clip(frames, np.array([0.5]), sound, 16_000))
    assert result.masks.any()
    assert result.settings["encoder"]["name"] == "languagebind"
