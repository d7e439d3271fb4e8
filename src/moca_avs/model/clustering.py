"""Spherical (cosine) k-means over the positions of feature maps, and the choice of the sounding cluster.

The paper (section 3.1, inference) upsamples the features bilinearly, then clusters them by cosine. Upsampled
features are never built here: interpolation is linear, so the inner products with upsampled vectors are the
upsampled inner products with the grid's, and those follow from the grid's Gram matrix [n, n]. The result is
that of upsampling first, without its d (about a thousand) channels in every step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from moca_avs.errors import UsageError

RULES = ("best", "threshold")


@dataclass(frozen=True)
class Clusters:
    """Outcome of `spherical_kmeans`.

    Attributes:
        labels: int64 [B, H, W], numbered within a frame by first appearance in reading order.
        centroids: float32 [B, K, d], unit length; a cluster without members has the highest numbers.
        similarity: float32 [B], mean cosine of the positions with their own centroid (the objective).
    """

    labels: Tensor
    centroids: Tensor
    similarity: Tensor


@torch.no_grad()
def spherical_kmeans(
    features: Tensor,
    clusters: int,
    *,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    starts: int = 4,
    iterations: int = 100,
) -> Clusters:
    """Cluster the positions of each frame by cosine, each frame for itself.

    Starts come from k-means++ and are tried on the grid; the best one goes on at `size` until no position
    changes its cluster. Every frame sees the same random numbers, so its result depends neither on its place
    in the batch nor on its company.

    Args:
        features: [B, d, h, w], not normalized.
        clusters: K.
        size: (H, W) to upsample to bilinearly before clustering; None keeps the grid.
        seed: of the starts.
        starts: independent starts per frame.
        iterations: upper bound, on the grid and at `size` each; rarely reached.

    Raises:
        UsageError: if `clusters`, `starts` or `iterations` is below 1.
    """
    if min(clusters, starts, iterations) < 1:
        raise UsageError(
            f"clusters, starts and iterations must be at least 1, found {clusters}, {starts}, {iterations}"
        )
    grid = (features.shape[2], features.shape[3])
    size = grid if size is None else (size[0], size[1])
    candidates = 2 + int(math.log(clusters))
    draws = torch.rand(clusters, starts, candidates, generator=torch.Generator().manual_seed(seed))
    vectors = features.float().flatten(2)  # [B, d, n]
    gram = (vectors.transpose(1, 2) @ vectors).view(-1, *grid, *grid)
    points = _UnitVectors(gram, grid)
    runs = _lloyd(points, _plus_plus(points, draws.to(gram.device)), iterations)
    frame, best = torch.arange(len(gram), device=gram.device), runs[2].argmax(1)
    labels, centers, similarity = (x[frame, best] for x in runs)
    if size != grid and len(gram):  # frame by frame: some are done much sooner than others
        frames = [
            _lloyd(_UnitVectors(gram[b : b + 1], size), centers[b : b + 1, None], iterations)
            for b in range(len(gram))
        ]
        labels, centers, similarity = (torch.cat(parts)[:, 0] for parts in zip(*frames, strict=True))
    if not len(gram):
        labels = labels.new_empty(0, *size)
    # Number the clusters by first appearance, those without members last.
    flat = labels.flatten(1)
    there = flat[:, None] == torch.arange(clusters, device=flat.device)[:, None]  # [B, K, N]
    order = torch.where(there.any(2), there.int().argmax(2), flat.shape[1]).argsort(dim=1, stable=True)
    labels = order.argsort(1).gather(1, flat).view_as(labels)
    centroids = F.normalize(centers.flatten(2) @ vectors.transpose(1, 2), dim=2)
    return Clusters(labels, centroids.take_along_dim(order[..., None], 1), similarity)


class _UnitVectors:
    """The (upsampled) vectors of some frames at unit length, known by their inner products only.

    Sums of them are kept as weights of the grid's vectors, [B, R, K, h, w] for R times K sums per frame.

    Args:
        gram: inner products of each frame's grid vectors, [B, h, w, h, w].
        size: (H, W) to upsample to.
    """

    def __init__(self, gram: Tensor, size: tuple[int, int]) -> None:
        self.size = size
        self.gram = gram.flatten(3).flatten(1, 2)  # [B, n, n]
        self.rows, self.columns = (
            F.interpolate(torch.eye(n, device=gram.device)[None], to, mode="linear")[0].T.contiguous()
            for n, to in zip(gram.shape[1:3], size, strict=True)
        )  # [H, h] and [W, w]
        rows = self.rows[:, :, None] * self.rows[:, None, :]  # [H, h, h]
        columns = self.columns[:, :, None] * self.columns[:, None, :]
        squared = torch.einsum("xbd,zybd->zyx", columns, torch.einsum("yac,zabcd->zybd", rows, gram))
        self.norms = squared.clamp(min=0).sqrt().clamp(min=1e-12)[:, None, None]  # [B, 1, 1, H, W]

    def sums(self, weights: Tensor) -> Tensor:
        """Sums of the vectors with these weights [B, R, K, H, W], as weights of the grid's."""
        return self.rows.T @ (weights / self.norms) @ self.columns

    def at(self, places: Tensor) -> Tensor:
        """Single vectors, by their numbers in reading order [B, R, K], as weights of the grid's."""
        one = F.one_hot(places, self.size[0] * self.size[1]).float()
        return self.sums(one.view(*places.shape, *self.size))

    def cosines(self, centers: Tensor) -> Tensor:
        """Cosine of each vector with each center: [B, R, K, h, w] -> [B, R, K, H, W]."""
        flat = centers.flatten(3).flatten(1, 2)
        products = flat @ self.gram
        lengths = (products * flat).sum(2, keepdim=True).clamp(min=0).sqrt().clamp(min=1e-12)
        return self.rows @ (products / lengths).view_as(centers) @ self.columns.T / self.norms


