"""The larger world to train on: properties of its table and of its split, without any media."""

from collections import defaultdict
from importlib.resources import files

import pytest

from moca_avs.errors import UsageError
from moca_avs.hub.catalog import ASSETS
from moca_avs_bench.stamps.build import build_stamps
from moca_avs_bench.stamps.media import Catalog, read_table
from moca_avs_bench.stamps.scenes import Pool
from moca_avs_bench.stamps.splits import TRAIN, VAL, assign_sides, unseen_classes, world_sides


@pytest.fixture(scope="module")
def world():
    return read_table("world.csv")


@pytest.fixture(scope="module")
def sides(world):
    return world_sides(world, unseen_classes(read_table()))


def test_each_file_is_listed_once_and_in_one_table(world):
    keys = [(row.package, row.path) for row in [*world, *read_table()]]
    assert len(keys) == len(set(keys))


def test_it_trains_and_validates_and_is_never_tested(world, sides):
    assert set(sides.values()) == {TRAIN, VAL}
    assert set(sides) == set(world)  # no row of an unseen class is listed
    for row, side in sides.items():
        if row.role == "background" or row.kind in ("cartoon", "scene"):
            assert side == TRAIN


def test_a_group_lies_on_one_side_and_in_one_class(sides):
    found = defaultdict(set)
    for row, side in sides.items():
        found[row.role, row.unit].add((side, row.category))
    assert max(map(len, found.values())) == 1


def test_no_file_of_the_benchmark_moves(sides):
    table = read_table()
    world, core = Catalog.load("world"), Catalog.load("core")
    assert set(core.cutouts) <= set(world.cutouts)
    assert set(core.sounds) <= set(world.sounds)
    assert set(core.backgrounds) <= set(world.backgrounds)
    old = assign_sides(table)
    for medium in (*world.cutouts, *world.sounds, *world.backgrounds):
        known = [
            side for row, side in old.items() if (row.package, row.path) == (medium.package, medium.path)
        ]
        assert known in ([], [medium.side])


def test_validation_has_more_than_forty_independent_sounds():
    """Core has 18 and 9."""
    core, world = Catalog.load("core"), Catalog.load("world")
    assert [len(Pool.of(core, tier).units()) for tier in ("val-B", "val-A")] == [18, 9]
    seen, new = (len(Pool.of(world, tier).units()) for tier in ("val-B", "val-A"))
    assert seen >= 80
    assert new >= 40


def test_tested_sounds_and_their_pictures_held_out_stay_the_same():
    core, world = Catalog.load("core"), Catalog.load("world")
    for tier in ("test-B", "test-A", "test-C"):
        assert Pool.of(core, tier).sounds == Pool.of(world, tier).sounds
    for tier in ("test-A", "test-C"):
        assert Pool.of(core, tier).cutouts == Pool.of(world, tier).cutouts


def test_the_benchmark_is_not_built_from_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="validation"):
        build_stamps(tmp_path / "out", media="world", size="standard")


def test_every_package_has_its_terms_in_the_list_of_licenses(world):
    root = files("moca_avs_bench").joinpath("../../docs/licenses.md")
    text = root.read_text(encoding="utf-8")
    for package in {row.package for row in world}:
        kind = "PyPI" if package in ASSETS else "Debian"
        assert f"{kind} `{package}`" in text
