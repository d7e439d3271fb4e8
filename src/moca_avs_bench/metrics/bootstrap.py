"""Percentile intervals that resample whole source files, since frames of one recording are not independent.

Everything works on *sums per cluster*, float64 [K, S]: S - 1 columns that add up over samples, and their
count in the last. The score of a set of clusters is the highest of its column means: with S = 2 that is a
plain mean, with S = 256 it is the `dataset` protocol's F (the peak of the mean curve).

Where a sample is made of two sources (a duet), its cluster has two `sources`: those are drawn, and it counts
as often as both together, the product (Snijders and Borgatti, Connections 22(2), 1999).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from moca_avs.errors import UsageError

Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(sums of R draws, float64 [R, S]; sums of the split itself [S]) -> a score for each draw [R]."""

Sources = Sequence[tuple[str, ...]]
"""For each cluster the names of the sources it is made of, equally many for all."""

RESAMPLES = 2000
LEVEL = 0.95

_BLOCK = 20_000  # numbers drawn at a time


@dataclass(frozen=True)
class Interval:
    """A score and where a new draw of source files would put it.

    Attributes:
        estimate: the score; NaN where there is nothing to average.
        low: lower end of the percentile interval; NaN with fewer than two clusters, or where no draw counts.
        high: upper end.
        n: what the score is a mean over (videos or frames).
        clusters: number of independent source files behind it.
    """

    estimate: float
    low: float
    high: float
    n: int
    clusters: int


def bootstrap_mean(
    values: Sequence[float] | np.ndarray,
    clusters: Sequence[str],
    weights: Sequence[float] | np.ndarray | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Mean of `values` with a cluster bootstrap interval.

    Args:
        values: float [n].
        clusters: n names; samples of one name are drawn together.
        weights: float [n] >= 0, how much each value counts (a video's number of frames); None: 1 each.
        resamples: number of draws.
        level: of the interval, in (0, 1).
        seed: of the draws.

    Raises:
        UsageError: on lengths that differ or values that are not finite.
    """
    sums = cluster_sums(_columns(values, weights), clusters)
    return interval(sums, resamples=resamples, level=level, seed=seed)


def bootstrap_difference(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    clusters: Sequence[str],
    weights: Sequence[float] | np.ndarray | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Mean of the paired differences a - b of two methods on the same samples; see `bootstrap_mean`."""
    values = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return bootstrap_mean(values, clusters, weights, resamples=resamples, level=level, seed=seed)


def cluster_sums(columns: np.ndarray, clusters: Sequence[str]) -> np.ndarray:
    """Add up the rows of each cluster: float64 [n, S] -> [K, S], clusters in the order of their names.

    Raises:
        UsageError: on lengths that differ.
    """
    if len(columns) != len(clusters):
        raise UsageError(f"each value needs a cluster: found {len(columns)} values, {len(clusters)} clusters")
    names, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, index, columns)
    return sums


def peak_of_means(sums: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The usual statistic: the highest mean among the columns, the last of which is the count."""
    return sums[:, :-1].max(1) / sums[:, -1]


def interval(
    sums: np.ndarray,
    *,
    statistic: Statistic = peak_of_means,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    sources: Sources | None = None,
) -> Interval:
    """Interval of a score from its sums per cluster.

    Args:
        sums: float64 [K, S], the last column a count; clusters that count nothing are left out.
        statistic: what makes a score of sums.
        resamples: number of draws.
        level: of the interval, in (0, 1).
        seed: of the draws.
        sources: of each cluster; None: each is one of its own.
    """
    return _interval(sums, statistic, resamples, level, seed, sources)


def difference_interval(
    a: np.ndarray,
    b: np.ndarray,
    *,
    statistic: Statistic = peak_of_means,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    sources: Sources | None = None,
) -> Interval:
    """Interval of score(a) - score(b), both computed on the same draw of clusters.

    Args:
        a: float64 [K, S], sums per cluster of the first method.
        b: float64 [K, S], of the second on the same samples; row k is the same cluster in both.
        statistic: what makes a score of sums.
        resamples: number of draws.
        level: of the interval, in (0, 1).
        seed: of the draws.
        sources: of each cluster; None: each is one of its own.

    Raises:
        UsageError: where the two were not scored on the same samples.
    """
    if a.shape != b.shape or not np.array_equal(a[:, -1], b[:, -1]):
        raise UsageError("a paired difference needs both methods' scores of the same samples")
    width = a.shape[1]

    def difference(totals: np.ndarray, whole: np.ndarray) -> np.ndarray:
        first = statistic(totals[:, :width], whole[:width])
        return first - statistic(totals[:, width:], whole[width:])

    return _interval(np.concatenate([a, b], axis=1), difference, resamples, level, seed, sources)


def _interval(
    sums: np.ndarray,
    statistic: Statistic,
    resamples: int,
    level: float,
    seed: int,
    sources: Sources | None,
) -> Interval:
    counted, nan = sums[:, -1] > 0, float("nan")
    sums = sums[counted]
    if not len(sums):
        return Interval(nan, nan, nan, 0, 0)
    drawn, members = len(sums), None
    if sources is not None:
        kept = [one for one, counts in zip(sources, counted, strict=True) if counts]
        place = {name: index for index, name in enumerate(sorted(set().union(*kept)))}
        drawn, most = len(place), max(map(len, kept))
        # Where a cluster has fewer sources than others, the last column of ones stands for the missing.
        members = np.array([[place[n] for n in one] + [drawn] * (most - len(one)) for one in kept])
    whole = sums.sum(0)
    estimate, n = float(statistic(whole[None], whole)[0]), round(float(whole[-1]))
    if len(sums) == 1:  # one source says nothing of how sources differ
        return Interval(estimate, nan, nan, n, drawn)
    scores = []
    for counts in _draws(drawn, resamples, seed):
        if members is not None:
            counts = np.pad(counts, ((0, 0), (0, 1)), constant_values=1)[:, members].prod(2)
        totals = counts @ sums
        scores.append(statistic(totals[totals[:, -1] > 0], whole))  # perhaps no two sources met
    defined = np.concatenate(scores)
    if not len(defined):
        return Interval(estimate, nan, nan, n, drawn)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), n, drawn)


def _draws(clusters: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each cluster is drawn, float64 [r, K]; the size of the blocks doesn't change the draws."""
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // clusters)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(clusters, size=(rows, clusters)) + clusters * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters).astype(float)


def _columns(
    values: Sequence[float] | np.ndarray, weights: Sequence[float] | np.ndarray | None
) -> np.ndarray:
    """Values and weights as the two columns (weighted value, weight)."""
    value = np.asarray(values, np.float64)
    weight = np.ones_like(value) if weights is None else np.asarray(weights, np.float64)
    if weight.shape != value.shape or not (np.isfinite(value).all() and np.isfinite(weight).all()):
        raise UsageError("values and weights must be finite and equally many; leave out what was not scored")
    return np.stack([value * weight, weight], axis=1)