def _plus_plus(points: _UnitVectors, draws: Tensor) -> Tensor:
    """Greedy k-means++: each next center is the best of a few, drawn in proportion to 1 - nearest cosine.

    Args:
        points: of B frames.
        draws: uniform in 0..1, [K, R, L]: for K centers in each of R starts, L candidates.

    Returns:
        The centers, [B, R, K, h, w].
    """
    distance = torch.ones(len(points.gram), draws.shape[1], 1, *points.size, device=draws.device)
    centers = []
    for draw in draws:
        cumulative = distance.flatten(2).cumsum(2)  # [B, R, N]
        place = torch.searchsorted(cumulative, draw * cumulative[:, :, -1:], right=True)
        candidates = points.at(place.clamp(max=cumulative.shape[2] - 1))  # [B, R, L, h, w]
        left = torch.minimum(distance, (1 - points.cosines(candidates)).clamp(min=0))
        best = left.sum((3, 4)).argmin(2)[..., None, None, None]
        distance = left.take_along_dim(best, 2)
        centers.append(candidates.take_along_dim(best, 2))
    return torch.cat(centers, 2)


def _lloyd(points: _UnitVectors, centers: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Assign the vectors to their nearest center and move the centers, until nothing changes.

    Args:
        points: of B frames, [H, W] each.
        centers: of R starts, [B, R, K, h, w].
        iterations: upper bound.

    Returns:
        Labels int64 [B, R, H, W], the centers, and the mean cosine of the vectors with theirs [B, R].
    """
    numbers = torch.arange(centers.shape[2], device=centers.device)[:, None, None]
    labels = cosine = torch.empty(0)
    for _ in range(iterations):
        before = labels
        cosine, labels = points.cosines(centers).max(2)  # of K, ties to the lower number
        if torch.equal(labels, before):
            break
        members = labels[:, :, None] == numbers  # [B, R, K, H, W]
        centers = points.sums(members.float())
        empty = ~members.flatten(3).any(3)  # [B, R, K]
        if empty.any():  # such a center moves to one of the vectors that are explained worst
            worst = cosine.flatten(2).argsort(dim=2, stable=True)
            turn = (empty.cumsum(2) - 1).clamp(min=0, max=worst.shape[2] - 1)
            centers = torch.where(empty[..., None, None], points.at(worst.gather(2, turn)), centers)
    return labels, centers, cosine.mean((2, 3))


def sounding_clusters(labels: Tensor, cosine: Tensor, rule: str = "best", threshold: float = 0.0) -> Tensor:
    """Positions of the cluster(s) that sound.

    Args:
        labels: int64 [B, H, W].
        cosine: float [B, H, W], cosine of each position with the sound.
        rule: "best" takes the cluster with the highest mean cosine; "threshold" every cluster whose mean
            cosine is above `threshold` (several sources, or none).
        threshold: for the rule "threshold".

    Returns:
        bool [B, H, W].

    Raises:
        UsageError: if the rule does not exist.
    """
    if rule not in RULES:
        raise UsageError(f"rule must be one of {', '.join(RULES)}, found {rule!r}")
    members = F.one_hot(labels.flatten(1)).to(cosine.dtype)  # [B, N, K]
    sizes = members.sum(1)
    means = torch.einsum("bnk,bn->bk", members, cosine.flatten(1)) / sizes.clamp(min=1)
    means = means.masked_fill(sizes == 0, -torch.inf)
    best = F.one_hot(means.argmax(1), means.shape[1]).bool()
    chosen = best if rule == "best" else means > threshold
    return chosen.gather(1, labels.flatten(1)).view_as(labels)
