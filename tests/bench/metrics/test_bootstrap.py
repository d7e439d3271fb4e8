"""Intervals against a slow loop, a textbook formula, and their own promise (coverage)."""

import numpy as np
import pytest

from moca_avs.errors import UsageError
from moca_avs_bench.metrics import bootstrap as bs


def data(seed, clusters=8, n=40):
    rng = np.random.default_rng(seed)
    names = [f"file{k}" for k in rng.integers(clusters, size=n)]
    return rng.random(n), names, rng.integers(1, 6, n)


def slow_interval(values, names, weights, resamples, seed):
    """Resample names in a loop and average what they hold."""
    rng = np.random.default_rng(seed)
    found, order = [], sorted(set(names))
    for _ in range(resamples):
        drawn = [order[k] for k in rng.integers(len(order), size=len(order))]
        picked = [i for name in drawn for i in range(len(names)) if names[i] == name]
        found.append(sum(values[i] * weights[i] for i in picked) / sum(weights[i] for i in picked))
    return np.percentile(found, [2.5, 97.5])


def test_the_interval_equals_a_slow_reference():
    values, names, weights = data(0)
    found = bs.bootstrap_mean(values, names, weights, resamples=300, seed=5)
    low, high = slow_interval(values, names, weights, 300, 5)
    assert found.estimate == pytest.approx(np.average(values, weights=weights))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert (found.n, found.clusters) == (weights.sum(), len(set(names)))


def test_the_blocks_do_not_change_the_draws():
    values, names = np.random.default_rng(1).random(30_000), [str(k) for k in range(30_000)]
    found = bs.bootstrap_mean(values, names, resamples=70, seed=2)  # 33 resamples a block
    rng = np.random.default_rng(2)
    order = np.argsort(names)
    means = [values[order][rng.integers(30_000, size=30_000)].mean() for _ in range(70)]
    assert (found.low, found.high) == (
        pytest.approx(np.percentile(means, 2.5)),
        pytest.approx(np.percentile(means, 97.5)),
    )


def test_singletons_give_the_standard_error():
    values = np.random.default_rng(3).normal(size=400)
    found = bs.bootstrap_mean(values, [str(k) for k in range(400)])
    error = values.std(ddof=1) / 20
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_copies_of_a_file_do_not_narrow_the_interval():
    values, names = np.random.default_rng(4).random(12), [f"f{k}" for k in range(12)]
    once = bs.bootstrap_mean(values, names)
    ten = bs.bootstrap_mean(np.repeat(values, 10), np.repeat(names, 10))
    assert (ten.low, ten.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert (ten.n, ten.clusters) == (120, 12)


def test_coverage_is_near_the_level():
    rng, inside = np.random.default_rng(6), 0
    for trial in range(200):
        centers = rng.normal(size=40)
        names = np.repeat([str(k) for k in range(40)], 5)
        values = np.repeat(centers, 5) + rng.normal(size=200) * 0.3
        found = bs.bootstrap_mean(values, names, resamples=300, seed=trial)
        inside += found.low <= 0 <= found.high
    assert 0.89 <= inside / 200 <= 0.99


def test_pairing_removes_what_both_share():
    rng = np.random.default_rng(7)
    names = np.repeat([str(k) for k in range(30)], 4)
    shared = np.repeat(rng.normal(size=30) * 3, 4)
    a, b = shared + 0.2 + rng.normal(size=120) * 0.1, shared + rng.normal(size=120) * 0.1
    found = bs.bootstrap_difference(a, b, names)
    assert found.estimate == pytest.approx((a - b).mean())
    assert 0.1 < found.low < 0.2 < found.high < 0.3
    alone = bs.bootstrap_mean(a, names)
    assert alone.high - alone.low > 10 * (found.high - found.low)
    same = bs.bootstrap_difference(a, a, names)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)


