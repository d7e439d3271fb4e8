"""Losses against sums written out by hand."""

import math

import pytest
import torch

from moca_avs.model.losses import infonce_loss, triplet_loss


def test_triplet_loss_is_equation_4():
    near, far = torch.tensor([0.5, 0.25, 2.0]), torch.tensor([1.5, 0.375, 1.0])
    assert float(triplet_loss(near, far, 0.25)) == pytest.approx((0 + 0.125 + 1.25) / 3, rel=1e-6)
    assert float(triplet_loss(near, near + 1, 1.0)) == 0


def test_only_triplets_within_the_margin_have_gradients():
    near = torch.tensor([0.5, 1.5], requires_grad=True)
    triplet_loss(near, torch.tensor([1.0, 1.0]), 0.25).backward()
    assert near.grad.tolist() == [0, 0.5]


def test_infonce_is_the_mean_cross_entropy_of_rows_and_columns():
    scores = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    rows = scores.tolist()
    columns = scores.T.tolist()
    surprises = [
        math.log(sum(math.exp(x) for x in line)) - line[i]
        for lines in (rows, columns)
        for i, line in enumerate(lines)
    ]
    assert float(infonce_loss(scores)) == pytest.approx(sum(surprises) / 8, abs=1e-6)
    assert float(infonce_loss(100 * torch.eye(4))) == pytest.approx(0, abs=1e-6)
