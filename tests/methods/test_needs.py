"""The weights that a choice is said to need are those that its method really asks for, and no others."""

import numpy as np
import pytest

from helpers.tiny_imagebind import write_tiny_imagebind
from helpers.tiny_languagebind import write_tiny_languagebind
from helpers.tiny_pretrained import write_tiny_weights
from moca_avs.clip import Clip
from moca_avs.hub import huggingface, pypi, weight_files
from moca_avs.methods import METHODS, choose_method
from moca_avs.methods.factory import build_method
from moca_avs.methods.needs import PAIRED_BY_DINO, encoder_weights, needed_weights
from moca_avs.proposals.saliency import shipped_saliency
from moca_avs.training.pairs import OWN_PAIRING

pytestmark = pytest.mark.weights

CHOICES = [
    *((preset, method, {}) for preset in ("lite", "imagebind") for method in METHODS if method != "moca"),
    ("languagebind", "frozen", {"refine": "none"}),
    ("languagebind", "sam-bind", {}),
    ("lite", "frozen", {"cues": "semantic", "refine": "none"}),
    ("lite", "owod-bind", {"proposals": "sam-grid", "segmenter": "sam", "detector": "owlv2"}),
    ("lite", "at-gdino-sam", {"tagger": "soundnet", "grounder": "class-maps"}),
    ("imagebind", "frozen", {"cues": "tags+objectness", "proposals": "saliency"}),
    ("imagebind", "frozen", {"cues": "tags+synchrony", "proposals": "superpixels+owl-sam"}),
    ("imagebind", "at-gdino-sam", {"tagger": "yamnet", "grounder": "audioset-maps"}),
    ("imagebind", "sam-bind", {"classes": "{classes}"}),
    ("lite-soundnet", "frozen", {}),
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = write_tiny_weights(tmp_path_factory.mktemp("weights"), "sam", "grounding-dino", "ast", "owlv2")
    write_tiny_imagebind(folder / "imagebind")
    write_tiny_languagebind(folder)
    (folder / "label2idx.json").write_text('{"background": 0, "dog": 1}')
    return folder


@pytest.mark.parametrize(("preset", "method", "settings"), CHOICES, ids=str)
def test_what_is_needed_is_what_is_asked_for(weights, monkeypatch, preset, method, settings):
    asked = set()

    def noting(module, name):
        real = getattr(module, name)

        def noted(what, *rest):
            asked.add(what if isinstance(what, str) else what.name)
            return real(what, *rest)

        return noted

    for name in ("moca_avs.hub.huggingface", "moca_avs.encoders.imagebind", "moca_avs.encoders.languagebind"):
        monkeypatch.setattr(f"{name}.model_folder", noting(huggingface, "model_folder"))
    for name in ("moca_avs.encoders.lite", "moca_avs.encoders.audio_tagging"):
        monkeypatch.setattr(f"{name}.load_asset", noting(weight_files, "load_asset"))
    monkeypatch.setattr("moca_avs.proposals.saliency.package_file", noting(pypi, "package_file"))
    shipped_saliency.cache_clear()
    settings = {name: value.format(classes=weights / "label2idx.json") for name, value in settings.items()}
    choice = choose_method(preset, method, weights, settings=settings)
    built = build_method(choice, "cpu")
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.3, 32_000).astype(np.float32)
    built(Clip(rng.integers(0, 256, (1, 48, 64, 3), np.uint8), np.array([1.0]), sound, 16_000))
    assert asked == set(needed_weights(choice))


def test_training_needs_what_pairs_images_too():
    assert set(PAIRED_BY_DINO) == set(OWN_PAIRING)
    assert encoder_weights("imagebind", "auto") == ["imagebind", "dino"]
    assert encoder_weights("lite", "auto") == encoder_weights("lite") == ["efficientnet-lite0", "yamnet"]
    assert encoder_weights("lite", "dino")[-1] == "dino"
    assert encoder_weights("someone's", "encoder") == []
