"""Losses as pure functions: costs or scores in, a scalar out.

The paper trains by the triplet loss of equation 4; InfoNCE goes beyond it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def triplet_loss(positive_cost: Tensor, negative_cost: Tensor, margin: float) -> Tensor:
    """Equation 4: the mean of max(0, C(anchor, positive) - C(anchor, negative) + margin).

    Args:
        positive_cost: float [B], matching cost of each anchor with its positive (`matching_cost`).
        negative_cost: float [B], with its negative.
        margin: in units of the cost.

    Returns:
        A scalar, not negative.
    """
    return (positive_cost - negative_cost + margin).relu().mean()


def infonce_loss(scores: Tensor) -> Tensor:
    """InfoNCE both ways (not in the paper): row i should score highest in column i, column i in row i.

    Args:
        scores: float [B, B], similarities divided by a temperature; pairs that belong together lie on the
            diagonal.

    Returns:
        A scalar: the mean of the two cross entropies, in nats.
    """
    own = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
