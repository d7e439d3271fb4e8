"""Exact nearest neighbours by cosine, in blocks: float32 products find candidates, exact ones decide.

The unit vectors are rounded to multiples of 2^-26, so every product is a multiple of 2^-52 and every partial
sum of an inner product stays below 2: float64 holds it without rounding, whatever the order of summation. The
float32 product of a block is off by at most `_error`; only pairs that it leaves within reach of a row's
nearest are computed again in float64. What is found is thus the order of the exact inner products, ties to
the lower index, for any block size, thread count or device.

Positive and negative images from nearest neighbours in an image feature space (paper section 3.1).

The paper builds a table of each image's K nearest neighbours once; a positive is a random one of them, a
negative any image that is neither the image nor among them. Frames of one clip are near-duplicates of each
other, so by default (``same_clip=False``) a clip gives its own frames neither positives nor negatives;
``same_clip=True`` is the paper's text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from moca_avs.errors import DataError, UsageError
from moca_avs.hub.weight_files import write_safetensors

GRID = 2.0**26
GROUP = 64  # neighbouring cosines looked at through their maximum
CROWDED = 1 / 64  # share of a block's pairs beyond which computing all of it in float64 is cheaper
PAIRS = 512  # computed again at once: what stays in a core's cache


def nearest_of(unit: Tensor, owner: Tensor, rows: range, width: int, block: int = 8192) -> Tensor:
    """Neighbours of some vectors among all, nearest first; equal cosines go to the lower index.

    Args:
        unit: float32 [N, F] of unit length, multiples of 1 / `GRID`.
        owner: int64 [N]; equal ones are no neighbours of each other (a vector never is its own).
        rows: consecutive vectors to search for.
        width: neighbours wanted per vector, at most N.
        block: vectors compared with `rows` at once; changes speed and memory only.

    Returns:
        int64 [len(rows), width]; -1 where there are no more.
    """
    mine = unit[rows.start : rows.stop]
    best = torch.full((len(mine), width), -torch.inf, dtype=torch.float64, device=unit.device)
    found = torch.full_like(best, -1, dtype=torch.long)
    owners = owner[rows.start : rows.stop]
    kin = torch.isin(owner, owners).nonzero()[:, 0]
    with _no_shortcuts():
        for start, cosine in _blocks(mine, unit, block):
            others = unit[start : start + block]
            own = kin[(kin >= start) & (kin < start + len(others))]
            cosine[:, own - start] = cosine[:, own - start].masked_fill(
                owners[:, None] == owner[own], -torch.inf
            )
            row, column = _promising(cosine, best, _error(unit))
            if len(row) > CROWDED * cosine.numel():
                row, column, score = _exact_block(mine, others, cosine, width)
            else:
                score = _exact_pairs(mine, others, row, column)
            better = score > best[row, -1]
            _merge(best, found, row[better], column[better] + start, score[better])
    return found


@contextmanager
def _no_shortcuts() -> Iterator[None]:
    """Float32 products in float32, whatever the caller allows elsewhere: `_error` counts on it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _error(unit: Tensor) -> float:
    """Bounds |float32 - exact| of an inner product of two unit vectors, in any order of summation.

    The textbook bound is F u / (1 - F u) times their lengths, u = 2^-24; eps = 2 u leaves room for lengths
    that rounding made longer than 1 and for the conversion of an exact value to float32.
    """
    return (unit.shape[1] + 4) * torch.finfo(torch.float32).eps


