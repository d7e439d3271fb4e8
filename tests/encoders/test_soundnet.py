import pytest
import torch
import torch.nn.functional as F

from moca_avs.encoders.lite_networks import LAYERS, MIN_SAMPLES, SoundNet8
from moca_avs.errors import WeightsError
from moca_avs.hub.weight_files import load_asset

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def state():
    return load_asset("soundnet8")


@pytest.fixture(scope="module")
def noise():
    return 25 * torch.randn(1, MIN_SAMPLES, generator=torch.Generator().manual_seed(0))


def reference(state, sounds):
    """The same network step by step: convolution, batch norm by its formula, ReLU, pooling; float64."""
    x, states = sounds.double()[:, None], []
    for layer in LAYERS:
        p = {k.split(".")[1]: v.double() for k, v in state.items() if k.startswith(f"{layer.name}.")}
        x = F.conv1d(x, p["weights"][:, 0].permute(2, 1, 0), p["biases"], 2, layer.kernel // 2)
        mean, var, gamma, beta = (p[k][None, :, None] for k in ("mean", "var", "gamma", "beta"))
        x = ((x - mean) / torch.sqrt(var + 1e-5) * gamma + beta).clamp_min(0)
        states.append(x[..., :-1])
        x = x.unfold(2, layer.pool, layer.pool).amax(3)
    kernel = state["conv8.weights"].double()[:, 0]  # [8, 1024, 1000]
    head = torch.einsum("bik,kio->bo", states[-1][..., :8], kernel) + state["conv8.biases"].double()
    return states, head


@torch.no_grad()
def test_folded_network_equals_the_plain_one(state, noise):
    states, objects, sources = SoundNet8(state)(noise)
    expected, head = reference(state, noise)
    for found, truth in zip(states, expected, strict=True):
        torch.testing.assert_close(found.double(), truth, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(objects[..., 0].double(), head, atol=2e-3, rtol=1e-3)
    assert objects.shape == (1, 1000, 1)
    assert sources.shape == (1, 401, 1)


@torch.no_grad()
def test_no_position_of_conv7_drowns_the_others(state, noise):
    """The padded last position is about a thousand times stronger; it must not come back."""
    strength = SoundNet8(state)(noise)[0][-1].mean(1)[0]
    assert len(strength) == 8
    assert strength.max() < 10 * strength.median()


@torch.no_grad()
def test_states_sit_where_the_facts_say(state, noise):
    states, *_ = SoundNet8(state)(noise)
    assert [s.shape[1] for s in states] == [16, 32, 64, 128, 256, 512, 1024]
    assert [s.shape[2] + 1 for s in states] == [121072, 7568, 474, 238, 120, 16, 9]
    assert all((s >= 0).all() for s in states)


@torch.no_grad()
def test_one_sample_less_is_too_short(state, noise):
    with pytest.raises(RuntimeError, match="Kernel size"):
        SoundNet8(state)(noise[:, 1:])


def test_weights_of_another_model_are_refused(state):
    with pytest.raises(WeightsError, match=r"lack conv3\.gamma"):
        SoundNet8({k: v for k, v in state.items() if k != "conv3.gamma"})
    with pytest.raises(WeightsError, match="unknown tensors"):
        SoundNet8(state | {"conv9.weights": torch.zeros(1)})
