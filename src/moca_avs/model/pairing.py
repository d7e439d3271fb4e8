"""Positive and negative images from nearest neighbours in an image feature space (paper section 3.1).

The paper builds a table of each image's K nearest neighbours once; a positive is a random one of them, a
negative any image that is neither the image nor among them. Frames of one clip are near-duplicates of each
other, so by default (``same_clip=False``) a clip gives its own frames neither positives nor negatives;
``same_clip=True`` is the paper's text.

The search is exact. Unit vectors are rounded to multiples of 2^-26, so every product of two entries is a
multiple of 2^-52 and every partial sum of an inner product stays below 2: float64 holds it without rounding,
whatever the order of summation. Float32 products select a few candidates per image, float64 ones order them.
The result is the order of the exact inner products, ties to the lower index, for any block size, number of
threads, device or sharding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from moca_avs.errors import DataError, UsageError
from moca_avs.hub.weight_files import write_safetensors
from moca_avs.utils.files import parse_json

GRID = 2.0**26
SPARE = 16  # candidates per row beyond the neighbours wanted
EXACT_ROWS = 64  # rows whose candidates are computed in float64 at once


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
    mine, owners = unit[rows.start : rows.stop], owner[rows.start : rows.stop]
    kept = width + SPARE
    rough = mine.new_full((len(mine), kept), -torch.inf)  # the best float32 cosines, falling
    index = torch.full_like(rough, -1, dtype=torch.long)
    buffer = mine.new_empty(len(mine) * min(block, len(unit)))
    with _full_float32():
        for start in range(0, len(unit), block):
            others = unit[start : start + block]
            cosine = buffer[: len(mine) * len(others)].view(len(mine), -1)
            torch.mm(mine, others.T, out=cosine)
            _leave_out(cosine, owners, owner[start : start + block])
            best, place = cosine.topk(min(kept, len(others)), dim=1)
            rough, order = torch.cat([rough, best], 1).topk(kept, dim=1)
            index = torch.cat([index, place + start], 1).gather(1, order)
    exact = torch.full_like(rough, -torch.inf, dtype=torch.float64)
    for part in torch.split(torch.arange(len(mine)), EXACT_ROWS):
        exact[part] = (unit[index[part]].double() @ mine[part].double()[:, :, None])[:, :, 0]
    exact, index = _first(exact.masked_fill(rough == -torch.inf, -torch.inf), index, width)
    # Whatever was not kept has a float32 cosine of at most the last one kept.
    last = rough[:, -1].double()
    unsure = (exact[:, -1] <= last + _error(unit)) & (last > -torch.inf)
    for part in torch.split(unsure.nonzero()[:, 0], EXACT_ROWS):
        index[part] = _nearest_in_float64(unit, owner, mine[part], owners[part], width, block)
    return index


def _nearest_in_float64(
    unit: Tensor, owner: Tensor, mine: Tensor, owners: Tensor, width: int, block: int
) -> Tensor:
    """`nearest_of` without float32: [R, F] and [R] -> int64 [R, width]."""
    score = mine.new_full((len(mine), width), -torch.inf, dtype=torch.float64)
    index = torch.full_like(score, -1, dtype=torch.long)
    for start in range(0, len(unit), block):
        cosine = mine.double() @ unit[start : start + block].double().T
        _leave_out(cosine, owners, owner[start : start + block])
        best = cosine.topk(min(width, cosine.shape[1]), dim=1).values
        tied = cosine == best[:, -1:]
        cosine[tied & (tied.cumsum(1) > width)] = -torch.inf  # topk promises no order among equal ones
        best, place = cosine.topk(min(2 * width, cosine.shape[1]), dim=1)
        score, index = _first(torch.cat([score, best], 1), torch.cat([index, place + start], 1), width)
    return index


def _leave_out(cosine: Tensor, owners: Tensor, owner: Tensor) -> None:
    """Set the cosines [R, C] of vectors with one owner (int64 [R] and [C]) to -inf, in place."""
    column = torch.isin(owner, owners).nonzero()[:, 0]
    cosine[:, column] = cosine[:, column].masked_fill_(owners[:, None] == owner[column], -torch.inf)


def _first(score: Tensor, index: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The `width` highest scores of each row and their indices, ties to the lower; -1 where it is -inf."""
    index, order = index.sort(dim=1)
    score, place = score.gather(1, order).sort(dim=1, descending=True, stable=True)
    score, index = score[:, :width], index.gather(1, place)[:, :width]
    return score, index.masked_fill(score == -torch.inf, -1)