def _blocks(mine: Tensor, unit: Tensor, block: int) -> Iterator[tuple[int, Tensor]]:
    """(first column, cosines [R, whole groups]) for all of `unit`; -inf past its end. One buffer for all."""
    groups = -(-min(block, len(unit)) // GROUP)
    buffer = torch.empty(len(mine), groups * GROUP, device=unit.device)
    for start in range(0, len(unit), block):
        others = unit[start : start + block]
        torch.mm(mine, others.T, out=buffer[:, : len(others)])
        buffer[:, len(others) :] = -torch.inf
        yield start, buffer


def _promising(cosine: Tensor, best: Tensor, error: float) -> tuple[Tensor, Tensor]:
    """Pairs that may be among their row's nearest: rows and columns, int64 [P], in reading order.

    A row's floor is what its nearest so far have, or what as many maxima of different groups have.
    """
    groups = cosine.unflatten(1, (-1, GROUP))
    peaks = groups.amax(2)
    floor = best[:, -1].float() - error
    if peaks.shape[1] >= best.shape[1]:
        floor = torch.maximum(floor, peaks.topk(best.shape[1], dim=1).values[:, -1] - 2 * error)
    floor = floor.clamp(min=torch.finfo(floor.dtype).min)  # leaves out -inf
    row, group = (peaks >= floor[:, None]).nonzero().unbind(1)
    place, within = (groups[row, group] >= floor[row, None]).nonzero().unbind(1)
    return row[place], group[place] * GROUP + within


def _exact_pairs(mine: Tensor, others: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Exact inner products of pairs: float64 [P]."""
    parts = zip(row.split(PAIRS), column.split(PAIRS), strict=True)
    return torch.cat([(mine[r].double() * others[c].double()).sum(1) for r, c in parts])


def _exact_block(mine: Tensor, others: Tensor, cosine: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `width` best pairs of each row of a block where very many are (nearly) equal, by exact products."""
    exact = mine.double() @ others.double().T
    exact.masked_fill_(cosine[:, : len(others)] == -torch.inf, -torch.inf)
    worst = exact.topk(min(width, len(others)), dim=1).values[:, -1:]
    tied = exact == worst
    chosen = (exact > worst) | (tied & (tied.cumsum(1) <= width))
    row, column = chosen.nonzero().unbind(1)
    return row, column, exact[row, column]


def _merge(best: Tensor, found: Tensor, row: Tensor, index: Tensor, score: Tensor) -> None:
    """Put pairs (sorted by row, then index, all indices above those in `found`) where they belong."""
    if not len(row):
        return
    touched, place, counts = row.unique_consecutive(return_inverse=True, return_counts=True)
    slot = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[place]
    scores = best.new_full((len(touched), int(counts.max())), -torch.inf)
    indices = found.new_full(scores.shape, -1)
    scores[place, slot], indices[place, slot] = score, index
    ranked, order = torch.cat([best[touched], scores], 1).sort(dim=1, descending=True, stable=True)
    best[touched] = ranked[:, : best.shape[1]]
    found[touched] = torch.cat([found[touched], indices], 1).gather(1, order)[:, : best.shape[1]]


Search = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class NeighbourTable:
    """Exact cosine neighbours of every image.

    Attributes:
        neighbours: int64 [N, K], nearest first; -1 where an image has fewer than K.
        clips: int64 [N], equal where two images come from one clip.
        same_clip: whether a clip's own frames may be neighbours (and so positives).
        fingerprint: of what the table was made from.
    """

    neighbours: Tensor
    clips: Tensor
    same_clip: bool
    fingerprint: str

    def __len__(self) -> int:
        return len(self.neighbours)

    def save(self, path: Path) -> None:
        """Write one safetensors file; whole or not at all."""
        about = json.dumps({"same_clip": self.same_clip, "fingerprint": self.fingerprint})
        tensors = {"neighbours": self.neighbours, "clips": self.clips}
        write_safetensors(tensors, path, {"moca_avs_pairs": about})

    @classmethod
    def load(cls, path: Path, fingerprint: str | None = None) -> NeighbourTable:
        """Read what `save` wrote.

        Args:
            path: the file.
            fingerprint: expected; None takes any.

        Raises:
            DataError: if the file is missing, damaged, or made from something else.
        """
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["moca_avs_pairs"])
                table = cls(file.get_tensor("neighbours"), file.get_tensor("clips"), **about)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise DataError(f"{path} is not a readable table of pairs ({error}); delete it") from error
        if fingerprint is not None and table.fingerprint != fingerprint:
            raise DataError(
                f"{path} was made from {table.fingerprint[:12]}, expected {fingerprint[:12]}: the images, "
                "the encoder or the settings have changed; delete it to build it anew"
            )
        return table


def neighbour_table(
    features: Tensor,
    clip_ids: Sequence[str],
    *,
    neighbours: int = 10,
    same_clip: bool = False,
    fingerprint: str = "",
    chunk: int = 1024,
    engine: str = "exact",
) -> NeighbourTable:
    """Exact search by cosine; equal cosines go to the lower index.

    It is `table_of_rows` over `nearest_rows` of all rows; several processes share the work by calling these
    two themselves.

    Args:
        features: [N, F], not normalized.
        clip_ids: N names; equal ones mark frames of one clip.
        neighbours: K (the paper does not give it).
        same_clip: let a clip's own frames be neighbours (and negatives, where they are not).
        fingerprint: stored with the table.
        chunk: see `nearest_rows`.
        engine: see `nearest_rows`.

    Raises:
        UsageError: if K is below 1, the names do not fit the features, or faiss is not installed.
        DataError: if an image would have no positive or no negative.
    """
    found = nearest_rows(
        features, clip_ids, neighbours=neighbours, same_clip=same_clip, chunk=chunk, engine=engine
    )
    return table_of_rows(found, clip_ids, neighbours=neighbours, same_clip=same_clip, fingerprint=fingerprint)


@torch.no_grad()
def nearest_rows(
    features: Tensor,
    clip_ids: Sequence[str],
    rows: range | None = None,
    *,
    neighbours: int = 10,
    same_clip: bool = False,
    chunk: int = 1024,
    engine: str = "exact",
) -> Tensor:
    """The neighbours of some images among all, nearest first: one process's share of a table.

    With several processes, each searches its shard (`DistributedContext.shard`); the results
    concatenated in the order of the ranks are what one process finds, and go into `table_of_rows`.

    The exact engine's cosine of two images is the inner product, without any rounding, of their unit vectors
    rounded to multiples of 2^-26. Its order therefore depends on no block size, thread count, device or
    sharding. It costs 2 N F operations per row, and beyond `features` the memory of one float32 copy of them
    and of ``chunk * 8192`` cosines.

    Args:
        features: [N, F], not normalized.
        clip_ids: N names; equal ones mark frames of one clip.
        rows: consecutive images to search for; None: all.
        neighbours: K.
        same_clip: let a clip's own frames be neighbours.
        chunk: rows compared at once; changes speed and memory only.
        engine: "exact" (torch), or "faiss": the same search through a faiss index, for very many images;
            there, images with (nearly) equal cosines may come in another order.

    Returns:
        int64 [len(rows), min(K, N - 1)] on the CPU; -1 where an image has fewer.

    Raises:
        UsageError: if K is below 1, the names do not fit the features, `rows` leave them, or faiss is not
            installed.
        DataError: if there are no images.
    """
    rows = range(len(features)) if rows is None else rows
    _check(features, clip_ids, rows, neighbours)
    unit = F.normalize(features.float(), dim=1).mul_(GRID).round_().div_(GRID)
    clips = _clip_numbers(clip_ids).to(unit.device)
    width = min(neighbours, max(len(unit) - 1, 1))
    search = _searcher(engine, unit, clips, width, same_clip)
    starts = range(rows.start, rows.stop, chunk)
    found = [search(start, min(start + chunk, rows.stop)).cpu() for start in starts]
    return torch.cat(found) if found else torch.empty(0, width, dtype=torch.long)


def table_of_rows(
    nearest: Tensor,
    clip_ids: Sequence[str],
    *,
    neighbours: int = 10,
    same_clip: bool = False,
    fingerprint: str = "",
) -> NeighbourTable:
    """A table from all images' neighbours, as `nearest_rows` gives them (int64 [N, min(K, N - 1)]).

    Raises:
        DataError: if an image would have no positive or no negative.
    """
    table = NeighbourTable(nearest, _clip_numbers(clip_ids), same_clip, fingerprint)
    _check_enough(table, neighbours)
    return table


def _check(features: Tensor, clip_ids: Sequence[str], rows: range, neighbours: int) -> None:
    if neighbours < 1 or len(clip_ids) != len(features):
        raise UsageError(
            f"expected K >= 1 and one clip id per image, found K = {neighbours}, "
            f"{len(clip_ids)} ids and {len(features)} images"
        )
    if not clip_ids:
        raise DataError("no images to pair; give a folder with at least 3 clips")
    if rows.step != 1 or rows.start < 0 or rows.stop > len(features):
        raise UsageError(f"rows must be consecutive and within 0..{len(features)}, found {rows}")


def _clip_numbers(clip_ids: Sequence[str]) -> Tensor:
    """int64 [N], numbered by first appearance."""
    number = {name: index for index, name in enumerate(dict.fromkeys(clip_ids))}
    return torch.tensor([number[name] for name in clip_ids])


def _searcher(engine: str, unit: Tensor, clips: Tensor, width: int, same_clip: bool) -> Search:
    """What finds the neighbours of the images start..end: int64 [rows, width], -1 where there are no more."""
    if engine == "exact":
        owner = torch.arange(len(unit), device=unit.device) if same_clip else clips
        return lambda start, end: nearest_of(unit, owner, range(start, end), width)
    if engine != "faiss":
        raise UsageError(f"engine must be exact or faiss, found {engine!r}")
    try:
        import faiss
    except ImportError as error:
        raise UsageError(
            "the engine 'faiss' is not installed: pip install 'moca-avs[faiss]', or use 'exact'"
        ) from error
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit.numpy(force=True))
    most = 1 if same_clip else int(clips.bincount().max())  # answers that may have to be left out

    def search(start: int, end: int) -> Tensor:
        _, found = index.search(unit[start:end].numpy(force=True), min(len(unit), width + most))
        return _allowed(torch.from_numpy(found), clips.cpu(), start, width, same_clip)

    return search


