"""SoundNet-8 (Aytar, Vondrick, Torralba, NeurIPS 2016): raw waveform -> ImageNet and Places classes.

Mono at 22050 Hz, samples times 256. Each convolution pads by half its kernel, then batch norm (eps 1e-5),
ReLU and, where there is one, max pooling; the two heads are plain convolutions without padding.

Every layer's last position sees half a kernel of padding. In conv7 that position is about a thousand times
stronger than all others (its batch norm was fitted with it), and drowns them. It is therefore left out
everywhere, and the heads must not reach it: hence a minimum length of 242,142 samples (11 s), not the 209,374
for which they give their first number. On 201 recordings of known classes this lifts same-class retrieval by
cosine of conv7 from .69 to .85 (area under the curve), of the heads from .65 to .75.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moca_avs.encoders.checkpoints import BatchNorm, StateReader

SAMPLE_RATE = 22050
SCALE = 256.0
MIN_SAMPLES = 242_142  # gives conv7 nine positions; without the last, the heads have one
EPS = 1e-5
IMAGENET_CLASSES = 1000
PLACES_CLASSES = 401


@dataclass(frozen=True)
class LayerShape:
    """One layer: convolution of stride 2, then max pooling (1: none)."""

    name: str
    kernel: int
    width: int
    pool: int


LAYERS = (
    LayerShape("conv1", 64, 16, 8),
    LayerShape("conv2", 32, 32, 8),
    LayerShape("conv3", 16, 64, 1),
    LayerShape("conv4", 8, 128, 1),
    LayerShape("conv5", 4, 256, 4),
    LayerShape("conv6", 4, 512, 1),
    LayerShape("conv7", 4, 1024, 1),
)
HEAD_KERNEL = 8


class SoundNet8(nn.Module):
    """The network; `forward` gives every state.

    Args:
        state: flat state dict (``conv1.weights`` [kernel, 1, in, out], ``conv1.gamma``, ...), read strictly.

    Raises:
        WeightsError: a tensor is missing, of another shape, or left over.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        reader = StateReader(state, "SoundNet-8")
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        width = 1
        for layer in LAYERS:
            kernel, bias = _kernel(reader, layer.name, layer.kernel, width, layer.width)
            names = ("gamma", "beta", "mean", "var")
            gamma, beta, mean, var = (reader.take(f"{layer.name}.{name}", layer.width) for name in names)
            norm = BatchNorm(gamma, beta, mean, var, EPS)
            self._keep(*norm.fold(kernel, bias))
            width = layer.width
        for name, classes in (("conv8", IMAGENET_CLASSES), ("conv8_2", PLACES_CLASSES)):
            self._keep(*_kernel(reader, name, HEAD_KERNEL, width, classes))
        reader.finish()

    def _keep(self, weight: Tensor, bias: Tensor) -> None:
        self.weights.append(nn.Parameter(weight, requires_grad=False))
        self.biases.append(nn.Parameter(bias, requires_grad=False))

    def forward(self, sounds: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Run the whole network.

        Args:
            sounds: float32 [B, N >= 242,142], mono at 22050 Hz, in [-256, 256].

        Returns:
            (states of conv1..conv7 after ReLU and before pooling, each [B, C, n], without the last position;
            ImageNet logits [B, 1000, t]; Places logits [B, 401, t]).
        """
        states = []
        x = sounds[:, None]
        for layer, weight, bias in zip(LAYERS, self.weights[:7], self.biases[:7], strict=True):
            x = F.relu(F.conv1d(x, weight, bias, stride=2, padding=layer.kernel // 2))
            states.append(x[:, :, :-1])
            x = F.max_pool1d(x, layer.pool) if layer.pool > 1 else x
        objects, sources = (F.conv1d(states[-1], self.weights[i], self.biases[i], stride=2) for i in (7, 8))
        return states, objects, sources


def _kernel(reader: StateReader, name: str, kernel: int, width: int, out: int) -> tuple[Tensor, Tensor]:
    """TensorFlow's [kernel, 1, in, out] -> torch's [out, in, kernel], and the bias."""
    weight = reader.take(f"{name}.weights", kernel, 1, width, out)[:, 0].permute(2, 1, 0).contiguous()
    return weight.to(torch.float32), reader.take(f"{name}.biases", out)
