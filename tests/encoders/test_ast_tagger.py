"""AST through transformers' real classes, at any rate and length, without torchaudio."""

import sys

import numpy as np
import pytest
import torch
import transformers

from helpers.tiny_pretrained import AST_LABELS, write_tiny_ast
from moca_avs.encoders.audio_tagging import AstTagger
from moca_avs.errors import UsageError, WeightsError
from moca_avs.hub.huggingface import ModelSources
from moca_avs.io.audio import resample

RATE = 16_000
WINDOW = round((63 * 0.01 + 0.025) * RATE)  # samples that 64 frames of the tiny front end cover


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return ModelSources(write_tiny_ast(tmp_path_factory.mktemp("weights") / "ast").parent)


@pytest.fixture(scope="module")
def tagger(sources):
    return AstTagger(sources)


def sound(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def reference(sources, samples):
    """Probabilities of one window at the network's own rate, by transformers alone."""
    model = transformers.ASTForAudioClassification.from_pretrained(sources.source("ast"))
    extractor = transformers.ASTFeatureExtractor.from_pretrained(sources.source("ast"))
    inputs = extractor(samples, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits[0].sigmoid().numpy()


def test_labels_are_the_models_own(tagger):
    assert tagger.labels == AST_LABELS
    assert tagger.settings["shortest"] == 0.96
    assert "torchaudio" not in sys.modules


def test_one_second_is_heard_window_by_window(sources, tagger):
    heard = sound(RATE)
    expected = np.maximum(reference(sources, heard[:WINDOW]), reference(sources, heard[WINDOW:]))
    found = tagger(heard, RATE)
    assert (found.dtype, found.shape) == (np.float32, (len(AST_LABELS),))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert 0 < found.min() < found.max() < 1


def test_a_short_sound_is_filled_up_with_silence(sources, tagger):
    heard = sound(3000)
    filled = np.pad(heard, (0, round(0.96 * RATE) - 3000))
    expected = np.maximum(reference(sources, filled[:WINDOW]), reference(sources, filled[WINDOW:]))
    np.testing.assert_allclose(tagger(heard, RATE), expected, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_any_rate(tagger, rate):
    heard = sound(rate)
    np.testing.assert_allclose(tagger(heard, rate), tagger(resample(heard, rate, RATE), RATE), atol=1e-6)


@pytest.mark.parametrize("samples", [1, 399, WINDOW, WINDOW + 1, 2 * WINDOW + 399, 30 * WINDOW])
def test_any_length(tagger, samples):
    found = tagger(sound(samples), RATE)
    assert np.isfinite(found).all()
    assert np.array_equal(found, tagger(sound(samples), RATE))


def test_a_class_counts_as_in_its_clearest_window(tagger):
    first, second = sound(2 * WINDOW, seed=1), sound(2 * WINDOW, seed=2)
    together = tagger(np.concatenate([first, second]), RATE)
    np.testing.assert_allclose(together, np.maximum(tagger(first, RATE), tagger(second, RATE)), atol=1e-5)


def test_silence_has_an_answer(tagger):
    assert np.isfinite(tagger(np.zeros(RATE, np.float32), RATE)).all()


@pytest.mark.parametrize("wrong", [np.zeros(0), np.zeros((2, 100)), np.array([0.0, np.nan])])
def test_what_is_no_sound_is_told(tagger, wrong):
    with pytest.raises(UsageError, match="expected a mono sound of finite samples"):
        tagger(wrong, RATE)


def test_missing_weights_are_one_clear_error(tmp_path):
    with pytest.raises(WeightsError, match="Audio Spectrogram Transformer"):
        AstTagger(ModelSources(models={"ast": str(tmp_path)}))
