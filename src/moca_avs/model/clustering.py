"""Spherical (cosine) k-means over the positions of feature maps, and the choice of the sounding cluster.

The paper upsamples the features bilinearly, then clusters them by cosine. Upsampled features are never built
here: bilinear interpolation is linear, so every inner product among upsampled positions follows from the
grid's Gram matrix, and each upsampled position only needs its norm. The result is that of upsampling first.
"""

from __future__ import annotations

import math
from copy import copy
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
    points = GridPositions(features)
    labels, centers = _lloyd(points, _plus_plus(points, clusters, starts, seed), iterations)
    frames = torch.arange(len(labels), device=labels.device)
    best = _similarity(points, labels, centers).argmax(1)
    labels, centers = labels[frames, best, None], centers[frames, best, None]
    if size is not None and tuple(size) != points.size:
        points = points.upsampled(size)
        labels, centers = _lloyd(points, centers, iterations)
    similarity = _similarity(points, labels, centers)[:, 0]
    labels, centers = _renumbered(labels[:, 0], centers[:, 0])
    return Clusters(labels, points.vectors(centers), similarity)


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


class GridPositions:
    """Unit vectors at every (upsampled) position, known only through the grid's Gram matrix.

    A vector that is a weighted sum of positions is kept as its coefficients on the grid, [..., h, w].
    """

    def __init__(self, features: Tensor) -> None:
        height, width = features.shape[2:]
        self.features = features.float().flatten(2)  # [B, d, n]
        self.gram = self.features.transpose(1, 2) @ self.features  # [B, n, n]
        self.grid = (height, width)
        self._resize(self.grid)

    def _resize(self, size: tuple[int, int]) -> None:
        self.size = size
        self.rows = _bilinear(self.grid[0], size[0], self.gram.device)  # [H, h]
        self.columns = _bilinear(self.grid[1], size[1], self.gram.device)  # [W, w]
        rows = self.rows[:, :, None] * self.rows[:, None, :]  # [H, h, h]
        columns = self.columns[:, :, None] * self.columns[:, None, :]
        gram = self.gram.view(-1, *self.grid, *self.grid)
        squared = torch.einsum("xbd,zybd->zyx", columns, torch.einsum("yac,zabcd->zybd", rows, gram))
        self.norms = squared.clamp(min=0).sqrt().clamp(min=1e-12)  # [B, H, W]

    def upsampled(self, size: tuple[int, int]) -> GridPositions:
        """The same vectors, interpolated bilinearly to another size and normalized there."""
        other = copy(self)
        other._resize(size)
        return other

    def frames(self, rows: Tensor) -> GridPositions:
        """Some frames of the batch (int64 [R])."""
        other = copy(self)
        other.features, other.gram, other.norms = self.features[rows], self.gram[rows], self.norms[rows]
        return other

    def spread(self, products: Tensor) -> Tensor:
        """Inner products of grid positions with something -> of all positions, [B, R, K, H, W]."""
        return self.rows @ products @ self.columns.T / self.norms[:, None, None]

    def sums(self, chosen: Tensor) -> Tensor:
        """Weights per position [B, R, K, H, W] -> coefficients of the weighted sums [B, R, K, h, w]."""
        return self.rows.T @ (chosen / self.norms[:, None, None]) @ self.columns

    def cosines(self, centers: Tensor) -> Tensor:
        """Cosine of every position with every center: [B, R, K, H, W]."""
        flat = centers.flatten(3).flatten(1, 2)  # [B, R*K, n]
        products = flat @ self.gram
        lengths = (products * flat).sum(-1, keepdim=True).clamp(min=0).sqrt().clamp(min=1e-12)
        return self.spread((products / lengths).view_as(centers))

    def vectors(self, centers: Tensor) -> Tensor:
        """Coefficients [B, K, h, w] -> unit vectors [B, K, d]."""
        return F.normalize(centers.flatten(2) @ self.features.transpose(1, 2), dim=-1)


def _bilinear(source: int, target: int, device: torch.device) -> Tensor:
    """[target, source], the matrix of linear interpolation along one axis."""
    eye = torch.eye(source, device=device)[None]
    return F.interpolate(eye, target, mode="linear", align_corners=False)[0].T.contiguous()


