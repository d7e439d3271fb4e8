import numpy as np
import pytest
from scipy.ndimage import minimum_filter

from helpers.media_files import bt709_planes, quadrants, smooth
from moca_avs.errors import MediaError
from moca_avs.io.image import (
    MASK_COLOR,
    PlaneStencil,
    Stencil,
    contact_sheet,
    heat_colors,
    heat_table,
    overlay,
    resized,
)


def lightness(colors):
    """CIE L* of sRGB [..., 3] (not the space the table was made in)."""
    c = colors / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


def test_heat_gets_steadily_lighter():
    light = lightness(heat_table().astype(float))
    steps = light[8:] - light[:-8]
    assert (steps > 0).all()
    assert light[0] < 12
    assert light[-1] > 93
    assert steps.max() < 2.2 * steps.mean()


def test_heat_is_clipped_and_any_shape():
    found = heat_colors(np.array([[-1.0, 0.0], [1.0, 7.0]], np.float16))
    assert (found.shape, found.dtype) == ((2, 2, 3), np.uint8)
    np.testing.assert_array_equal(found[0, 0], found[0, 1])
    np.testing.assert_array_equal(found[1], heat_table()[[255, 255]])


def test_a_mask_is_filled_and_outlined():
    frame = np.full((100, 120, 3), 50, np.uint8)
    mask = np.zeros((100, 120), bool)
    mask[20:60, 30:90] = True
    drawn = overlay(frame, mask)
    np.testing.assert_array_equal(drawn[~mask], frame[~mask])
    edge = mask.copy()
    edge[21:59, 31:89] = False
    np.testing.assert_allclose(drawn[edge], np.broadcast_to(MASK_COLOR, drawn[edge].shape), atol=2)
    inside = drawn[40, 60].astype(int)
    assert all(min(50, c) <= v <= max(50, c) for v, c in zip(inside, MASK_COLOR, strict=True))
    assert inside[2] > 80
    assert (frame == 50).all()


def test_the_border_of_the_image_is_no_outline():
    frame = np.full((40, 40, 3), 50, np.uint8)
    drawn = overlay(frame, np.ones((40, 40), bool))
    assert (drawn == drawn[20, 20]).all()


def test_a_stencil_draws_what_overlay_draws():
    rng = np.random.default_rng(0)
    mask = rng.random((33, 47)) > 0.8
    for _ in range(2):
        frame = rng.integers(0, 255, (33, 47, 3), dtype=np.uint8)
        np.testing.assert_array_equal(Stencil(mask).drawn(frame), overlay(frame, mask))
    nothing = np.zeros((33, 47), bool)
    np.testing.assert_array_equal(overlay(frame, nothing), frame)
    assert overlay(frame, nothing) is not frame


def blobs(height, width, seed=0):
    """Smooth shapes that touch the border: bool [H, W]."""
    coarse = np.random.default_rng(seed).random((height // 12 + 2, width // 12 + 2))
    return resized(coarse, height, width) > 0.5


def test_the_contour_is_what_an_erosion_takes_away():
    mask = blobs(500, 610)
    inside = minimum_filter(mask, size=5, mode="nearest")  # two pixels thick at this size
    opacity = np.where(inside, 96, 255) * mask
    drawn = overlay(np.zeros((500, 610, 3), np.uint8), mask)
    np.testing.assert_array_equal(drawn[..., 2], opacity * 255 >> 8)


def even_planes(image):
    """The planes of an image, padded to even sides: uint8."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return tuple(plane.round().astype(np.uint8) for plane in bt709_planes(padded))


@pytest.mark.parametrize("size", [(100, 120), (33, 51), (361, 479), (1, 1), (2, 301)])
@pytest.mark.parametrize("seed", [0, 1])
def test_planes_are_painted_as_rgb_is(size, seed):
    image, mask = smooth(*size), blobs(*size, seed)
    planes, before = even_planes(image), even_planes(image)
    PlaneStencil(mask).paint(planes)
    for found, expected in zip(planes, even_planes(overlay(image, mask)), strict=True):
        assert np.abs(found.astype(int) - expected).max() <= 3
    height, width = size
    np.testing.assert_array_equal(planes[0][:height, :width][~mask], before[0][:height, :width][~mask])
    fours = np.pad(mask, ((0, height % 2), (0, width % 2)), mode="edge").reshape(-1, 2, planes[1].shape[1], 2)
    outside = ~fours.any((1, 3))
    for found, same in zip(planes[1:], before[1:], strict=True):
        np.testing.assert_array_equal(found[outside], same[outside])


def test_a_stencil_for_planes_can_be_used_again_and_may_be_empty():
    mask, image = blobs(40, 60), smooth(40, 60)
    stencil, first, second = PlaneStencil(mask), even_planes(image), even_planes(image)
    stencil.paint(first)
    stencil.paint(second)
    PlaneStencil(np.zeros((40, 60), bool)).paint(second)
    for one, other, before in zip(first, second, even_planes(image), strict=True):
        np.testing.assert_array_equal(one, other)
        assert (one != before).any()


@pytest.mark.parametrize("value", [0, 255])
def test_no_plane_overflows(value):
    planes = tuple(np.full(size, value, np.uint8) for size in ((8, 8), (4, 4), (4, 4)))
    PlaneStencil(np.ones((8, 8), bool)).paint(planes)
    color = [plane[0, 0] for plane in even_planes(np.full((2, 2, 3), MASK_COLOR, np.uint8))]
    for plane, towards in zip(planes, color, strict=True):
        assert (np.abs(plane - (value * 160 + int(towards) * 96) / 256) <= 1).all()


def test_heat_is_laid_over_and_needs_no_mask():
    frame = quadrants(40, 60)
    heat = np.zeros((2, 3), np.float16)
    heat[1, 2] = 1
    drawn = overlay(frame, None, heat)
    assert drawn.shape == frame.shape
    assert lightness(drawn[-1, -1].astype(float)) > lightness(drawn[-1, 0].astype(float)) + 20
    assert overlay(frame, np.ones((40, 60), bool), heat).shape == frame.shape
    with pytest.raises(MediaError, match="size"):
        overlay(frame, np.ones((40, 61), bool))


def test_resizing_is_bilinear():
    np.testing.assert_allclose(resized(np.array([[0.0, 1.0]]), 1, 4), [[0, 0.25, 0.75, 1]])


def test_a_contact_sheet_holds_every_image():
    red, gray = quadrants()[:10, :10], np.full((30, 60), 77, np.uint8)
    mask = np.ones((60, 30), bool)
    sheet = contact_sheet(
        [[(red, "red"), (gray, "a caption far too long for its column")], [(mask, "")]], cell=64,
        headings=["one", "two", "three"],
    )  # fmt: skip
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] > 3 * 64
    for color in (red[0, 0], (77, 77, 77), (255, 255, 255)):
        assert (sheet == np.array(color)).all(-1).sum() > 900
    with pytest.raises(MediaError, match="at least one image"):
        contact_sheet([[]])
