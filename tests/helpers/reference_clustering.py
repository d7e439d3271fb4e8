"""Spherical k-means as the paper tells it: upsample the features, then cluster their unit vectors."""

import math

import torch
from torch.nn import functional as F


def reference_kmeans(features, clusters, size, seed, starts=4):
    """One frame [d, h, w] -> labels [H, W] in any numbering, mean cosine with the own centroid.

    Starts on the grid with greedy k-means++, as `spherical_kmeans` does, and from the same random numbers.
    """
    candidates = 2 + int(math.log(clusters))
    draws = torch.rand(clusters, starts, candidates, generator=torch.Generator().manual_seed(seed))
    grid = F.normalize(features.double().flatten(1).T, dim=1)  # [n, d]
    found = [_lloyd(grid, _plus_plus(grid, draws[:, start].double())) for start in range(starts)]
    best = max(range(starts), key=lambda start: found[start][1])
    fine = F.interpolate(features.double()[None], size, mode="bilinear", align_corners=False)[0]
    labels, similarity, _ = _lloyd(F.normalize(fine.flatten(1).T, dim=1), found[best][2])
    return labels.view(size), similarity


def _plus_plus(points, draws):
    distance = torch.ones(len(points), dtype=torch.float64)
    centers = []
    for draw in draws:
        cumulative = distance.cumsum(0)
        tried = [
            points[int((cumulative <= u * cumulative[-1]).sum().clamp(max=len(points) - 1))] for u in draw
        ]
        left = [torch.minimum(distance, (1 - points @ center).clamp(min=0)) for center in tried]
        best = min(range(len(left)), key=lambda i: float(left[i].sum()))
        distance = left[best]
        centers.append(tried[best])
    return torch.stack(centers)


def _lloyd(points, centers):
    labels = None
    while True:
        cosine = points @ centers.T
        new = cosine.argmax(1)
        if labels is not None and torch.equal(new, labels):
            return labels, float(cosine.amax(1).mean()), centers
        labels = new
        spare = iter(cosine.amax(1).argsort(stable=True))  # worst explained first
        centers = torch.stack(
            [
                F.normalize(points[labels == k].sum(0), dim=0) if (labels == k).any() else points[next(spare)]
                for k in range(len(centers))
            ]
        )