def _plus_plus(points: GridPositions, clusters: int, starts: int, seed: int) -> Tensor:
    """Greedy k-means++: each next center is the best of a few, drawn in proportion to 1 - nearest cosine."""
    candidates = 2 + int(math.log(clusters))
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(clusters, starts, candidates, generator=generator).to(points.gram.device)
    distance = torch.ones(len(points.gram), starts, 1, *points.size, device=points.gram.device)
    centers = []
    for draw in draws:
        cumulative = distance.flatten(2).cumsum(-1)[:, :, None]  # [B, R, 1, N]
        wanted = (draw * cumulative[:, :, 0, -1:])[..., None]  # [B, R, L, 1]
        place = (cumulative <= wanted).sum(-1).clamp(max=cumulative.shape[-1] - 1)
        center = points.sums(_one_position(place, points.size))
        left = torch.minimum(distance, (1 - points.cosines(center)).clamp(min=0))  # [B, R, L, H, W]
        best = left.sum((3, 4)).argmin(2)[..., None, None, None]
        distance = left.take_along_dim(best, 2)
        centers.append(center.take_along_dim(best, 2))
    return torch.cat(centers, 2)


def _one_position(place: Tensor, size: tuple[int, int]) -> Tensor:
    """Flat positions [...] -> maps [..., H, W] with a one there."""
    return F.one_hot(place, size[0] * size[1]).unflatten(-1, size).float()


def _lloyd(points: GridPositions, centers: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Assign and update until nothing changes; frames that are done leave the batch.

    Returns labels int64 [B, R, H, W] and the centers [B, R, K, h, w] they were assigned by.
    """
    batch, starts = centers.shape[:2]
    labels = torch.full((batch, starts, *points.size), -1, device=centers.device)
    centers, running = centers.clone(), torch.arange(batch, device=centers.device)
    active = points
    for _ in range(iterations):
        cosines = active.cosines(centers[running])
        new = _nearest(cosines)
        moved = (new != labels[running]).flatten(1).any(1)
        labels[running] = new
        if not moved.all():
            running, new, cosines = running[moved], new[moved], cosines[moved]
            active = points.frames(running)
        if not len(running):
            break
        centers[running] = _update(active, new, cosines)
    return labels, centers


def _nearest(cosines: Tensor) -> Tensor:
    """``cosines.argmax(2)`` of [B, R, K, H, W], ties to the lower number: int64 [B, R, H, W].

    torch's own takes strided values one by one: ten times as long, most of a clustering.
    """
    best = cosines[:, :, 0]
    labels = torch.zeros(best.shape, dtype=torch.int32, device=best.device)
    for number in range(1, cosines.shape[2]):
        labels.masked_fill_(cosines[:, :, number] > best, number)
        best = torch.maximum(best, cosines[:, :, number])
    return labels.long()


def _similarity(points: GridPositions, labels: Tensor, centers: Tensor) -> Tensor:
    """Mean cosine of the positions with their own center: [B, R]."""
    return points.cosines(centers).gather(2, labels[:, :, None])[:, :, 0].mean((2, 3))


def _update(points: GridPositions, labels: Tensor, cosines: Tensor) -> Tensor:
    """Each center moves to the sum of its members; an empty one to a position nobody explains well."""
    numbers = torch.arange(cosines.shape[2], device=labels.device)
    members = (labels[:, :, None] == numbers[:, None, None]).float()  # [B, R, K, H, W]
    empty = members.sum((3, 4)) == 0  # [B, R, K]
    if empty.any():
        own = cosines.amax(2).flatten(2)
        worst = own.argsort(dim=-1, stable=True)[..., : empty.shape[2]]
        order = (empty.cumsum(2) - 1).clamp(min=0, max=worst.shape[2] - 1)
        spare = _one_position(worst.gather(2, order), points.size)
        members = torch.where(empty[..., None, None], spare, members)
    return points.sums(members)


def _renumbered(labels: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Number clusters by first appearance in reading order: [B, H, W] and [B, K, h, w]."""
    flat = labels.flatten(1)
    there = F.one_hot(flat, centers.shape[1]).bool()  # [B, N, K]
    first = torch.where(there.any(1), there.int().argmax(1), flat.shape[1])  # empty ones come last
    order = first.argsort(dim=1, stable=True)
    renumbered = order.argsort(1).gather(1, flat).view_as(labels)
    return renumbered, centers.gather(1, order[..., None, None].expand_as(centers))