def test_the_peak_of_a_mean_curve():
    rng = np.random.default_rng(8)
    curves, names = rng.random((20, 6)), [f"f{k % 7}" for k in range(20)]
    sums = bs.cluster_sums(np.hstack([curves, np.ones((20, 1))]), names)
    found = bs.interval(sums, resamples=200, seed=3)
    assert found.estimate == pytest.approx(curves.mean(0).max())
    draws = np.random.default_rng(3)
    peaks = []
    for _ in range(200):
        picked = [i for k in draws.integers(7, size=7) for i in range(20) if names[i] == f"f{k}"]
        peaks.append(curves[picked].mean(0).max())
    assert (found.low, found.high) == tuple(pytest.approx(p) for p in np.percentile(peaks, [2.5, 97.5]))
    other = bs.cluster_sums(np.hstack([curves[:, ::-1] * 0.5, np.ones((20, 1))]), names)
    gap = bs.difference_interval(sums, other, resamples=200, seed=3)
    assert gap.estimate == pytest.approx(curves.mean(0).max() / 2)
    assert (gap.low, gap.high) == (pytest.approx(found.low / 2), pytest.approx(found.high / 2))


def test_little_or_nothing_gives_no_interval():
    one = bs.bootstrap_mean([0.25, 0.75], ["a", "a"])
    assert (one.estimate, one.n, one.clusters) == (0.5, 2, 1)
    assert np.isnan([one.low, one.high]).all()
    none = bs.bootstrap_mean([], [])
    assert np.isnan([none.estimate, none.low, none.high]).all()
    assert (none.n, none.clusters) == (0, 0)


def test_clusters_that_count_nothing_are_left_out():
    found = bs.bootstrap_mean([0.1, 0.9, 0.4], ["a", "b", "c"], [1, 1, 0])
    assert (found.estimate, found.clusters) == (0.5, 2)


def test_bad_values_are_named():
    with pytest.raises(UsageError, match="finite"):
        bs.bootstrap_mean([0.1, np.nan], ["a", "b"])
    with pytest.raises(UsageError, match="2 values, 1 clusters"):
        bs.bootstrap_mean([0.1, 0.2], ["a"])
    with pytest.raises(UsageError, match="same samples"):
        bs.difference_interval(np.array([[1.0, 2.0]]), np.array([[1.0, 3.0]]))


@pytest.mark.parametrize("alone", [0, 3])
def test_pairs_are_resampled_by_their_sources(alone):
    rng = np.random.default_rng(3)
    sources = [(str(a), str(b)) for a in range(7) for b in range(a)] + [(str(a),) for a in range(alone)]
    level = rng.normal(size=7)
    values = np.array([sum(level[int(a)] for a in one) + 0.1 * rng.normal() for one in sources])
    sums = np.stack([values, np.ones(len(values))], 1)
    found = bs.interval(sums, sources=sources, resamples=4000)
    means = []
    for _ in range(4000):
        counts = np.bincount(rng.integers(7, size=7), minlength=7)
        weights = [np.prod([counts[int(a)] for a in one]) for one in sources]
        if sum(weights):
            means.append(np.average(values, weights=weights))
    low, high = np.quantile(means, [0.025, 0.975])
    assert found.estimate == pytest.approx(values.mean())
    assert (found.low, found.high) == (pytest.approx(low, abs=0.08), pytest.approx(high, abs=0.08))
    assert (found.n, found.clusters) == (21 + alone, 7)
    plain = bs.interval(sums, resamples=4000)
    assert found.high - found.low > 1.4 * (plain.high - plain.low)  # pairs of one clip are not independent


def test_a_source_for_each_cluster_changes_nothing():
    sums = np.stack([np.random.default_rng(0).random(9), np.ones(9)], 1)
    alone = bs.interval(sums, sources=[(str(i),) for i in range(9)])
    assert (alone.low, alone.high) == pytest.approx((bs.interval(sums).low, bs.interval(sums).high))
