"""YAMNet against numbers that TensorFlow made from the same package's own SavedModel (golden/yamnet.json)."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers import GOLDEN
from moca_avs.encoders.audio_tagging import YamnetTagger
from moca_avs.encoders.yamnet import LAYERS, YamNet, log_mel, padded
from moca_avs.errors import UsageError, WeightsError
from moca_avs.hub.debian import unpacked
from moca_avs.hub.weight_files import load_asset
from moca_avs.io.audio import read_audio

RATE = 16_000


def sounds():
    rng = np.random.default_rng(0)
    t = np.arange(2 * RATE) / RATE
    clicks = np.zeros(3 * RATE)
    clicks[::1600] = 0.8
    return {
        "noise": rng.standard_normal(2 * RATE) * 0.1,
        "chirp": 0.5 * np.sin(2 * np.pi * (100 * t + 1475 * t**2)),
        "clicks": clicks,
        "short": 0.3 * np.sin(2 * np.pi * 440 * np.arange(4000) / RATE),
        "silence": np.zeros(15_600),
        "edge": rng.standard_normal(15_601) * 0.3,
    }


SOUNDS = {name: torch.from_numpy(sound.astype(np.float32))[None] for name, sound in sounds().items()}


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "yamnet.safetensors")


@pytest.fixture(scope="module")
def tolerance():
    return json.loads((GOLDEN / "yamnet.json").read_text())["tolerance"]


@pytest.fixture(scope="module")
def network():
    return YamNet(load_asset("yamnet"))


def made_up(rng):
    """Weights of YAMNet's layout, made up."""
    state, width = {}, 1

    def norm(layer, channels):
        state[f"{layer}.beta"], state[f"{layer}.moving_mean"] = rng.normal(size=(2, channels))
        state[f"{layer}.moving_variance"] = rng.uniform(0.5, 2, channels)

    for index, (_, out) in enumerate(LAYERS):
        first = 0 if index == 0 else 4 * index - 2
        if index:
            state[f"{first}.depthwise_kernel"] = rng.normal(size=(3, 3, width, 1))
            norm(first + 1, width)
            first += 2
        shape = (1, 1, width, out) if index else (3, 3, 1, out)
        state[f"{first}.kernel"] = rng.normal(size=shape) / width**0.5
        norm(first + 1, out)
        width = out
    state["54.kernel"], state["54.bias"] = rng.normal(size=(1024, 521)), rng.normal(size=521)
    return {name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in state.items()}


@pytest.mark.parametrize("name", ["short", "edge"])
def test_the_front_end_equals_tensorflows(golden, tolerance, name):
    found = log_mel(padded(SOUNDS[name]))[0]
    torch.testing.assert_close(found, golden[f"{name}.log_mel"], atol=tolerance["log_mel"], rtol=0)


@pytest.mark.weights
@pytest.mark.parametrize("name", SOUNDS)
@torch.no_grad()
def test_the_network_equals_tensorflows(golden, tolerance, network, name):
    heard = network(SOUNDS[name])
    torch.testing.assert_close(heard.scores[0], golden[f"{name}.scores"], atol=tolerance["scores"], rtol=0)
    if f"{name}.embedding" in golden:
        found = heard.embedding[0].T
        torch.testing.assert_close(found, golden[f"{name}.embedding"], atol=tolerance["embedding"], rtol=0)


@pytest.mark.parametrize(("samples", "patches"), [(1, 1), (15_600, 1), (15_601, 2), (23_280, 2), (23_281, 3)])
@torch.no_grad()
def test_a_sound_alone_and_in_a_batch_has_states_of_the_same_shape_and_value(samples, patches):
    rng = np.random.default_rng(1)
    network = YamNet(made_up(rng))
    batch = torch.from_numpy(rng.normal(0, 0.1, (2, samples)).astype(np.float32))
    together, alone = network(batch), network(batch[1:])
    steps = (48, 48, 24, 24, 12, 12, 6, 6, 6, 6, 6, 6, 3, 3)
    expected = [(2, width, patches * t) for (_, width), t in zip(LAYERS, steps, strict=True)]
    assert [tuple(state.shape) for state in together.states] == expected
    assert together.embedding.shape == (2, 1024, patches)
    assert together.scores.shape == (2, patches, 521)
    for state, other in zip(together.states, alone.states, strict=True):
        torch.testing.assert_close(state[1:], other, atol=1e-3, rtol=1e-3)
    # The embedding is the last state's mean over each patch.
    per_patch = together.states[-1].unflatten(2, (patches, 3)).mean(3)
    torch.testing.assert_close(together.embedding, per_patch, atol=1e-3, rtol=1e-3)


def test_weights_of_another_model_are_refused():
    state = made_up(np.random.default_rng(0))
    with pytest.raises(WeightsError, match=r"hold 1 unknown tensors \(54.gamma"):
        YamNet(state | {"54.gamma": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"54.bias of YAMNet must be \[521\], found \[3\]"):
        YamNet(state | {"54.bias": torch.zeros(3)})


@pytest.mark.weights
def test_the_tagger_is_the_mean_of_the_patches_scores(golden, tolerance):
    tagger = YamnetTagger()
    found = tagger(SOUNDS["chirp"][0].numpy(), RATE)
    expected = golden["chirp.scores"].mean(0).numpy()
    np.testing.assert_allclose(found, expected, atol=tolerance["scores"])
    assert found.dtype == np.float32
    assert (len(tagger.labels), tagger.labels[0], tagger.labels[494]) == (521, "Speech", "Silence")
    assert tagger(np.zeros(1, np.float32), 8000).argmax() == 494
    with pytest.raises(UsageError, match="expected a mono sound of finite samples"):
        tagger(np.zeros((2, 3), np.float32), RATE)


@pytest.mark.weights
@pytest.mark.stamps
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("animals/birds/rooster.ogg", "Chicken, rooster"),
        ("animals/mammals/bovines/sheep.ogg", "Sheep"),
        ("household/dishes/bottle.ogg", "Glass"),
        ("household/toilet.ogg", "Toilet flush"),
        ("household/vacuum_cleaner.ogg", "Vacuum cleaner"),
    ],
)
def test_it_names_known_recordings(file, expected):
    sound, rate = read_audio(unpacked("tuxpaint-stamps-default") / "usr/share/tuxpaint/stamps" / file)
    tagger = YamnetTagger()
    best = [tagger.labels[index] for index in tagger(sound, rate).argsort()[-3:]]
    assert expected in best
