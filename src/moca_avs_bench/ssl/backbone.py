"""What the comparators have in common: images, spectrograms, ResNet-18 (He et al. 2016), EZ-VSL's object map.

The network has no classifier, its tensors are named as torchvision names them. The object map is where an
image network answers strongly, whatever is heard: the authors take the mean absolute feature of an ImageNet
ResNet-18. Its weights can't be had offline; the image network of `lite` (EfficientNet-Lite0, ImageNet too)
stands in for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moca_avs.encoders.checkpoints import check_state, read_checkpoint
from moca_avs.encoders.lite import IMAGE_MEAN, IMAGE_STD
from moca_avs.encoders.lite_networks import EfficientNetLite0
from moca_avs.encoders.preprocessing import center_crop_at
from moca_avs.errors import WeightsError
from moca_avs.hub.weight_files import load_asset

SAMPLE_RATE = 16_000
SEGMENT, OVERLAP = 512, 274  # samples
FLOOR, SCALE = 1e-7, 12.0
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_TAPER = 0.25
ObjectMap = Callable[[np.ndarray], Tensor]
"""uint8 [H, W, 3] -> float32 [h, w], not negative."""
WIDTHS = (64, 128, 256, 512)
FEATURES = WIDTHS[-1]
NORM_SPREAD = 0.02
_CLASSIFIER = {"fc.weight": (1000, FEATURES), "fc.bias": (1000,)}
_COUNTER = "num_batches_tracked"  # batch norm's; of no use with a fixed momentum


def pixels(frames: list[np.ndarray], side: int) -> Tensor:
    """uint8 [H, W, 3] each, of any sizes -> float32 [B, 3, side, side], squashed, ImageNet-normalized."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (_MEAN, _STD))
    images = []
    for frame in frames:
        writable = np.require(frame, requirements=["C", "W"])  # torch warns about read-only arrays
        image = torch.from_numpy(writable).permute(2, 0, 1)[None]
        if image.shape[-2:] != (side, side):
            image = F.interpolate(image, (side, side), mode="bilinear", antialias=True)
        images.append((image[0].float() / 255 - mean) / std)
    return torch.stack(images)


def wave(sound: np.ndarray, sample_rate: int, seconds: float) -> Tensor:
    """The middle of a sound at 16 kHz, repeated where it is shorter: float32 [seconds * 16000] in [-1, 1].

    Raises:
        MediaError: for an empty sound.
    """
    length = max(SEGMENT, round(seconds * SAMPLE_RATE))
    samples = center_crop_at(sound, sample_rate, SAMPLE_RATE, length)
    return torch.from_numpy(np.resize(samples, length).astype(np.float32)).clamp(-1, 1)


def log_spectrogram(waves: Tensor) -> Tensor:
    """Log power density over frequency and time, divided by 12 (LVS, EZ-VSL; scipy's ``spectrogram``).

    Args:
        waves: float [B, N] at 16 kHz, N >= 512.

    Returns:
        float [B, 1, 257, 1 + (N - 512) // 238]: ``log(density + 1e-7) / 12``.
    """
    pieces = waves.unfold(1, SEGMENT, SEGMENT - OVERLAP)
    window = _window().to(waves)
    spectrum = torch.fft.rfft((pieces - pieces.mean(-1, keepdim=True)) * window)
    density = spectrum.abs().square() / (SAMPLE_RATE * window.square().sum())
    density[..., 1:-1] *= 2  # one side stands for both, but for the mean and the Nyquist frequency
    return (density + FLOOR).log().transpose(1, 2)[:, None] / SCALE


@cache
def _window() -> Tensor:
    """Tukey's, float64 [512]: flat with cosine flanks over a quarter, periodic."""
    place = torch.arange(SEGMENT, dtype=torch.float64) / SEGMENT
    edge = torch.minimum(place, 1 - place) * 2 / _TAPER
    return torch.where(edge < 1, (1 - torch.cos(torch.pi * edge)) / 2, 1.0)


