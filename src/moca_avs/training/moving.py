"""Which positions of each training frame move with its sound: what the objective "synchrony" learns from."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from moca_avs.data.base import TrainingSet
from moca_avs.errors import DataError

LEAST = 0.1
"""Correlation with the sound below which a position does not count as moving with it."""


@runtime_checkable
class MovingSet(TrainingSet, Protocol):
    """A `TrainingSet` that also knows what moves with the sound."""

    def synchrony(self, index: int) -> np.ndarray | None:
        """A frame's map as `moca_avs.cues.motion.synchrony` gives it: float32 [h, w] in [-2, 2], or None."""
        ...


def moving_positions(data: TrainingSet, grid: int) -> Tensor:
    """Weights of the positions that move with the sound: float32 [N, grid, grid].

    A position counts where its mean correlation is at least `LEAST` and half of the frame's largest. Those of
    a frame weigh alike and sum to 1; all are 0 in a frame where nothing moves with the sound.

    Raises:
        DataError: if the set does not know what moves, or nothing does in any frame.
    """
    if not isinstance(data, MovingSet):
        raise DataError(
            'objective="synchrony" needs a training set with synchrony(index) '
            f"(moca_avs.training.moving.MovingSet), found {type(data).__name__}"
        )
    weights = torch.zeros(len(data), grid, grid)
    for row, out in enumerate(weights):
        found = data.synchrony(row)
        if found is None:
            continue
        means = functional.adaptive_avg_pool2d(torch.from_numpy(found)[None].float(), grid)[0]
        chosen = means >= max(LEAST, float(means.max()) / 2)
        out[:] = chosen / chosen.sum().clamp(min=1)
    if not weights.any():
        raise DataError('objective="synchrony": nothing moves with the sound in any training frame')
    return weights
