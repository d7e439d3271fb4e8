"""YAMNet (Plakal and Ellis 2019): sound -> 521 classes of AudioSet, in plain torch.

Follows the public code (tensorflow/models, research/audioset/yamnet: params.py, features.py, yamnet.py):
mono at 16 kHz; magnitudes of a 512-point Fourier transform of periodic Hann windows of 25 ms every 10 ms; 64
mel bands from 125 to 7500 Hz; log(x + .001); patches of 96 frames (.96 s), one every 48. MobileNet v1 reads
each patch as an image: 14 convolutions, TensorFlow's "SAME" padding, batch norm without scale (eps 1e-4,
folded at loading), ReLU; the mean over the last map is the embedding, a sigmoid classifier gives the scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moca_avs.encoders.checkpoints import BatchNorm, StateReader
from moca_avs.encoders.lite_networks import SameConv

SAMPLE_RATE = 16_000
FRAME, SHIFT, FFT = 400, 160, 512  # samples: 25 ms, 10 ms, and the next power of two
BANDS, LOW, HIGH = 64, 125.0, 7500.0  # mel bands; Hz
OFFSET = 1e-3  # added to magnitudes before the logarithm
PATCH, PATCH_SHIFT = 96, 48  # frames
PATCH_SAMPLES = FRAME + (PATCH - 1) * SHIFT  # 15,600: what one patch reads
SHIFT_SAMPLES = PATCH_SHIFT * SHIFT
NORM_EPS = 1e-4
FEATURES, CLASSES = 1024, 521

# (stride, width out) of the 14 convolutions; all but the first are depthwise separable
LAYERS = (
    (2, 32),
    (1, 64),
    (2, 128),
    (1, 128),
    (2, 256),
    (1, 256),
    (2, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (2, 1024),
    (1, 1024),
)


class Heard(NamedTuple):
    """What YAMNet makes of a batch of B sounds of n patches each.

    Attributes:
        states: per convolution (14): [B, C, n * t], after ReLU, averaged over the bands of frequency; a
            patch has t = 48, 48, 24, 24, 12, 12, 6 (six times), 3, 3 positions in time.
        embedding: [B, 1024, n].
        scores: [B, n, 521] in [0, 1], each class by itself.
    """

    states: list[Tensor]
    embedding: Tensor
    scores: Tensor


class YamNet(nn.Module):
    """The network with its front end.

    Args:
        state: tensors by layer (``0.kernel``, ``1.beta``, ..., ``54.bias``; kernels in TensorFlow's layout,
            height, width, in, out), read strictly.

    Raises:
        WeightsError: a tensor is missing, of another shape, or left over.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        reader = StateReader(state, "YAMNet")
        stride, width = LAYERS[0]
        kernel = reader.take("0.kernel", 3, 3, 1, width).permute(3, 2, 0, 1)
        self.layers = nn.ModuleList([SameConv(*_norm(reader, 1, width).fold(kernel), stride)])
        for index, (stride, out) in enumerate(LAYERS[1:]):
            first = 2 + 4 * index  # depthwise kernel, norm, pointwise kernel, norm
            kernel = reader.take(f"{first}.depthwise_kernel", 3, 3, width, 1).permute(2, 3, 0, 1)
            depthwise = SameConv(*_norm(reader, first + 1, width).fold(kernel), stride, groups=width)
            kernel = reader.take(f"{first + 2}.kernel", 1, 1, width, out).permute(3, 2, 0, 1)
            pointwise = SameConv(*_norm(reader, first + 3, out).fold(kernel))
            self.layers.append(nn.Sequential(depthwise, nn.ReLU(), pointwise))
            width = out
        weight = reader.take("54.kernel", FEATURES, CLASSES).T.contiguous()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(reader.take("54.bias", CLASSES), requires_grad=False)
        reader.finish()
        # Channels last takes 23 instead of 42 ms for four patches on one core.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self.eval()

    def forward(self, sounds: Tensor) -> Heard:
        """Run the network on every patch.

        Args:
            sounds: float32 [B, N >= 1], mono at 16 kHz, in [-1, 1]. Zeros fill the last patch, as in the
                public code: N <= 15,600 samples (.975 s) give one patch, and every 7,680 (.48 s) one more.
        """
        patches = log_mel(padded(sounds)).unfold(1, PATCH, PATCH_SHIFT).transpose(2, 3)  # [B, n, 96, 64]
        count, n = patches.shape[:2]
        x = patches.flatten(0, 1)[:, None]
        states = []
        for layer in self.layers:
            x = F.relu(layer(x))
            over_time = x.mean(3).unflatten(0, (count, n))  # [B, n, C, t]
            states.append(over_time.transpose(1, 2).flatten(2))
        embedding = x.mean((2, 3)).unflatten(0, (count, n))
        scores = F.linear(embedding, self.weight, self.bias).sigmoid()
        return Heard(states, embedding.transpose(1, 2), scores)


def _norm(reader: StateReader, layer: int, width: int) -> BatchNorm:
    beta, mean, var = (
        reader.take(f"{layer}.{name}", width) for name in ("beta", "moving_mean", "moving_variance")
    )
    return BatchNorm(torch.ones(width), beta, mean, var, NORM_EPS)


def padded(sounds: Tensor) -> Tensor:
    """[B, N] -> the sounds with zeros behind them, so that whole patches cover every sample."""
    beyond = max(0, sounds.shape[1] - PATCH_SAMPLES)
    length = PATCH_SAMPLES + math.ceil(beyond / SHIFT_SAMPLES) * SHIFT_SAMPLES
    return F.pad(sounds, (0, length - sounds.shape[1]))


def log_mel(sounds: Tensor) -> Tensor:
    """float32 [B, N >= 400] at 16 kHz -> log mel magnitudes [B, 1 + (N - 400) // 160, 64]."""
    frames = sounds.unfold(1, FRAME, SHIFT) * torch.hann_window(FRAME, device=sounds.device)
    magnitudes = torch.fft.rfft(frames, FFT).abs()
    return (magnitudes @ mel_weights().to(sounds.device) + OFFSET).log()


@cache
def mel_weights() -> Tensor:
    """float32 [257, 64], as TensorFlow's ``linear_to_mel_weight_matrix``: triangles, linear in HTK's mel.

    The bin of 0 Hz counts nowhere.
    """
    low, high = (1127 * math.log1p(hertz / 700) for hertz in (LOW, HIGH))
    edges = torch.linspace(low, high, BANDS + 2, dtype=torch.float64)
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    hertz = torch.linspace(0, SAMPLE_RATE / 2, FFT // 2 + 1, dtype=torch.float64)
    at = 1127 * (hertz / 700).log1p()[:, None]
    weights = torch.minimum((at - left) / (center - left), (right - at) / (right - center)).clamp_min(0)
    weights[0] = 0
    return weights.float()