class Block(nn.Module):
    """Two 3x3 convolutions beside the input, or beside a 1x1 projection of it."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, width_in, h, w] -> [B, width, h / stride, w / stride], not negative."""
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(inner + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """The trunk: images or spectrograms in, a map of 512 channels out.

    Args:
        channels: of the input.
        last_stride: of the last stage: 2 gives a map of size / 32 (7 x 7 for 224), 1 of size / 16 (14 x 14).
    """

    def __init__(self, channels: int = 3, last_stride: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        before = WIDTHS[0]
        for stage, (width, stride) in enumerate(zip(WIDTHS, (1, 2, 2, last_stride), strict=True), 1):
            self.add_module(
                f"layer{stage}", nn.Sequential(Block(before, width, stride), Block(width, width, 1))
            )
            before = width
        start(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, 512, h, w], not negative."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(1, len(WIDTHS) + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return x


def start(module: nn.Module) -> None:
    """Random start of convolutions (He, fan out) and of linear layers (narrow normal, as EZ-VSL's)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.01)
        if isinstance(part, nn.Conv2d | nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def spread_norms(module: nn.Module) -> None:
    """Batch norms' weights from N(1, .02), where the public code of LVS and EZ-VSL starts them; biases 0."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, NORM_SPREAD)
            nn.init.zeros_(part.bias)


def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's tensors by name, batch norm's counters left out."""
    return {key: value for key, value in module.state_dict().items() if not key.endswith(_COUNTER)}


def load_backbone(network: ResNet18, path: str | Path) -> None:
    """Put a torchvision ResNet-18 state dict (``.pth`` or ``.safetensors``) into a network.

    The classifier may be there and is left out, so may batch norm's counters; everything else must fit.

    Raises:
        WeightsError: if the file is missing, damaged, holds more than tensors, or is no ResNet-18.
    """
    path = Path(path)
    found = {key: value for key, value in read_checkpoint(path).items() if not key.endswith(_COUNTER)}
    expected = {key: tuple(value.shape) for key, value in plain_state(network).items()}
    expected |= {key: shape for key, shape in _CLASSIFIER.items() if key in found}
    check_state("ResNet-18", path, found, expected)
    network.load_state_dict({key: value for key, value in found.items() if key not in _CLASSIFIER})


def load_strictly(module: nn.Module, state: dict[str, Tensor], title: str, path: Path) -> None:
    """Put a `plain_state` into its module. Raises WeightsError where it is another module's."""
    check_state(title, path, state, {key: tuple(value.shape) for key, value in plain_state(module).items()})
    if not all(value.isfinite().all() for value in state.values()):
        raise WeightsError(f"{path} holds weights that are no numbers; train {title} again")
    module.load_state_dict(state)


def resnet_objects(path: str | Path, side: int, device: str = "cpu") -> ObjectMap:
    """Mean absolute feature of a torchvision ResNet-18: `side` / 32 positions per side.

    Raises:
        WeightsError: if the file is missing, damaged, or no ResNet-18.
    """
    network = ResNet18()
    load_backbone(network, path)
    network.to(device).eval().requires_grad_(False)

    def find(frame: np.ndarray) -> Tensor:
        return network(pixels([frame], side).to(device)).abs().mean(1)[0]

    return find


def lite_objects(side: int, device: str = "cpu") -> ObjectMap:
    """Mean absolute feature of `lite`'s image network: `side` / 32 positions per side.

    Raises:
        WeightsError: if its weights can't be fetched or are damaged.
    """
    network = EfficientNetLite0(load_asset("efficientnet-lite0")).to(device).eval()

    def find(frame: np.ndarray) -> Tensor:
        image = torch.from_numpy(np.array(frame)).permute(2, 0, 1)[None]
        image = F.interpolate(image, (side, side), mode="bilinear", antialias=True).float() / 255
        state = network.stem((image.to(device) - IMAGE_MEAN) / IMAGE_STD)
        for block in network.blocks:
            state = block(state)
        return network.head(state).abs().mean(1)[0]

    return find


def enlarged(heat: Tensor, height: int, width: int) -> Tensor:
    """A map at another size: bicubic, half-pixel centers, as EZ-VSL's training script enlarges its maps.

    Computed in float64 and rounded once, so that what is flat stays flat. It may overshoot the map's range.

    Args:
        heat: float [h, w] on any device.
        height: rows of the result.
        width: columns of the result.

    Returns:
        float32 [height, width] on the CPU.
    """
    whole = heat.cpu().double()[None, None]
    return F.interpolate(whole, (height, width), mode="bicubic", align_corners=False)[0, 0].float()


def min_max_normalize(heat: Tensor) -> Tensor:
    """A map [h, w] at 0..1; all 0 where it is flat."""
    low, high = heat.min(), heat.max()
    return (heat - low) / (high - low) if high > low else torch.zeros_like(heat)
