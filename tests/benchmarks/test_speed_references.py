"""What speed is measured against computes the same thing; features are what they are said to be."""

from contextlib import ExitStack

import pytest
import torch
from torch.nn import functional as F

from helpers.scripts import script_module
from moca_avs.model.matching import matching_cost


@pytest.fixture
def script():
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(script_module(f"benchmarks/{name}.py", f"speed_{name}"))


@pytest.mark.parametrize("reference", ["definition", "disparities"])
@pytest.mark.parametrize("window", [1, 3, 5])
def test_references_compute_pma_and_its_gradients(script, reference, window):
    torch.manual_seed(0)
    f, g = (torch.randn(2, 6, 4, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    slow = getattr(script("matching"), reference)(f, g, window)
    fast = matching_cost(f, g, window=window)
    torch.testing.assert_close(slow, fast, rtol=1e-9, atol=1e-9)
    gradients = [torch.autograd.grad(cost.sum(), (f, g)) for cost in (slow, fast)]
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-9)


def test_features_stand_in_clusters(script):
    neighbours = script("neighbours")
    unit = F.normalize(neighbours.features_of(2000), dim=1)
    assert unit.shape == (2000, neighbours.FEATURES)
    near = (unit @ unit.T > 0.4).sum(1).float() - 1
    assert 30 < near.mean() < 50
    assert set(neighbours.measure(600)) >= {"seconds", "bare_gflops", "beyond_mib"}
