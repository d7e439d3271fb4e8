"""PMA against a slow loop over pixels, disparities and window positions, written from the definition."""

import pytest
import torch

from moca_avs.errors import UsageError
from moca_avs.model.matching import audio_weights, matching_cost, matching_map, pool_cost


def slow_scale(maps):
    """One number per image: the root mean square of its pixels' norms."""
    _, h, w = maps.shape
    return (sum((maps[:, i, j] ** 2).sum() for i in range(h) for j in range(w)) / (h * w)).sqrt()


def slow_pixel(f, g, i, j, k, window, ssd_weight, ncc_weight, ncc):
    """Cost of matching pixel (i, j) of f with (i, k) of g; f, g [C, h, w]."""
    _, h, w = f.shape
    ssd, dot, ff, gg, count = 0.0, 0.0, 0.0, 0.0, 0
    for a in range(-(window // 2), window // 2 + 1):
        for b in range(-(window // 2), window // 2 + 1):
            if 0 <= i + a < h and 0 <= j + b < w and 0 <= k + b < w:
                x, y = f[:, i + a, j + b], g[:, i + a, k + b]
                ssd = ssd + ((x - y) ** 2).sum()
                dot, ff, gg = dot + (x * y).sum(), ff + (x * x).sum(), gg + (y * y).sum()
                count += 1
    similarity = dot / (ff * gg).sqrt()
    return ssd_weight * ssd / count + ncc_weight * (1 - similarity if ncc == "one_minus" else similarity)


def slow_cost(f, g, window=3, max_disparity=None, ssd_weight=1.0, ncc_weight=1.0, ncc="one_minus",
              normalize="image_rms", weights=None):  # fmt: skip
    costs = []
    for n in range(len(f)):
        x, y = f[n], g[n]
        if normalize == "image_rms":
            x, y = x / slow_scale(x), y / slow_scale(y)
        _, h, w = x.shape
        total, mass = 0.0, 0.0
        for i in range(h):
            for j in range(w):
                sources = [k for k in range(w) if max_disparity is None or abs(k - j) <= max_disparity]
                best = min(slow_pixel(x, y, i, j, k, window, ssd_weight, ncc_weight, ncc) for k in sources)
                weight = 1.0 if weights is None else weights[n, i, j]
                total, mass = total + weight * best, mass + weight
        costs.append(total / mass)
    return torch.stack(costs)


CASES = [
    # h, w, C, window, max_disparity, ssd, ncc, form, normalize, weighted
    (5, 6, 4, 3, None, 1.0, 1.0, "one_minus", "image_rms", False),
    (6, 4, 3, 5, None, 1.0, 1.0, "one_minus", "image_rms", True),
    (4, 7, 5, 1, 2, 1.0, 1.0, "one_minus", "image_rms", True),
    (1, 1, 3, 3, None, 1.0, 1.0, "one_minus", "image_rms", True),
    (1, 6, 2, 3, 1, 0.7, 1.3, "literal", "image_rms", False),
    (5, 1, 2, 3, 0, 1.0, 1.0, "one_minus", "none", False),
    (3, 5, 4, 7, None, 0.0, 1.0, "one_minus", "image_rms", False),
    (4, 4, 4, 3, 3, 1.0, 0.0, "one_minus", "none", True),
    (2, 9, 3, 3, 5, 2.0, 0.5, "literal", "none", True),
    (4, 5, 1, 3, 9, 1.0, 1.0, "one_minus", "image_rms", False),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_slow_reference_in_value_and_gradient(case):
    h, w, channels, window, reach, ssd, ncc_weight, form, normalize, weighted = case
    torch.manual_seed(h * 100 + w)
    f = torch.randn(2, channels, h, w, dtype=torch.float64, requires_grad=True)
    g = (torch.randn(2, channels, h, w, dtype=torch.float64) * 3).requires_grad_()
    weights = torch.rand(2, h, w, dtype=torch.float64) + 0.1 if weighted else None
    options = {
        "window": window, "max_disparity": reach, "ssd_weight": ssd, "ncc_weight": ncc_weight, "ncc": form,
        "normalize": normalize, "weights": weights,
    }  # fmt: skip
    fast, slow = matching_cost(f, g, **options), slow_cost(f, g, **options)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-10)
    for one, two in zip(
        torch.autograd.grad(fast.sum(), (f, g)), torch.autograd.grad(slow.sum(), (f, g)), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_slow_reference_at_random(seed):
    rng = torch.Generator().manual_seed(seed)
    h, w, channels = (int(torch.randint(1, 7, (), generator=rng)) for _ in range(3))
    window = 2 * int(torch.randint(0, 4, (), generator=rng)) + 1
    reach = int(torch.randint(0, 8, (), generator=rng))
    f, g = (torch.randn(1, channels, h, w, dtype=torch.float64, generator=rng) for _ in range(2))
    fast = matching_cost(f, g, window=window, max_disparity=reach)
    torch.testing.assert_close(fast, slow_cost(f, g, window, reach), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shift", [1, 3, -2])
def test_a_circular_shift_costs_nothing_inside(shift):
    torch.manual_seed(0)
    f = torch.randn(2, 8, 6, 12, dtype=torch.float64)
    cost = matching_map(f, f.roll(shift, 3))
    inside = cost[:, :, 1 + max(-shift, 0) : 11 - max(shift, 0)]  # windows that the wrap does not cut
    assert inside.abs().max() < 1e-12
    narrow = matching_map(f, f.roll(shift, 3), max_disparity=abs(shift) - 1)
    assert narrow[:, :, 3:-3].min() > 0.1  # out of reach


def test_a_shift_across_rows_is_not_found():
    torch.manual_seed(0)
    f = torch.randn(1, 8, 6, 6)
    assert matching_cost(f, f) < 1e-5
    assert matching_cost(f, f.roll(1, 2)) > 0.5


def test_what_each_setting_is_for():
    torch.manual_seed(0)
    f, g = torch.randn(1, 6, 5, 5), torch.randn(1, 6, 5, 5)
    both = matching_cost(f, g, window=1, max_disparity=0)
    ssd = matching_cost(f, g, window=1, max_disparity=0, ncc_weight=0)
    ncc = matching_cost(f, g, window=1, max_disparity=0, ssd_weight=0)
    torch.testing.assert_close(both, ssd + ncc)
    assert torch.allclose(matching_cost(f, f * 5), torch.zeros(1), atol=1e-5)  # one number per image is free
    assert matching_cost(f, f * 5, normalize="none", ncc_weight=0, window=1, max_disparity=0) > 16
    literal = matching_cost(f, g, window=1, max_disparity=0, ssd_weight=0, ncc="literal")
    torch.testing.assert_close(literal, 1 - ncc)


def test_weights_choose_the_pixels():
    torch.manual_seed(0)
    f, g = torch.randn(2, 6, 5, 5), torch.randn(2, 6, 5, 5)
    one = torch.zeros(2, 5, 5)
    one[:, 2, 3] = 7.0
    torch.testing.assert_close(matching_cost(f, g, weights=one), matching_map(f, g)[:, 2, 3])


def test_degenerate_maps_stay_finite():
    f = torch.zeros(2, 4, 3, 3, requires_grad=True)
    g = torch.randn(2, 4, 3, 3)
    cost = matching_cost(f, g)
    cost.sum().backward()
    assert torch.isfinite(cost).all()
    assert torch.isfinite(f.grad).all()


def test_half_precision_is_compared_in_float32():
    torch.manual_seed(0)
    f, g = (torch.randn(1, 64, 4, 4).bfloat16() for _ in range(2))
    cost = matching_cost(f, g)
    assert cost.dtype == torch.float32
    torch.testing.assert_close(cost, matching_cost(f.float(), g.float()))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(matching_cost(f.float(), g.float()), cost)


def test_pooling_compares_two_vectors():
    torch.manual_seed(0)
    f, g = torch.randn(2, 6, 3, 4, dtype=torch.float64), torch.randn(2, 6, 3, 4, dtype=torch.float64)
    expected = []
    for n in range(2):
        x = (f[n] / slow_scale(f[n])).mean((1, 2))
        y = (g[n] / slow_scale(g[n])).mean((1, 2))
        expected.append(((x - y) ** 2).sum() + 1 - (x @ y) / (x.norm() * y.norm()))
    torch.testing.assert_close(pool_cost(f, g), torch.stack(expected))
    assert torch.allclose(pool_cost(f, f.flip(2, 3)), torch.zeros(2, dtype=torch.float64))  # places are lost


def test_audio_weights_look_where_the_sound_is():
    f = torch.randn(2, 6, 4, 5)
    a = torch.randn(2, 6)
    f[0, :, 1, 2], f[1, :, 3, 0] = 3 * a[0], 5 * a[1]
    weights = audio_weights(f.requires_grad_(), a)
    assert weights.shape == (2, 4, 5)
    assert not weights.requires_grad
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(2))
    assert weights[0].argmax() == 1 * 5 + 2
    assert weights[1].argmax() == 3 * 5


@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        (((1, 2, 3, 3), (1, 2, 3, 4)), {}),
        (((2, 3, 3), (2, 3, 3)), {}),
        (((1, 2, 3, 3), (1, 2, 3, 3)), {"window": 2}),
        (((1, 2, 3, 3), (1, 2, 3, 3)), {"max_disparity": -1}),
        (((1, 2, 3, 3), (1, 2, 3, 3)), {"ncc": "minus"}),
        (((1, 2, 3, 3), (1, 2, 3, 3)), {"normalize": "pixel"}),
        (((1, 2, 3, 3), (1, 2, 3, 3)), {"weights": torch.ones(1, 3)}),
    ],
)
def test_what_makes_no_sense_is_refused(shapes, options):
    with pytest.raises(UsageError, match="found"):
        matching_cost(*(torch.ones(shape) for shape in shapes), **options)


def test_float32_is_enough_at_training_size():
    torch.manual_seed(0)
    f, g = torch.randn(8, 1024, 12, 12), torch.randn(8, 1024, 12, 12)
    torch.testing.assert_close(
        matching_cost(f, g).double(), matching_cost(f.double(), g.double()), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("cost", [matching_cost, matching_map, pool_cost])
def test_the_old_keyword_is_accepted_with_a_warning(cost):
    f, g = torch.randn(2, 1, 3, 4, 5, generator=torch.Generator().manual_seed(0)).unbind(0)
    with pytest.warns(DeprecationWarning, match="normalize="):
        old = cost(f, g, normalise="none")
    torch.testing.assert_close(old, cost(f, g, normalize="none"), rtol=0, atol=0)
