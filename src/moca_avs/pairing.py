"""Positive and negative images from nearest neighbours in an image feature space (paper section 3.1).

The paper builds a table of each image's K nearest neighbours once; a positive is a random one of them, a
negative any image that is neither the image nor among them. Frames of one clip are near-duplicates of each
other, so by default (``same_clip=False``) a clip gives its own frames neither positives nor negatives;
``same_clip=True`` is the paper's text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from moca_avs.errors import DataError, UsageError
from moca_avs.exact_search import GRID, nearest_of
from moca_avs.fetch.weights import write_safetensors

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
        features: [N, F], not normalised.
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

    With several processes, each searches its share (`moca_avs.training.parallel.World.share`); the results
    concatenated in the order of the ranks are what one process finds, and go into `table_of_rows`.

    The exact engine's cosine of two images is the inner product, without any rounding, of their unit vectors
    rounded to multiples of 2^-26. Its order therefore depends on no block size, thread count, device or
    sharding. It costs 2 N F operations per row, and beyond `features` the memory of one float32 copy of them
    and of ``chunk * 8192`` cosines.

    Args:
        features: [N, F], not normalised.
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
