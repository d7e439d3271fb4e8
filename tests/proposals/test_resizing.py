"""Many masks at once are what Pillow makes of each alone, bit by bit."""

import numpy as np
import pytest
from PIL import Image

from moca_avs.proposals.masks import FEW, enlarge_packed, pack_masks, resize_masks, unpack_masks

SIZES = [
    ((144, 256), (216, 384)),  # by three halves: borders fall on exactly one half
    ((27, 48), (36, 64)),
    ((9, 11), (18, 22)),
    ((7, 5), (7, 31)),  # one direction stays
    ((7, 5), (31, 5)),
    ((1, 1), (4, 9)),
    ((1, 6), (5, 6)),
    ((2, 3), (101, 77)),
    ((33, 20), (34, 21)),
    ((8, 8), (8, 8)),
]


def alone(masks, size):
    """Pillow on one image at a time."""
    images = [Image.fromarray(mask.astype(np.uint8) * 255) for mask in masks]
    resized = [image.resize(size[::-1], Image.Resampling.BILINEAR) for image in images]
    return np.array([np.asarray(image) > 127 for image in resized], bool).reshape(-1, *size)


def noise(count, size, seed=0):
    """From nearly empty to nearly full, blocks of one pixel and of many."""
    rng = np.random.default_rng(seed)
    masks = rng.random((count, *size)) < np.linspace(0, 1, count)[:, None, None]
    coarse = rng.random((count // 2, -(-size[0] // 4), -(-size[1] // 4))) < 0.5
    masks[::2][: count // 2] = coarse.repeat(4, 1).repeat(4, 2)[:, : size[0], : size[1]]
    return masks


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_many_at_once_are_as_each_alone(old, new):
    masks = noise(FEW + 5, old)
    found = resize_masks(masks, new)
    assert found.dtype == bool
    assert np.array_equal(found, alone(masks, new))
    assert np.array_equal(unpack_masks(enlarge_packed(pack_masks(masks), new), len(masks)), found)


def test_any_sizes():
    rng = np.random.default_rng(1)
    for seed in range(60):
        old = tuple(rng.integers(1, 30, 2))
        new = tuple(int(side + more) for side, more in zip(old, rng.integers(0, 60, 2), strict=True))
        masks = noise(FEW + 1, old, seed)
        assert np.array_equal(resize_masks(masks, new), alone(masks, new)), (old, new)


@pytest.mark.parametrize("new", [(20, 30), (13, 60), (80, 17)])
def test_smaller_in_any_direction(new):
    masks = noise(FEW + 5, (40, 50))
    assert np.array_equal(resize_masks(masks, new), alone(masks, new))


@pytest.mark.parametrize("count", [0, 1, FEW])
def test_few_and_none(count):
    masks = noise(count, (5, 6))
    assert np.array_equal(resize_masks(masks, (9, 9)), alone(masks, (9, 9)))
    assert np.array_equal(
        unpack_masks(enlarge_packed(pack_masks(masks), (9, 9)), count), alone(masks, (9, 9))
    )


def test_packing_is_a_bit_each():
    masks = noise(19, (3, 7))
    groups = pack_masks(masks)
    assert (groups.shape, groups.dtype) == ((3, 3, 7), np.uint8)
    for index, mask in enumerate(masks):
        assert np.array_equal(groups[index // 8] >> (index % 8) & 1, mask)
    assert (groups[2] < 8).all()
    assert np.array_equal(unpack_masks(groups, 19), masks)
    assert pack_masks(masks[:, 0]).shape == (3, 7)
