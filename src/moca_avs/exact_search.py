"""Exact nearest neighbours by cosine, in blocks: float32 products find candidates, exact ones decide.

The unit vectors are rounded to multiples of 2^-26, so every product is a multiple of 2^-52 and every partial
sum of an inner product stays below 2: float64 holds it without rounding, whatever the order of summation. The
float32 product of a block is off by at most `_error`; only pairs that it leaves within reach of a row's
nearest are computed again in float64. What is found is thus the order of the exact inner products, ties to
the lower index, for any block size, thread count or device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

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
