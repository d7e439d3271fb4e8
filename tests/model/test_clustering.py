"""Spherical k-means: planted clusters, fixed point, upsampling the slow way, independence of the batch."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers.reference_clustering import reference_kmeans
from moca_avs.errors import UsageError
from moca_avs.model.clustering import sounding_clusters, spherical_kmeans
from moca_avs.model.fusion import cosine_heatmap


def planted(batch, clusters, dims=16, side=9, noise=0.05, seed=0):
    """Features around `clusters` orthogonal directions, lengths anywhere, and which one each position has."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, clusters, (batch, side, side), generator=rng)
    axes = torch.linalg.qr(torch.randn(batch, dims, dims, generator=rng)).Q[:, :, :clusters]
    points = torch.stack([axes[b][:, labels[b]] for b in range(batch)])
    points = points + noise * torch.randn(points.shape, generator=rng)
    return points * (0.1 + 5 * torch.rand(batch, 1, side, side, generator=rng)), labels


def same_partition(first, second):
    return all(
        ((first == a) == (second == b)).all() for a in first.unique() for b in second[first == a].unique()
    )


def unit_positions(features, size=None):
    if size is not None:
        features = F.interpolate(features, size, mode="bilinear", align_corners=False)
    return F.normalize(features.flatten(2).transpose(1, 2), dim=2)


@pytest.mark.parametrize("clusters", [1, 2, 5, 8])
def test_planted_clusters_are_found(clusters):
    features, truth = planted(6, clusters)
    found = spherical_kmeans(features, clusters)
    assert found.labels.shape == truth.shape
    assert all(same_partition(a, b) for a, b in zip(found.labels, truth, strict=True))
    assert found.similarity.min() > 0.95


def test_a_single_start_is_a_good_one():
    """k-means++ spreads its starts: from random positions about one in six would find all eight."""
    features, truth = planted(4, 8)
    found = [
        same_partition(labels, want)
        for seed in range(25)
        for labels, want in zip(spherical_kmeans(features, 8, seed=seed, starts=1).labels, truth, strict=True)
    ]
    assert np.mean(found) > 0.8


def test_numbers_follow_first_appearance():
    features, _ = planted(4, 5)
    for labels in spherical_kmeans(features, 5).labels:
        first = [int(labels.flatten().eq(k).nonzero()[0]) for k in range(5)]
        assert first == sorted(first)


def test_equals_upsampling_first():
    rng = torch.Generator().manual_seed(0)
    worse, same = [], []
    for case in range(50):
        smooth = F.interpolate(torch.randn(1, 24, 3, 3, generator=rng), (7, 6), mode="bilinear")
        features = (case % 2) * smooth + 0.4 * torch.randn(1, 24, 7, 6, generator=rng)
        found = spherical_kmeans(features, 6, size=(21, 24), seed=case)
        labels, similarity = reference_kmeans(features[0], 6, (21, 24), case)
        worse.append(similarity - float(found.similarity))
        same.append(same_partition(found.labels[0], labels))
    assert np.mean(worse) < 1e-4
    assert np.mean(same) > 0.9  # where two positions are nearly as far, float32 may decide otherwise


@pytest.mark.parametrize("size", [None, (9, 21), (20, 15)])
def test_the_result_is_a_fixed_point_of_lloyds_rule(size):
    torch.manual_seed(0)
    features = torch.randn(3, 12, 9, 7)
    found = spherical_kmeans(features, 6, size=size)
    points = unit_positions(features, size)
    cosine = points @ found.centroids.transpose(1, 2)
    assert torch.equal(cosine.argmax(2), found.labels.flatten(1))
    torch.testing.assert_close(cosine.amax(2).mean(1), found.similarity)
    for b, k in itertools.product(range(3), range(6)):
        mean = points[b][found.labels[b].flatten() == k].sum(0)
        torch.testing.assert_close(found.centroids[b, k], F.normalize(mean, dim=0), atol=1e-5, rtol=1e-4)


def test_a_frame_does_not_know_its_batch():
    torch.manual_seed(1)
    features = torch.cat([planted(4, 5)[0], torch.randn(3, 16, 9, 9)])
    order = torch.tensor([5, 0, 6, 3, 1, 4, 2])
    whole = spherical_kmeans(features, 5, size=(18, 18))
    mixed = spherical_kmeans(features[order], 5, size=(18, 18))
    assert torch.equal(mixed.labels, whole.labels[order])
    torch.testing.assert_close(mixed.centroids, whole.centroids[order])
    for b in range(7):
        assert torch.equal(spherical_kmeans(features[b : b + 1], 5, size=(18, 18)).labels[0], whole.labels[b])


