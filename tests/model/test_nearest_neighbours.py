"""Neighbours against arithmetic without rounding: Python's fractions, and float64 where that is exact."""

from fractions import Fraction

import pytest
import torch
from torch.nn import functional as F

from moca_avs.model.pairing import GRID, _error, nearest_of


def on_grid(features):
    return (F.normalize(features, dim=1) * GRID).round() / GRID


def slow(unit, owner, width):
    """Full sort of every row by (falling cosine, index), on float64 products that round nothing."""
    cosine = unit.double() @ unit.double().T
    rows = []
    for i in range(len(unit)):
        others = (owner != owner[i]).nonzero()[:, 0]
        order = others[cosine[i, others].argsort(descending=True, stable=True)][:width].tolist()
        rows.append(order + [-1] * (width - len(order)))
    return torch.tensor(rows)


def clustered(total, dims, centers, noise, seed=0):
    rng = torch.Generator().manual_seed(seed)
    which = torch.randint(0, centers, (total,), generator=rng)
    middle = torch.randn(centers, dims, generator=rng)[which]
    return on_grid(middle + noise * torch.randn(total, dims, generator=rng))


WORLDS = {
    "random": lambda: clustered(700, 24, 700, 1.0),
    "clusters": lambda: clustered(700, 24, 20, 0.1),
    "float32 cannot tell them apart": lambda: clustered(700, 24, 5, 1e-7),
    "duplicates": lambda: clustered(700, 24, 40, 0.0),
    "all equal": lambda: on_grid(torch.ones(700, 24)),
    "zeros among them": lambda: clustered(700, 24, 30, 0.1) * (torch.arange(700) % 3 > 0)[:, None],
    "nearer and nearer": lambda: on_grid(torch.eye(2).repeat(350, 12)[:, :24] + torch.arange(700)[:, None]),
}
OWNERS = {
    "each its own": torch.arange(700),
    "threes": torch.arange(700) // 3,
    "scattered": torch.arange(700) % 90,
    "one clip is most of it": (torch.arange(700) - 600).clamp(min=0),
}


@pytest.mark.parametrize("owners", OWNERS)
@pytest.mark.parametrize("world", WORLDS)
def test_equals_a_full_sort_of_exact_products(world, owners):
    unit, owner = WORLDS[world](), OWNERS[owners]
    expected = slow(unit, owner, 10)
    for chunk, block in ((700, 8192), (256, 128), (64, 200), (350, 65)):
        found = [
            nearest_of(unit, owner, range(start, min(start + chunk, 700)), 10, block)
            for start in range(0, 700, chunk)
        ]
        assert torch.equal(torch.cat(found), expected), (chunk, block)


def test_the_float64_product_rounds_nothing():
    unit = clustered(6, 384, 2, 1e-3)
    cosine = unit.double() @ unit.double().T
    for i in range(6):
        for j in range(6):
            exact = sum(
                Fraction(x) * Fraction(y) for x, y in zip(unit[i].tolist(), unit[j].tolist(), strict=True)
            )
            assert Fraction(cosine[i, j].item()) == exact


@pytest.mark.parametrize("dims", [1, 2, 24, 384, 2048])
def test_float32_is_within_the_bound_it_is_trusted_with(dims):
    unit = clustered(300, dims, 10, 0.01)
    off = ((unit @ unit.T).double() - unit.double() @ unit.double().T).abs().max()
    assert off < _error(unit)


def test_more_wanted_than_there_are():
    unit = clustered(5, 8, 5, 1.0)
    owner = torch.tensor([0, 0, 0, 1, 2])
    assert torch.equal(nearest_of(unit, owner, range(5), 4), slow(unit, owner, 4))


def test_a_setting_of_the_caller_does_not_cost_exactness():
    unit, owner = clustered(700, 24, 20, 1e-3), torch.arange(700)
    torch.set_float32_matmul_precision("medium")
    try:
        found = nearest_of(unit, owner, range(700), 10)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(found, slow(unit, owner, 10))
