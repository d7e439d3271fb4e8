"""SoundNet as a tagger: a posterior over ImageNet's classes."""

import numpy as np
import pytest

from moca_avs.encoders.audio_tagging import SoundNetTagger
from moca_avs.encoders.lite import LiteEncoder

pytestmark = pytest.mark.weights


def test_it_says_what_the_networks_own_head_says():
    encoder = LiteEncoder(image_size=224, trunk="soundnet")
    tagger = SoundNetTagger(encoder)
    sound = (0.2 * np.random.default_rng(0).standard_normal(30_000)).astype(np.float32)
    posterior = tagger(sound, 22_050)
    logits = encoder.trunk(encoder.prepare_audio(sound, 22_050)[None]).logits[0].double().numpy()
    expected = np.exp(logits - logits.max())
    np.testing.assert_allclose(posterior, expected / expected.sum(), rtol=1e-4)
    assert posterior.dtype == np.float32
    assert (len(tagger.labels), tagger.labels[207]) == (1000, "imagenet 207")
    assert tagger.settings["weights"] == encoder.weights_hash()
    assert tagger(sound[:1], 8000).sum() == pytest.approx(1, abs=1e-4)