def test_seeds_decide_and_more_starts_never_hurt():
    torch.manual_seed(2)
    features = torch.randn(4, 12, 8, 8)
    one, again = (spherical_kmeans(features, 6, seed=3, starts=1) for _ in range(2))
    assert torch.equal(one.labels, again.labels)
    other = spherical_kmeans(features, 6, seed=4, starts=1)
    assert not torch.equal(one.labels, other.labels)
    many = spherical_kmeans(features, 6, seed=3, starts=12)
    assert many.similarity.mean() > one.similarity.mean()


def test_lengths_do_not_matter():
    features, _ = planted(2, 4)
    scale = 0.01 + 100 * torch.rand(2, 1, 9, 9)
    assert torch.equal(spherical_kmeans(features, 4).labels, spherical_kmeans(features * scale, 4).labels)


@pytest.mark.parametrize(
    "features",
    [
        torch.ones(2, 3, 4, 4),
        torch.zeros(1, 3, 4, 4),
        torch.randn(2, 5, 1, 1),
        torch.eye(3)[:, [0, 0, 0, 1, 1, 1]].reshape(1, 3, 2, 3),
    ],
    ids=["equal", "zero", "one position", "two distinct"],
)
def test_fewer_distinct_points_than_clusters(features):
    found = spherical_kmeans(features, 5, starts=3)
    points = unit_positions(features)
    for b in range(len(features)):
        distinct = len(points[b].unique(dim=0))
        assert len(found.labels[b].unique()) == distinct
    assert torch.isfinite(found.centroids).all()


def test_an_empty_cluster_is_given_a_stray_point():
    # Two tight groups and one stray: with 3 clusters the optimum gives the stray its own.
    features = torch.tensor([[1.0, 0, 0]] * 8 + [[0, 1.0, 0]] * 8 + [[0, 0, 1.0]]).T.reshape(1, 3, 1, 17)
    for seed in range(8):
        labels = spherical_kmeans(features, 3, seed=seed, starts=1).labels.flatten()
        assert labels.tolist() == [0] * 8 + [1] * 8 + [2]


@pytest.mark.parametrize("clusters", [1, 2, 8])
def test_the_nearest_center_is_the_first_of_the_best(clusters):
    rng = torch.Generator().manual_seed(0)
    cosines = torch.randint(-2, 3, (2, 3, clusters, 5, 4), generator=rng) / 2  # full of ties
    expected = np.argmax(cosines.numpy(), axis=2)  # numpy promises the first
    assert np.array_equal(cosines.max(2).indices.numpy(), expected)


def test_heat_is_the_cosine_of_upsampled_features():
    torch.manual_seed(0)
    features, embedding = torch.randn(2, 6, 4, 5), torch.randn(2, 6)
    for size in (None, (11, 10)):
        expected = (unit_positions(features, size) @ F.normalize(embedding, dim=1)[..., None])[..., 0]
        torch.testing.assert_close(cosine_heatmap(features, embedding, size).flatten(1), expected)
    assert (cosine_heatmap(torch.zeros(1, 6, 2, 2), embedding[:1]) == 0).all()


def test_the_sounding_cluster_has_the_highest_mean():
    labels = torch.tensor([[[0, 0, 1], [2, 2, 1]], [[0, 1, 1], [1, 1, 1]]])
    heat = torch.tensor([[[0.9, -0.9, 0.3], [0.2, 0.2, 0.1]], [[0.4, 0.1, 0.2], [0.2, 0.2, 0.2]]])
    assert torch.equal(sounding_clusters(labels, heat), torch.stack([labels[0] == 1, labels[1] == 0]))
    both = sounding_clusters(labels, heat, "threshold", 0.15)
    assert torch.equal(both, torch.stack([labels[0] >= 1, labels[1] >= 0]))
    assert not sounding_clusters(labels, heat, "threshold", 0.9).any()
    negative = sounding_clusters(labels[1:], -heat[1:])  # numbers without members never win
    assert torch.equal(negative, labels[1:] == 1)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="at least 1"):
        spherical_kmeans(torch.ones(1, 2, 3, 3), 0)
    with pytest.raises(UsageError, match="best, threshold"):
        sounding_clusters(torch.zeros(1, 2, 2, dtype=torch.long), torch.zeros(1, 2, 2), "loudest")


@pytest.mark.parametrize("size", [None, (8, 8)])
def test_no_frames_give_no_clusters(size):
    found = spherical_kmeans(torch.zeros(0, 8, 4, 4), 3, size=size)
    assert found.labels.shape == (0, *(size or (4, 4)))
    assert (found.centroids.shape, found.similarity.shape) == ((0, 3, 8), (0,))
    assert cosine_heatmap(torch.zeros(0, 8, 4, 4), torch.zeros(0, 8), size).shape == (0, *(size or (4, 4)))