def _allowed(found: Tensor, clips: Tensor, start: int, width: int, same_clip: bool) -> Tensor:
    """The first `width` of each row of answers (int64 [rows, k]) that are no frame of the row's own clip."""
    row = torch.arange(start, start + len(found))
    own = found == row[:, None] if same_clip else clips[found] == clips[row, None]
    order = own.int().argsort(dim=1, stable=True)[:, :width]
    return found.gather(1, order).masked_fill(own.gather(1, order), -1)


def _check_enough(table: NeighbourTable, neighbours: int) -> None:
    total, clips = len(table), int(table.clips.unique().numel())
    positives = (table.neighbours >= 0).sum(1)
    if int(positives.min()) == 0:
        raise DataError(
            f"an image needs another one as its positive: found {total} images from {clips} clips; give at "
            "least 3 clips, or let a clip be its own positive"
        )
    if int(_negatives_left(table).min()) <= 0:
        raise DataError(
            f"an image has no negative left: with {total} images from {clips} clips, all others are among "
            f"its {neighbours} nearest neighbours; use fewer neighbours or more clips"
        )


def _negatives_left(table: NeighbourTable) -> Tensor:
    """How many images may be a negative of each image: int64 [N]."""
    own = torch.ones_like(table.clips) if table.same_clip else table.clips.bincount()[table.clips]
    return len(table) - own - (table.neighbours >= 0).sum(1)


def sample_pairs(table: NeighbourTable, anchors: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw one positive and one negative per anchor, uniformly among those allowed.

    Args:
        table: from `neighbour_table`.
        anchors: int64 [B] image indices.
        generator: CPU generator; equal states give equal pairs.

    Returns:
        (positives, negatives), int64 [B] each. A negative is neither the anchor nor one of its neighbours,
        and no frame of its clip unless the table allows ``same_clip``.
    """
    rows = table.neighbours[anchors]
    there = rows >= 0
    draw = torch.rand(2, len(anchors), generator=generator, dtype=torch.float64)
    pick = (draw[0] * there.sum(1)).long()
    positives = rows.gather(1, pick[:, None])[:, 0]
    own = torch.arange(len(table)) if table.same_clip else table.clips
    forbidden = own[anchors, None] == own
    forbidden.scatter_(1, torch.where(there, rows, anchors[:, None]), True)
    rank = (draw[1] * (~forbidden).sum(1)).long()
    negatives = ((~forbidden).cumsum(1) <= rank[:, None]).sum(1)
    return positives, negatives