@contextmanager
def _full_float32() -> Iterator[None]:
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
                about = parse_json((file.metadata() or {})["moca_avs_pairs"])
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
    """`table_of_rows` over `nearest_rows` of all rows; see there for the arguments and errors.

    Several processes share the work by calling these two themselves.
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

    The results of several shards (`DistributedContext.shard`), concatenated in the order of the ranks, are
    what one process finds. A row costs 2 N F operations; the memory beyond `features` is one float32 copy of
    them and ``chunk * 8192`` cosines.

    Args:
        features: [N, F], not normalized.
        clip_ids: N names; equal ones mark frames of one clip.
        rows: consecutive images to search for; None: all.
        neighbours: K (the paper does not give it).
        same_clip: let a clip's own frames be neighbours.
        chunk: rows compared at once; changes speed and memory only.
        engine: "exact" (torch), or "faiss": the same search through a faiss index, for very many images;
            there, images with (nearly) equal cosines may come in another order.

    Returns:
        int64 [len(rows), min(K, N - 1)] on the CPU; -1 where an image has fewer.

    Raises:
        UsageError: if K is below 1, the names do not fit the features, `rows` leave them, or faiss is not
            installed.
        DataError: if there are no images, or features that are no finite numbers.
    """
    rows = range(len(features)) if rows is None else rows
    if neighbours < 1 or len(clip_ids) != len(features):
        raise UsageError(
            f"expected K >= 1 and one clip id per image, found K = {neighbours}, "
            f"{len(clip_ids)} ids and {len(features)} images"
        )
    if not clip_ids:
        raise DataError("no images to pair; give a folder with at least 3 clips")
    if rows.step != 1 or rows.start < 0 or rows.stop > len(features):
        raise UsageError(f"rows must be consecutive and within 0..{len(features)}, found {rows}")
    if engine not in ("exact", "faiss"):
        raise UsageError(f"engine must be exact or faiss, found {engine!r}")
    bad = int((~features.isfinite()).any(1).sum())
    if bad:
        raise DataError(f"{bad} of {len(features)} images have features that are no finite numbers")
    unit = F.normalize(features.float(), dim=1).mul_(GRID).round_().div_(GRID)
    clips = _clip_numbers(clip_ids).to(unit.device)
    width = min(neighbours, max(len(unit) - 1, 1))
    parts = [rows[at : at + chunk] for at in range(0, len(rows), chunk)]
    if engine == "exact":
        owner = torch.arange(len(unit), device=unit.device) if same_clip else clips
        found = [nearest_of(unit, owner, part, width).cpu() for part in parts]
    else:
        found = _nearest_by_faiss(unit, clips.cpu(), parts, width, same_clip)
    return torch.cat(found) if found else torch.empty(0, width, dtype=torch.long)


def _nearest_by_faiss(
    unit: Tensor, clips: Tensor, parts: list[range], width: int, same_clip: bool
) -> list[Tensor]:
    """What `nearest_of` finds for each part, through a faiss index."""
    try:
        import faiss
    except ImportError as error:
        raise UsageError(
            "the engine 'faiss' is not installed: pip install 'moca-avs[faiss]', or use 'exact'"
        ) from error
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit.numpy(force=True))
    most = 1 if same_clip else int(clips.bincount().max())  # answers that may have to be left out
    found = []
    for part in parts:
        vectors = unit[part.start : part.stop].numpy(force=True)
        _, nearest = index.search(vectors, min(len(unit), width + most))
        found.append(_allowed(torch.from_numpy(nearest), clips, part.start, width, same_clip))
    return found


def _allowed(found: Tensor, clips: Tensor, start: int, width: int, same_clip: bool) -> Tensor:
    """The first `width` of each row of answers (int64 [rows, k]) that are no frame of the row's own clip."""
    row = torch.arange(start, start + len(found))
    own = found == row[:, None] if same_clip else clips[found] == clips[row, None]
    order = own.int().argsort(dim=1, stable=True)[:, :width]
    return found.gather(1, order).masked_fill(own.gather(1, order), -1)


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
    clips = _clip_numbers(clip_ids)
    positives = (nearest >= 0).sum(1)
    frames = clips.bincount()
    total = f"{len(clips)} images from {len(frames)} clips"
    if int(positives.min()) == 0:
        raise DataError(
            f"an image needs another one as its positive: found {total}; give at "
            "least 3 clips, or let a clip be its own positive"
        )
    negatives = len(clips) - positives - (1 if same_clip else frames[clips])
    if int(negatives.min()) <= 0:
        raise DataError(
            f"an image has no negative left: with {total}, all others are among "
            f"its {neighbours} nearest neighbours; use fewer neighbours or more clips"
        )
    return NeighbourTable(nearest, clips, same_clip, fingerprint)


def _clip_numbers(clip_ids: Sequence[str]) -> Tensor:
    """int64 [N], numbered by first appearance."""
    number = {name: index for index, name in enumerate(dict.fromkeys(clip_ids))}
    return torch.tensor([number[name] for name in clip_ids])


def sample_shifted(clips: Tensor, anchors: Tensor, otherwise: Tensor, generator: torch.Generator) -> Tensor:
    """Draw another frame of each anchor's clip, uniformly, so that its sound is of another time: int64 [B].

    Args:
        clips: int64 [N], equal where two images come from one clip (`NeighbourTable`).
        anchors: int64 [B] image indices.
        otherwise: int64 [B], what is taken for an anchor whose clip has no other frame.
        generator: CPU generator; equal states give equal frames.
    """
    allowed = clips[anchors, None] == clips
    allowed[torch.arange(len(anchors)), anchors] = False
    draw = torch.rand(len(anchors), generator=generator, dtype=torch.float64)
    return torch.where(allowed.any(1), _drawn(allowed, draw), otherwise)


def _drawn(allowed: Tensor, draw: Tensor) -> Tensor:
    """An allowed column of each row of bool [B, N], by float64 [B] in [0, 1): int64 [B]; N where none is."""
    rank = (draw * allowed.sum(1)).long()
    return (allowed.cumsum(1) <= rank[:, None]).sum(1)


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
    return positives, _drawn(~forbidden, draw[1])
