"""23 ms, one sample and none through every encoder and every tagger: finite, or one clear sentence."""

import numpy as np
import pytest
import torch

from helpers.tiny_imagebind import TINY_SIZES
from helpers.tiny_languagebind import write_tiny_languagebind
from helpers.tiny_pretrained import write_tiny_ast
from moca_avs.encoders import build_encoder
from moca_avs.encoders.audio_tagging import AstTagger, SoundNetTagger, YamnetTagger
from moca_avs.encoders.imagebind import ImageBindEncoder
from moca_avs.encoders.lite import LiteEncoder
from moca_avs.errors import MocaError
from moca_avs.hub.huggingface import ModelSources

RATES = (8000, 16_000, 44_100, 192_000)


def sounds():
    rng = np.random.default_rng(0)
    for rate in RATES:
        for samples in (368, 23, 2, 1):
            yield rng.uniform(-0.5, 0.5, samples).astype(np.float32), rate
            yield np.zeros(samples, np.float32), rate


@pytest.fixture(scope="module", params=["lite", "lite-soundnet", "imagebind", "languagebind"])
def encoder(request, tmp_path_factory):
    if request.param == "imagebind":
        return ImageBindEncoder.random(TINY_SIZES, image_size=56)
    if request.param == "languagebind":
        folder = tmp_path_factory.mktemp("weights")
        return build_encoder("languagebind", sources=ModelSources(write_tiny_languagebind(folder)))
    return LiteEncoder(image_size=64, trunk="soundnet" if request.param == "lite-soundnet" else "yamnet")


@pytest.fixture(scope="module", params=["yamnet", "soundnet", "ast"])
def tagger(request, tmp_path_factory):
    if request.param == "ast":
        return AstTagger(ModelSources(write_tiny_ast(tmp_path_factory.mktemp("weights") / "ast").parent))
    return YamnetTagger() if request.param == "yamnet" else SoundNetTagger(LiteEncoder(trunk="soundnet"))


@pytest.mark.weights
def test_short_sounds_into_every_encoder(encoder):
    prepared = [encoder.prepare_audio(*one) for one in sounds()]
    assert len({one.shape for one in prepared}) == 1
    audio = encoder.encode_audio(torch.stack(prepared[:4] + prepared[-4:]))
    assert audio.embedding.isfinite().all()
    assert all(tokens.isfinite().all() for tokens in audio.tokens.values())
    with pytest.raises(MocaError, match="the sound is empty"):
        encoder.prepare_audio(np.zeros(0, np.float32), 16_000)


@pytest.mark.weights
def test_short_sounds_into_every_tagger(tagger):
    for sound, rate in sounds():
        found = tagger(sound, rate)
        assert np.isfinite(found).all()
        assert ((found >= 0) & (found <= 1)).all()
    with pytest.raises(MocaError, match=r"the sound is empty|expected a mono sound"):
        tagger(np.zeros(0, np.float32), 16_000)
