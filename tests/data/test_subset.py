"""Parts of evaluation and training sets."""

import pytest

from helpers.color_world import ColorWorld, PlaceWorld
from moca_avs.data.base import subset, training_subset
from moca_avs.errors import UsageError


class Frames:
    def __len__(self):
        return 10

    def frame(self, index):
        return ("frame", index)

    def sound(self, index):
        return ("sound", index)

    def clip_id(self, index):
        return f"clip {index // 2}"

    def fingerprint(self):
        return "whole"


def test_a_part_is_spread_over_the_split():
    world = ColorWorld(10)
    part = subset(world, 4)
    assert part.ids == ["clip0000", "clip0003", "clip0006", "clip0009"]
    assert len(part) == 4
    assert list(part.categories()) == part.ids
    assert subset(world, 99).ids == world.ids
    assert subset(world, None) is world
    assert part.load("clip0003").id == "clip0003"
    with pytest.raises(UsageError, match="--limit"):
        subset(world, 0)


def test_a_part_is_scored_as_its_whole():
    assert subset(PlaceWorld(3), 2).kind == "localization"
    assert subset(ColorWorld(3), 2).kind == "region"


def test_a_training_part_keeps_frames_and_sounds_together():
    whole = Frames()
    part = training_subset(whole, 4)
    rows = [0, 3, 6, 9]
    assert [part.frame(i) for i in range(len(part))] == [("frame", row) for row in rows]
    assert [part.sound(i) for i in range(len(part))] == [("sound", row) for row in rows]
    assert [part.clip_id(i) for i in range(len(part))] == [whole.clip_id(row) for row in rows]
    assert training_subset(whole, 10) is whole
    assert training_subset(whole, None) is whole


def test_parts_of_other_rows_are_other_data():
    prints = {training_subset(Frames(), limit).fingerprint() for limit in (None, 3, 4)}
    assert len(prints) == 3
    assert training_subset(Frames(), 4).fingerprint() == training_subset(Frames(), 4).fingerprint()
