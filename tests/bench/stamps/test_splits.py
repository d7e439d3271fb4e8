"""Properties of the split, on the table that ships: no media are needed."""

import csv
import random
from collections import defaultdict
from importlib.resources import files

import pytest

from moca_avs.errors import UsageError
from moca_avs_bench.stamps.media import Catalog, read_table
from moca_avs_bench.stamps.scenes import FAMILIES, TIERS, Pool, confusable
from moca_avs_bench.stamps.splits import CORE, TEST, TRAIN, UNSEEN, VAL, Row, assign_sides, unseen_classes


@pytest.fixture(scope="module")
def table():
    return read_table()


@pytest.fixture(scope="module")
def sides(table):
    return assign_sides(table)


def sounds_of(table, category):
    return [row for row in table if row.role == "sound" and row.category == category and row.package in CORE]


def test_each_file_is_listed_once_and_has_one_side(table, sides):
    keys = [(row.package, row.path) for row in table]
    assert len(keys) == len(set(keys))
    lacking = {row for row in table if row not in sides}
    assert all(row.package not in CORE and row.category in unseen_classes(table) for row in lacking)


def test_a_duplicate_group_lies_on_one_side_and_in_one_class(table, sides):
    sources = defaultdict(set)
    for row in table:
        if row in sides:
            sources[row.role, row.unit].add((sides[row], row.category))
    assert max(map(len, sources.values())) == 1


def test_unseen_classes_are_nowhere_else(table, sides):
    unseen = unseen_classes(table)
    assert len(unseen) >= 12
    for row, side in sides.items():
        if row.role != "background":
            assert (side == UNSEEN) == (row.category in unseen)


def test_classes_with_two_sounds_are_both_trained_and_held_out(table, sides):
    for category in {row.category for row in table if row.role == "sound"}:
        units = {row.unit: sides[row] for row in sounds_of(table, category) if row in sides}
        if len(units) >= 2:
            assert TRAIN in units.values()
            assert {TEST, VAL} & set(units.values())
        if len(units) >= 3:
            assert set(units.values()) == {TRAIN, VAL, TEST}


def test_half_of_the_core_sounds_train_and_thirty_are_tested(table, sides):
    count = defaultdict(set)
    for row in table:
        if row.role == "sound" and row.package in CORE:
            count[sides[row]].add(row.unit)
    total = sum(map(len, count.values()))
    assert len(count[TRAIN]) >= total / 2
    assert len(count[TEST]) >= 30
    assert len(count[UNSEEN]) >= 12


def test_other_packages_only_train(table, sides):
    assert {sides[row] for row in table if row.package not in CORE and row in sides} == {TRAIN}
    core, full = Catalog.load("core"), Catalog.load("full")
    assert core.cutouts == full.cutouts
    assert {s for s in core.sounds if s.side != TRAIN} == {s for s in full.sounds if s.side != TRAIN}
    assert len(full.sounds) > len(core.sounds)


def test_the_split_depends_on_no_order(table, sides):
    shuffled = table.copy()
    random.Random(1).shuffle(shuffled)
    assert assign_sides(shuffled) == sides


def test_a_new_class_moves_no_file_of_the_others(table, sides):
    new = [Row(CORE[0], "unicorn", "sound", "", f"unicorn{i}.ogg", "") for i in range(2)]
    more = assign_sides([*table, *new, Row(CORE[0], "unicorn", "cutout", "drawing", "unicorn.png", "")])
    assert {row: side for row, side in more.items() if row.category != "unicorn"} == sides


def test_cartoons_are_never_tested(table, sides):
    assert {sides[row] for row in table if row.kind == "cartoon"} <= {TRAIN, UNSEEN}
    catalog = Catalog.load()
    for tier in set(TIERS) - {"train"}:
        assert all(c.kind != "cartoon" for cs in Pool.of(catalog, tier).cutouts.values() for c in cs)


def test_excluded_files_are_not_in_the_table(table):
    text = files("moca_avs_bench.stamps").joinpath("excluded.csv").read_text(encoding="utf-8")
    excluded = {(row["package"], row["path"]) for row in csv.DictReader(text.splitlines())}
    assert excluded
    assert not excluded & {(row.package, row.path) for row in table}


def test_pools_hold_only_files_of_their_sides():
    catalog = Catalog.load()
    for tier, (image, sound, ground) in TIERS.items():
        pool = Pool.of(catalog, tier)
        assert {c.side for cs in pool.cutouts.values() for c in cs} == {image}
        assert {s.side for gs in pool.sounds.values() for g in gs for s in g} == {sound}
        assert {b.side for b in pool.backgrounds} == {ground}
        assert all(c.category == name for name, cs in pool.cutouts.items() for c in cs)


def test_families_name_known_classes_and_are_symmetric(table):
    names = {row.category for row in [*table, *read_table("world.csv")] if row.category}
    assert {member for members in FAMILIES.values() for member in members} <= names
    assert confusable("dog", "dog")
    assert confusable("guitar", "banjo")
    assert confusable("banjo", "guitar")
    assert not confusable("dog", "violin")


def test_unknown_sets_and_tiers_are_refused():
    with pytest.raises(UsageError, match="core, full"):
        Catalog.load("everything")
    with pytest.raises(UsageError, match="test-A"):
        Pool.of(Catalog.load(), "test")
