import numpy as np
import pytest
from media_making import quadrants

from moca_avs.errors import MediaError
from moca_avs.media import contact_sheet, heat_colours, overlay
from moca_avs.media.pictures import MASK_COLOUR, Stencil, heat_table, resized


def lightness(colours):
    """CIE L* of sRGB [..., 3] (not the space the table was made in)."""
    c = colours / 255
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
    found = heat_colours(np.array([[-1.0, 0.0], [1.0, 7.0]], np.float16))
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
    np.testing.assert_allclose(drawn[edge], np.broadcast_to(MASK_COLOUR, drawn[edge].shape), atol=2)
    inside = drawn[40, 60].astype(int)
    assert all(min(50, c) <= v <= max(50, c) for v, c in zip(inside, MASK_COLOUR, strict=True))
    assert inside[2] > 80
    assert (frame == 50).all()


def test_the_border_of_the_picture_is_no_outline():
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


def test_a_contact_sheet_holds_every_picture():
    red, grey = quadrants()[:10, :10], np.full((30, 60), 77, np.uint8)
    mask = np.ones((60, 30), bool)
    sheet = contact_sheet(
        [[(red, "red"), (grey, "a caption far too long for its column")], [(mask, "")]], cell=64,
        headings=["one", "two", "three"],
    )  # fmt: skip
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] > 3 * 64
    for colour in (red[0, 0], (77, 77, 77), (255, 255, 255)):
        assert (sheet == np.array(colour)).all(-1).sum() > 900
    with pytest.raises(MediaError, match="at least one picture"):
        contact_sheet([[]])
