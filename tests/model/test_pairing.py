"""Pairs against a slow search, and the promises of what may be drawn."""

import pytest
import torch

from moca_avs.errors import DataError, UsageError
from moca_avs.model.pairing import (
    NeighbourTable,
    nearest_rows,
    neighbour_table,
    sample_pairs,
    sample_shifted,
    table_of_rows,
)
from moca_avs.training.distributed import DistributedContext


def slow_neighbours(features, clips, count, same_clip):
    """Row by row, sorted by (falling cosine, index)."""
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    table = []
    for i in range(len(unit)):
        others = [j for j in range(len(unit)) if j != i and (same_clip or clips[j] != clips[i])]
        others.sort(key=lambda j: (-round(float(unit[i] @ unit[j]), 6), j))
        table.append((others + [-1] * count)[: min(count, len(unit) - 1)])
    return torch.tensor(table)


def world(images=40, per_clip=2, seed=0):
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(images, 8, generator=rng).round()  # rounding makes ties
    return features, [f"clip{i // per_clip}" for i in range(images)]


@pytest.mark.parametrize("same_clip", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_equals_the_slow_search(same_clip, chunk):
    rng = torch.Generator().manual_seed(3)
    features, clips = torch.randn(40, 8, generator=rng), [f"clip{i // 3}" for i in range(40)]
    table = neighbour_table(features, clips, neighbours=5, same_clip=same_clip, chunk=chunk)
    assert torch.equal(table.neighbours, slow_neighbours(features, clips, 5, same_clip))


def test_ties_go_to_the_lower_index():
    features = torch.eye(4).repeat(5, 1)  # 20 images in 4 groups of equal ones
    table = neighbour_table(features, [str(i) for i in range(20)], neighbours=6)
    assert table.neighbours[5].tolist() == [1, 9, 13, 17, 0, 2]
    assert table.neighbours[0].tolist() == [4, 8, 12, 16, 1, 2]


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("same_clip", [False, True])
def test_shares_put_together_are_the_whole(ranks, same_clip):
    features, clips = world()
    options = {"neighbours": 5, "same_clip": same_clip}
    rows = [DistributedContext(rank, ranks).shard(40) for rank in range(ranks)]
    assert [row for share in rows for row in share] == list(range(40))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1
    shares = [nearest_rows(features, clips, share, **options) for share in rows]
    assert all(len(found) == len(share) for found, share in zip(shares, rows, strict=True))
    table = table_of_rows(torch.cat(shares), clips, fingerprint="f", **options)
    whole = neighbour_table(features, clips, fingerprint="f", **options)
    assert torch.equal(table.neighbours, whole.neighbours)
    assert torch.equal(table.clips, whole.clips)
    assert (table.same_clip, table.fingerprint) == (same_clip, "f")


@pytest.mark.parametrize("rows", [range(-1, 3), range(38, 41), range(0, 10, 2)])
def test_rows_must_be_there(rows):
    with pytest.raises(UsageError, match=r"within 0\.\.40, found range"):
        nearest_rows(*world(), rows)


def test_lengths_do_not_matter():
    features, clips = world()
    features = features + 0.01 * torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    one = neighbour_table(features, clips, neighbours=5)
    two = neighbour_table(features * torch.linspace(0.1, 50, 40)[:, None], clips, neighbours=5)
    assert torch.equal(one.neighbours, two.neighbours)


@pytest.mark.parametrize("same_clip", [False, True])
def test_only_what_is_allowed_is_drawn_and_all_of_it(same_clip):
    features, clips = world()
    table = neighbour_table(features, clips, neighbours=5, same_clip=same_clip)
    anchors = torch.arange(40).repeat(300)
    positives, negatives = sample_pairs(table, anchors, torch.Generator().manual_seed(0))
    for anchor in range(40):
        near = set(table.neighbours[anchor].tolist())
        own = {anchor} if same_clip else {j for j in range(40) if clips[j] == clips[anchor]}
        drawn = anchors == anchor
        assert set(positives[drawn].tolist()) == near
        allowed = set(range(40)) - near - own
        seen = negatives[drawn].tolist()
        assert set(seen) == allowed
        assert max(seen.count(j) for j in allowed) < 4 * 300 / len(allowed)  # roughly uniform


def test_seeds_decide():
    table = neighbour_table(*world(), neighbours=5)
    anchors = torch.arange(40)
    one, two, three = (sample_pairs(table, anchors, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


def test_rows_with_few_neighbours_use_what_they_have():
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    clips = ["a", "a", "a", "b", "c", "d"]
    table = neighbour_table(features, clips, neighbours=2)
    assert (table.neighbours >= 0).all()
    wide = NeighbourTable(torch.tensor([[1, -1], [0, 2], [0, -1], [0, -1]]), torch.arange(4), False, "")
    anchors = torch.arange(4).repeat(50)
    positives, negatives = sample_pairs(wide, anchors, torch.Generator().manual_seed(0))
    assert set(positives[anchors == 0].tolist()) == {1}
    assert set(negatives[anchors == 0].tolist()) == {2, 3}
    assert set(negatives[anchors == 1].tolist()) == {3}


@pytest.mark.parametrize(
    ("clips", "neighbours", "same_clip", "says"),
    [
        ([], 10, False, "no images"),
        (["a"], 10, True, "needs another one"),
        (["a", "a", "a"], 10, False, "3 images from 1 clips"),
        (["a", "b", "c"], 10, False, "no negative left"),
        (["a"] * 11, 10, True, "no negative left"),
    ],
)
def test_too_little_to_pair_is_said(clips, neighbours, same_clip, says):
    features = torch.randn(len(clips), 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match=says):
        neighbour_table(features, clips, neighbours=neighbours, same_clip=same_clip)


def test_one_more_image_is_enough():
    features = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    table = neighbour_table(features, ["a"] * 12, neighbours=10, same_clip=True)
    positives, negatives = sample_pairs(table, torch.arange(12), torch.Generator())
    assert (table.neighbours != negatives[:, None]).all()
    assert (positives != torch.arange(12)).all()


def test_arguments_must_fit():
    with pytest.raises(UsageError, match="3 ids and 4 images"):
        neighbour_table(torch.ones(4, 2), ["a", "b", "c"])
    with pytest.raises(UsageError, match="K = 0"):
        neighbour_table(torch.ones(3, 2), ["a", "b", "c"], neighbours=0)


def test_a_file_brings_the_table_back(tmp_path):
    table = neighbour_table(*world(), neighbours=5, same_clip=True, fingerprint="f" * 64)
    table.save(tmp_path / "pairs.safetensors")
    again = NeighbourTable.load(tmp_path / "pairs.safetensors", "f" * 64)
    assert torch.equal(again.neighbours, table.neighbours)
    assert torch.equal(again.clips, table.clips)
    assert (again.same_clip, again.fingerprint) == (True, "f" * 64)
    with pytest.raises(DataError, match="made from ffffffffffff, expected eeeeeeeeeeee"):
        NeighbourTable.load(tmp_path / "pairs.safetensors", "e" * 64)


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_a_bad_file_is_named(tmp_path, content):
    path = tmp_path / "pairs.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"pairs\.safetensors is not a readable table"):
        NeighbourTable.load(path)


def test_features_that_are_no_numbers_are_refused():
    features = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    features[3, 1] = torch.nan
    with pytest.raises(DataError, match="1 of 30 images have features that are no finite numbers"):
        neighbour_table(features, [str(index // 10) for index in range(30)], neighbours=5)


def test_shifted_frames_are_others_of_the_clip_and_all_come_up() -> None:
    clips = torch.tensor([0, 0, 0, 1, 2, 2])
    anchors, otherwise = torch.tensor([1, 3, 5]), torch.tensor([4, 0, 0])
    drawn = {
        tuple(sample_shifted(clips, anchors, otherwise, torch.Generator().manual_seed(s)).tolist())
        for s in range(40)
    }
    assert drawn == {(0, 0, 4), (2, 0, 4)}  # the second anchor is alone in its clip
