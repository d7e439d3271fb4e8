"""The three losses against slow references written out by hand, and what they teach."""

import math

import pytest
import torch
from torch.nn import functional as F

from moca_avs_bench.ssl.comparators import cosine_heat, ez_vsl_loss, lvs_loss, walk_loss


def vectors(*shape, seed=0, dim=1):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=dim)


def dot(a, b):
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def positions(image):
    """Every position's vector of a map [C, h, w]."""
    return [image[:, i, j] for i in range(image.shape[1]) for j in range(image.shape[2])]


def best(image, sound):
    return max(dot(vector, sound) for vector in positions(image))


def log_share(values, index):
    """Log of a softmax's entry."""
    return values[index] - math.log(sum(math.exp(v) for v in values))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def slow_ez_vsl(images, sounds):
    size, total = len(images), 0.0
    for i in range(size):
        by_sound = [best(images[i], sounds[j]) / 0.03 for j in range(size)]
        by_image = [best(images[j], sounds[i]) / 0.03 for j in range(size)]
        total -= log_share(by_sound, i) + log_share(by_image, i)
    return total / size


def slow_lvs(images, sounds):
    size, total = len(images), 0.0
    for i in range(size):
        similar = []
        for j in [i, *(j for j in range(size) if j != i)]:
            cosines = [dot(vector, sounds[j]) for vector in positions(images[i])]
            weights = [sigmoid((a - 0.65) / 0.03) for a in cosines]
            similar.append(sum(a * w for a, w in zip(cosines, weights, strict=True)) / sum(weights))
        cosines = [dot(vector, sounds[i]) for vector in positions(images[i])]
        weights = [1 - sigmoid((a - 0.4) / 0.03) for a in cosines]
        similar.append(sum(a * w for a, w in zip(cosines, weights, strict=True)) / sum(weights))
        total -= log_share([s / 0.07 for s in similar], 0)
    return total / size


def slow_walk(images, first, last):
    groups, k, total = *first.shape[:2], 0.0
    for g in range(groups):
        for start in range(k):
            back = 0.0
            for image in range(k):
                there = [best(images[g, i], first[g, start]) / 0.07 for i in range(k)]
                home = [best(images[g, image], last[g, s]) / 0.07 for s in range(k)]
                back += math.exp(log_share(there, image)) * math.exp(log_share(home, start))
            total -= math.log(back)
    return total / (groups * k)


