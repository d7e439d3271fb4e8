"""What the two frozen convolutional networks of `lite` share: folding batch norm, strict loading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from moca_avs.errors import WeightsError


@dataclass(frozen=True)
class BatchNorm:
    """Frozen statistics of a batch norm, each [C]."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor
    eps: float

    def fold(self, kernel: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Kernel [C, ...] and bias [C] of the one convolution that equals convolution, then this norm."""
        scale = self.weight.double() / torch.sqrt(self.var.double() + self.eps)
        shift = self.bias.double() - self.mean.double() * scale
        if bias is not None:
            shift = shift + bias.double() * scale
        folded = kernel.double() * scale.reshape(-1, *([1] * (kernel.ndim - 1)))
        return folded.float(), shift.float()


class StateReader:
    """Hands out the tensors of a state dict by name and shape, and knows which were never asked for."""

    def __init__(self, state: Mapping[str, Tensor], title: str) -> None:
        self.state = dict(state)
        self.title = title

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor `name`; raises WeightsError if it is missing or of another shape."""
        if name not in self.state:
            raise WeightsError(f"the weights of {self.title} lack {name}; they belong to another model")
        tensor = self.state.pop(name)
        if tuple(tensor.shape) != shape:
            raise WeightsError(
                f"{name} of {self.title} must be {list(shape)}, found {list(tensor.shape)}; "
                "the weights belong to another model"
            )
        return tensor

    def finish(self) -> None:
        """Raise WeightsError if tensors are left over."""
        if self.state:
            raise WeightsError(
                f"the weights of {self.title} hold {len(self.state)} unknown tensors "
                f"({', '.join(sorted(self.state)[:3])}, ...); they belong to another model"
            )
