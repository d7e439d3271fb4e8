"""Duets of small videos: who is where, what is heard, what moves."""

from collections import Counter

import numpy as np
import pytest

from helpers.color_models import colored
from helpers.real_videos import loudest, write_manifest, write_world
from moca_avs.errors import DataError
from moca_avs_bench.data import open_evaluation_set
from moca_avs_bench.data.duets import TIERS, DuetSet, draw_pairs, halves, layout
from moca_avs_bench.data.video_manifest import ManifestEntry

NAMES = ("red", "green", "blue", "red", "green")
SIZES = ((64, 96), (64, 96), (96, 64), (80, 160), (64, 96))


@pytest.fixture(scope="module")
def duets(tmp_path_factory):
    return open_evaluation_set("duets", write_world(tmp_path_factory.mktemp("w"), NAMES, (4,), SIZES))


def test_pairs_of_audible_clips(duets):
    assert duets.silent == ["4"]
    assert [sorted(one.split("+")) for one in duets.ids[5:6]] == [["0", "3"]]  # of one kind
    assert {tuple(sorted(one.split("+"))) for one in duets.ids[:6]} == {
        (a, b) for a in "0123" for b in "0123" if a < b
    }
    assert duets.ids[6:] == [f"{a}+{a}@1.5" for a in "0123"]  # 2.5 s later would be too near to the end
    assert [duets.load(one).tier for one in duets.ids] == [TIERS[0]] * 5 + [TIERS[1]] + [TIERS[2]] * 4


def test_one_clip_twice_differs_only_in_when_it_moves_and_sounds(duets):
    sample = duets.load("0+0@1.5")
    clip, other = sample.clip, sample.swapped[0]
    assert sample.cluster == "0"  # one clip, so it counts once
    shift = round(2.5 * clip.sample_rate)
    assert other.sound_start == pytest.approx(clip.sound_start + 2.5, abs=1e-3) or not np.array_equal(
        clip.sound[:shift], other.sound[:shift]
    )


def test_each_clip_is_in_its_half_and_heard_in_its_turn(duets):
    for one in duets.ids[:6]:
        first, second = (NAMES[int(number)] for number in one.split("+"))
        sample = duets.load(one)
        other, own_half = sample.swapped[0], sample.masks[0]
        assert (loudest(sample.clip), loudest(other)) == (first, second)
        assert np.array_equal(sample.clip.frames, other.frames)
        assert np.array_equal(own_half, ~sample.swapped[1][0])
        frame = sample.clip.frames[0]
        if first != second:
            assert colored(frame, first).any()
            assert not (colored(frame, first) & ~own_half).any()
            assert not (colored(frame, second) & own_half).any()
        else:  # a box in each
            assert (colored(frame, first) & own_half).any()
            assert (colored(frame, first) & ~own_half).any()


def test_proportions_are_kept_and_nothing_is_enlarged(duets):
    sizes, axis = layout((64, 96), (80, 160))
    assert (sizes, axis) == ([(64, 96), (48, 96)], 0)  # one above the other: 96 x 112
    sizes, axis = layout((96, 64), (90, 60))
    assert (sizes, axis) == ([(90, 60), (90, 60)], 1)
    sizes, _ = layout((1080, 1920), (2160, 3840))
    assert sizes == [(384, 683), (384, 683)]  # at most 768
    masks = halves((64, 96), (80, 160))
    assert masks.shape == (2, 112, 96)
    assert masks.sum((1, 2)).tolist() == [64 * 96, 48 * 96]
    assert masks[0, :64].all()
    for one in duets.ids:
        frames = duets.load(one).clip.frames
        assert frames.shape[1:3] == duets.load(one).masks.shape[1:]


def test_movement_is_where_the_box_is_and_at_its_time(duets):
    """Both boxes jump but near the common time, so their halves move but then."""
    sample = duets.load(duets.ids[0])
    clip = sample.clip
    moving, times = clip.motion_frames.astype(int), clip.motion_times
    assert max(moving.shape[1:]) == 64
    assert clip.times == pytest.approx([3])
    assert times[0] >= 0
    steps, later = np.abs(np.diff(moving, axis=0)), times[1:]
    rows, columns = (
        np.arange(n) * size // n for n, size in zip(moving.shape[1:], sample.masks.shape[1:], strict=True)
    )
    for half in (sample.masks[0], sample.swapped[1][0]):
        inside = half[rows[:, None], columns]
        shown = steps[:, inside].mean(1)
        near = np.abs(later - clip.times[0]) < 0.15
        assert shown[near].max() < 1
        assert shown[np.abs(later - clip.times[0]) > 0.4].min() > 2


def test_duets_are_the_same_every_time(duets):
    root = duets._pairs[duets.ids[0]][0].path.parent
    again = DuetSet(root)
    assert again.ids == duets.ids
    a, b = duets.load(duets.ids[1]), again.load(duets.ids[1])
    assert np.array_equal(a.clip.frames, b.clip.frames)
    assert np.array_equal(a.clip.sound, b.clip.sound)
    assert DuetSet(root, seed=5).ids != duets.ids
    assert len(DuetSet(root, pairs=2)) == 2 + 1 + 2


def test_no_clip_dominates_the_draw():
    entries = [
        ManifestEntry(str(i), None, 0.0, np.zeros((0, 4)), np.zeros((0, 4)), f"kind{i // 2}")
        for i in range(20)
    ]
    pairs = draw_pairs(entries, 60, 0)
    assert len(pairs) == 60 + 10
    assert all(a.kind != b.kind for a, b in pairs[:60])
    assert all(a.kind == b.kind for a, b in pairs[60:])
    assert len({frozenset((a.id, b.id)) for a, b in pairs}) == 70
    counts = Counter(one.id for pair in pairs[:60] for one in pair)
    assert max(counts.values()) - min(counts.values()) <= 2
    assert pairs == draw_pairs(entries, 60, 0)


def test_what_duets_need_is_told(tmp_path):
    write_manifest(tmp_path, [{"file": "a.mp4", "time_s": 1, "kind": "x"}])
    with pytest.raises(DataError, match=r"clip a .* has not its video"):
        DuetSet(tmp_path)
    (tmp_path / "a.mp4").touch()
    write_manifest(tmp_path, [{"file": "a.mp4", "time_s": 1, "kind": ""}])
    with pytest.raises(DataError, match="has not a kind"):
        DuetSet(tmp_path)
    (tmp_path / "w").mkdir()
    world = write_world(tmp_path / "w", ("red", "green"), silent=(1,))
    with pytest.raises(DataError, match="1 clips that can be heard"):
        DuetSet(world)
