import json

import pytest
import torch

from helpers import GOLDEN as GOLDEN_FILES
from moca_avs.encoders.lite_networks import EfficientNetLite0, block_shapes
from moca_avs.errors import WeightsError
from moca_avs.hub.weight_files import load_asset

GOLDEN = json.loads((GOLDEN_FILES / "lite_efficientnet.json").read_text())
pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def state():
    return load_asset("efficientnet-lite0")


def pattern(size):
    """The input of the golden numbers."""
    i = torch.arange(3 * size * size, dtype=torch.float64)
    return (torch.sin(0.37 * i) + 0.5 * torch.cos(0.0123 * i)).reshape(1, 3, size, size).float()


def run(net, images):
    """Every state: the stem's, then each block's."""
    states = [net.stem(images)]
    for block in net.blocks:
        states.append(block(states[-1]))
    return states


@pytest.mark.parametrize("size", [224, 320])
@torch.no_grad()
def test_logits_and_features_equal_the_packages_own_code(state, size):
    golden = GOLDEN["cases"][str(size)]
    net = EfficientNetLite0(state)
    features = net.head(run(net, pattern(size))[-1])
    logits = net(pattern(size))[0]
    torch.testing.assert_close(logits[GOLDEN["classes"]], torch.tensor(golden["logits"]), atol=1e-4, rtol=0)
    assert int(logits.argmax()) == golden["argmax"]
    assert float(logits.mean()) == pytest.approx(golden["logits_mean"], abs=1e-5)
    assert float(logits.std()) == pytest.approx(golden["logits_std"], abs=1e-5)
    assert float(features.mean()) == pytest.approx(golden["features_mean"], abs=1e-5)
    corner = features[0, :4, -1, -1]
    torch.testing.assert_close(corner, torch.tensor(golden["features_corner"]), atol=1e-4, rtol=0)


@torch.no_grad()
def test_dilated_maps_read_at_every_second_position_equal_the_strided_ones(state):
    images = torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    strided = run(EfficientNetLite0(state), images)
    dilated = run(EfficientNetLite0(state, dilate=True), images)
    for index, (a, b) in enumerate(zip(strided, dilated, strict=True)):
        odd = b[:, :, 1::2, 1::2] if index > 11 else b  # block 11 is the last that strides
        torch.testing.assert_close(odd, a, atol=2e-4, rtol=1e-4)
    assert dilated[-1].shape[2:] == (6, 10)


@torch.no_grad()
def test_states_have_the_shapes_of_the_plan(state):
    states = run(EfficientNetLite0(state), pattern(224))
    side = 112
    assert states[0].shape == (1, 32, side, side)
    for shape, found in zip(block_shapes(), states[1:], strict=True):
        side //= shape.stride
        assert found.shape == (1, shape.width_out, side, side)
    assert side == 7


def test_weights_of_another_model_are_refused(state):
    with pytest.raises(WeightsError, match=r"lack _fc\.bias"):
        EfficientNetLite0({k: v for k, v in state.items() if k != "_fc.bias"})
    with pytest.raises(WeightsError, match=r"must be \[1000, 1280\], found \[10, 1280\]"):
        EfficientNetLite0(state | {"_fc.weight": torch.zeros(10, 1280)})
    with pytest.raises(WeightsError, match="hold 1 unknown tensors"):
        EfficientNetLite0(state | {"extra": torch.zeros(1)})
