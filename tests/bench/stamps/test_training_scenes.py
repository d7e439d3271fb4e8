"""Frames to train on, from cut-outs of one color: what is shown and heard can be read off the pixels."""

import numpy as np
import pytest

from moca_avs_bench.stamps.compose import COVER, compose_scene, plain_ground
from moca_avs_bench.stamps.media import Background, Cutout, Sound
from moca_avs_bench.stamps.scenes import Pool
from moca_avs_bench.stamps.training_scenes import LARGE, cropped, draw_frame

COLORS = {"piano": (250, 10, 10), "dog": (10, 250, 10), "person": (10, 10, 250)}


class Flat(Cutout):
    def rgba(self):
        return np.concatenate([self.picture()[:60, :60], np.full((60, 60, 1), 255, np.uint8)], axis=2)

    def picture(self):
        return np.full((90, 160, 3), COLORS[self.category], np.uint8)


class Gray(Background):
    def pixels(self):
        return np.full((200, 200, 3), 128, np.uint8)


@pytest.fixture
def pool():
    kinds = {"piano": "photo", "dog": "photo", "person": "whole"}
    cutouts = {name: [Flat(name, "p", name, "train", name, kind)] for name, kind in kinds.items()}
    count = {"piano": 1, "dog": 1, "person": 9}
    sounds = {n: [[Sound(n, "p", f"{n}{i}", "train", f"{n}{i}")] for i in range(count[n])] for n in COLORS}
    return Pool(cutouts, sounds, [Gray("", "p", "gray", "train", "gray")])


def test_what_is_heard_is_seen_and_the_much_recorded_are_there_more_often(pool):
    rng = np.random.default_rng(0)
    heard = []
    for _ in range(150):
        frame, sound = draw_frame(pool, rng, size=64)
        assert frame.shape == (64, 64, 3)
        assert frame.dtype == np.uint8
        strongest = int(np.argmax(COLORS[sound.category]))
        rest = [c for c in range(3) if c != strongest]
        excess = frame[..., strongest].astype(int) - frame[..., rest].max(axis=-1)
        assert (excess > 60).sum() > 20  # the object's color is there
        heard.append(sound.category)
    # The root of nine recordings against the root of one: three fifths.
    assert heard.count("person") / len(heard) == pytest.approx(0.6, abs=0.12)


def test_some_single_objects_fill_their_own_photo(pool):
    rng = np.random.default_rng(1)
    alone = [
        frame
        for frame, _ in (draw_frame(pool, rng, size=32) for _ in range(200))
        if np.ptp(frame, (0, 1)).max() == 0
    ]
    assert all((frame[0, 0] == COLORS["person"]).all() for frame in alone)
    assert 5 < len(alone) < 50  # .3 alone, .6 people, .5 as they are: 18 of 200


def test_large_objects_cover_what_was_asked_for_or_are_cut_off():
    rng = np.random.default_rng(2)
    cutout = np.full((100, 80, 4), 255, np.uint8)
    shares = {
        cover: [
            compose_scene(plain_ground(rng, 96), [cutout], rng, 96, cover=cover)[1].mean() for _ in range(60)
        ]
        for cover in (COVER, LARGE[1])
    }
    assert max(shares[COVER]) <= COVER[1] * 1.1
    assert np.median(shares[LARGE[1]]) > 2 * np.median(shares[COVER])
    assert max(shares[LARGE[1]]) <= LARGE[1][1] * 1.1


def test_a_crop_keeps_most_of_the_photo_and_fills_the_square():
    ramp = np.broadcast_to(np.linspace(0, 255, 200).astype(np.uint8)[None, :, None], (100, 200, 3))
    rng = np.random.default_rng(3)
    for _ in range(20):
        part = cropped(np.ascontiguousarray(ramp), rng, 50)
        assert part.shape == (50, 50, 3)
        assert np.ptp(part[..., 0].astype(int)) >= 0.7 * 255
