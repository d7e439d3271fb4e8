"""The images in docs/: what is said under them, and whose media they are."""

import numpy as np
import pytest

from helpers.scripts import script_module
from moca_avs.clip import Clip, Segmentation
from moca_avs.data.base import SceneObject
from moca_avs.errors import DataError
from moca_avs.io.image import read_image

NOTICE = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: gcompris-qt

Files: *
Copyright: 2010 One <one@example.org>
           2011 Two
           2012 Three
           2013 Four
License: GPL-3+

Files: src/a/*.svg
       src/b/photo?.webp
Copyright: 2014, A Painter
License: CC-BY-3.0
 with a text
 .
 that goes on

License: GPL-3+
 Files: none
"""


@pytest.fixture(scope="module")
def figures():
    with script_module("recipes/lite/figures.py", "figures_recipe") as module:
        yield module


@pytest.mark.parametrize(
    ("path", "terms", "holder"),
    [
        ("rcc:gcompris/src/a/deep/horn.svg", "CC-BY-3.0", "2014, A Painter"),
        ("rcc:gcompris/src/b/photo1.webp", "CC-BY-3.0", "2014, A Painter"),
        ("usr/share/gcompris/src/b/photo1.webp", "CC-BY-3.0", "2014, A Painter"),
        ("rcc:gcompris/src/b/photo12.webp", "GPL-3+", "2010 One; 2011 Two; 2012 Three and others"),
        ("rcc:gcompris/x/src/a/horn.svg", "GPL-3+", "2010 One; 2011 Two; 2012 Three and others"),
    ],
)
def test_the_last_paragraph_that_names_a_file_gives_its_terms(figures, path, terms, holder):
    assert figures.terms(NOTICE, path) == (terms, holder)


def test_a_file_without_terms_is_an_error(figures):
    with pytest.raises(DataError, match="horn"):
        figures.terms(NOTICE.replace("Files: *", "Files: debian/*"), "horn.svg")


def line(own, swap, moving=False):
    objects = [{"sounding": own}, {"sounding": [0] * 5}]
    return {"moving": moving, "objects": objects, "swap": swap and {"sounding": swap}}


def test_the_strip_takes_still_clips_with_two_sounds_and_a_silent_second(figures):
    asked = figures.heard_twice_and_silent
    assert asked(line([1, 1, 0, 1, 0], [0, 1, 1, 1, 1])) == (1, 2)
    assert asked(line([0, 1, 1, 1, 1], [0, 1, 1, 1, 1])) == (1, 0)
    assert asked(line([1, 1, 1, 1, 1], [1, 1, 1, 1, 1])) is None
    assert asked(line([1, 1, 0, 0, 0], [0, 0, 1, 1, 1])) is None
    assert asked(line([1, 1, 0, 1, 0], None)) is None
    assert asked(line([1, 1, 0, 1, 0], [1, 1, 0, 1, 0], moving=True)) is None


def scene(figures, sounding):
    """Three seconds of 8x8: a dog on the left, a cat on the right; the second one is shown."""
    left, right = np.zeros((2, 3, 8, 8), bool)
    left[..., :3], right[..., 5:] = True, True
    heard = [np.array([0, on, 0], bool) for on in sounding]
    objects = (
        SceneObject(left, heard[0], "dog", "d.png"),
        SceneObject(right, heard[1], "house_cat", "c.png"),
    )
    truth = (left & heard[0][:, None, None]) | (right & heard[1][:, None, None])
    frames = np.arange(3, dtype=np.uint8).repeat(192).reshape(3, 8, 8, 3)
    clip = Clip(frames, np.arange(3.0), np.zeros(300, np.float32), 100, sound_times=np.arange(3) + 0.5)
    return figures.shot("s4 B", clip, truth, objects, 1)


def said(side=None, reason=""):
    heat, mask = np.zeros((1, 8, 8), np.float16), np.zeros((1, 8, 8), bool)
    if side is not None:
        heat[..., side], mask[..., side] = 1, True
    return Segmentation(mask, heat, np.zeros(1, np.float32), (reason,), np.zeros(1))


LEFT, RIGHT = slice(0, 3), slice(5, 8)


@pytest.mark.parametrize(
    ("sounding", "answer", "heat", "mask"),
    [
        ((1, 0), said(LEFT), "hit", "IoU 1.00"),
        ((1, 0), said(RIGHT), "miss", "IoU 0.00"),
        ((1, 0), said(), "50% hit", "empty ()"),
        ((1, 1), said(LEFT), "alone", "IoU 0.50"),
        ((0, 0), said(reason="silent"), "silent", "empty (silent)"),
        ((0, 0), said(LEFT), "", "should be empty"),
    ],
)
def test_captions_say_what_happened(figures, sounding, answer, heat, mask):
    item = scene(figures, sounding)
    assert figures.hit(item, answer) == heat
    assert figures.overlap(item, answer) == mask


def test_a_shot_is_one_second_of_its_clip(figures):
    item = scene(figures, (0, 1))
    assert len(item.clip) == 1
    assert item.clip.frames.max() == 1
    assert item.clip.sound_times == [1.5]
    assert item.clip.sound.size == 300
    assert item.heard == "house cat"
    assert item.truth.sum() == 24


def test_heat_is_stretched_over_its_own_range(figures):
    heat = np.array([[0.4, 0.5], [0.6, 0.5]], np.float16)
    np.testing.assert_allclose(figures.stretched(heat), [[0, 0.5], [1, 0.5]], atol=2e-3)
    assert not figures.stretched(np.full((2, 2), 0.7, np.float16)).any()


def test_sheet_and_strip_hold_every_shot(figures, tmp_path):
    known, video = scene(figures, (1, 0)), figures.Shot("video, 3 s", scene(figures, (0, 0)).clip)

    def method(clip):
        return said(LEFT)

    row = [caption for _, caption in figures.sheet_row(known, method, method)]
    assert row == ["s4 B", "hit", "hit", "IoU 1.00", "dog"]
    assert [caption for _, caption in figures.sheet_row(video, method, method)][1:] == [""] * 4
    odd = figures.sheet([known, video, known], method, method, trained=True)
    even = figures.sheet([known, video], method, method, trained=False)
    assert odd.shape[1] == even.shape[1] > 10 * figures.SHEET_CELL
    assert odd.shape[0] > even.shape[0] + figures.SHEET_CELL
    strip = figures.strip([[known] * 3, [video] * 3], method, True, seed=0)
    figures.save(tmp_path / "strip.png", strip)
    assert read_image(tmp_path / "strip.png").shape == strip.shape