@pytest.mark.parametrize("seed", range(3))
def test_ez_vsl_is_what_is_written_out(seed):
    images, sounds = vectors(5, 6, 3, 2, seed=seed), vectors(5, 6, seed=seed + 50)
    assert float(ez_vsl_loss(images, sounds)) == pytest.approx(slow_ez_vsl(images, sounds), rel=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_lvs_is_what_is_written_out(seed):
    # Near each other, so that cosines reach both thresholds.
    near = vectors(1, 6, 1, 1, seed=9)
    images = F.normalize(vectors(4, 6, 3, 3, seed=seed) + near, dim=1)
    sounds = F.normalize(vectors(4, 6, seed=seed + 50) + near[:, :, 0, 0], dim=1)
    cosine = torch.einsum("ichw,ic->ihw", images, sounds)
    assert (cosine > 0.65).any()
    assert (cosine < 0.4).any()
    assert float(lvs_loss(images, sounds)) == pytest.approx(slow_lvs(images, sounds), rel=1e-10)


@pytest.mark.parametrize("sources", [2, 3])
def test_the_walk_is_what_is_written_out(sources):
    images = vectors(4, sources, 6, 3, 2, dim=2)
    first, last = vectors(4, sources, 6, seed=1, dim=2), vectors(4, sources, 6, seed=2, dim=2)
    assert float(walk_loss(images, first, last)) == pytest.approx(slow_walk(images, first, last), rel=1e-10)


def test_what_tells_nothing_apart_costs_the_logarithm_of_the_choices():
    same = vectors(1, 6).expand(4, 6)
    images = same[:, :, None, None].expand(4, 6, 2, 2)
    assert float(ez_vsl_loss(images, same)) == pytest.approx(2 * math.log(4))
    assert float(lvs_loss(images, same)) == pytest.approx(math.log(5))  # itself, 3 others, its own hard one
    pairs = images.unflatten(0, (2, 2)), same.unflatten(0, (2, 2)), same.unflatten(0, (2, 2))
    assert float(walk_loss(*pairs)) == pytest.approx(math.log(2))


def test_the_order_of_a_batch_changes_nothing():
    order = torch.tensor([3, 0, 2, 1])
    images, sounds = vectors(4, 6, 3, 3), vectors(4, 6, seed=1)
    for loss in (ez_vsl_loss, lvs_loss):
        assert float(loss(images[order], sounds[order])) == pytest.approx(
            float(loss(images, sounds)), rel=1e-12
        )
        assert float(loss(images, sounds[order])) != pytest.approx(float(loss(images, sounds)), rel=1e-3)
    groups, a, b = vectors(4, 2, 6, 3, 3, dim=2), vectors(4, 2, 6, dim=2), vectors(4, 2, 6, seed=1, dim=2)
    whole = float(walk_loss(groups, a, b))
    assert float(walk_loss(groups[order], a[order], b[order])) == pytest.approx(whole, rel=1e-12)
    assert float(walk_loss(groups.flip(1), a, b)) == pytest.approx(whole, rel=1e-12)  # any order of images
    assert float(walk_loss(groups, a.flip(1), b)) != pytest.approx(whole, rel=1e-3)


def test_extreme_cosines_leave_lvs_and_its_gradient_finite():
    for sign in (1.0, -1.0):
        sounds = vectors(3, 6).float()[:1].repeat(3, 1)
        images = (sign * sounds)[:, :, None, None].repeat(1, 1, 2, 2).requires_grad_()
        loss = lvs_loss(images, sounds)
        loss.backward()
        assert loss.isfinite()
        assert images.grad.isfinite().all()


@pytest.mark.parametrize("name", ["ez-vsl", "lvs", "mix-and-localize"])
def test_each_loss_teaches_where_the_object_is(name):
    """Linear networks over one-hot kinds: each image shows its kind at one of nine positions.

    They start half right: Mix-and-Localize can't know which of two sources belongs to which image.
    """
    generator = torch.Generator().manual_seed(0)
    kinds, ground = 4, 4
    see = torch.randn(8, kinds + 1, generator=generator).requires_grad_()
    hear = (see.detach()[:, :kinds] + torch.randn(8, kinds, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([see, hear], lr=0.05)

    def batch():
        shown = torch.randperm(kinds, generator=generator)
        place = torch.randint(9, (kinds,), generator=generator)
        seen = torch.full((kinds, 9), ground).scatter(1, place[:, None], shown[:, None])
        images = F.normalize(see[:, seen].permute(1, 0, 2).unflatten(2, (3, 3)), dim=1)
        return images, F.normalize(hear[:, shown].T, dim=1), place

    for _ in range(150):
        images, sounds, _ = batch()
        if name == "mix-and-localize":
            pairs = sounds.unflatten(0, (2, 2))
            loss = walk_loss(images.unflatten(0, (2, 2)), pairs, pairs)
        else:
            loss = {"ez-vsl": ez_vsl_loss, "lvs": lvs_loss}[name](images, sounds)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    images, sounds, place = batch()
    heat = cosine_heat(images, sounds[:, None]).flatten(1)
    assert (heat.argmax(1) == place).all()


def test_heat_is_the_nearest_source():
    image = torch.zeros(1, 3, 1, 3)
    image[0, :, 0] = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    sounds = torch.tensor([[[1.0, 0, 0], [0, 0.6, 0.8]]])
    assert cosine_heat(image, sounds)[0, 0].tolist() == pytest.approx([1.0, 0.6, 0.8])
