"""Images as CLIP's descendants (ImageBind, LanguageBind) take them.

The part of a sound that an encoder hears, at the encoder's own rate.

Kaldi's log-mel filter bank, as ImageBind and LanguageBind hear it.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from moca_avs.errors import MediaError

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(frames: np.ndarray, size: int) -> Tensor:
    """uint8 [B, H, W, 3] of any size -> float32 [B, 3, size, size], squashed and normalized.

    Resized by Pillow itself (bicubic, with its antialiasing), which is what the networks were trained with.
    """
    small = [Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC) for frame in frames]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in small])).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (pixels - mean) / std


def center_crop(sound: np.ndarray, length: int) -> np.ndarray:
    """The middle `length` samples; all of a shorter sound."""
    start = max((len(sound) - length) // 2, 0)
    return sound[start : start + length]


def resample_audio(sound: np.ndarray, sample_rate: int, target: int) -> np.ndarray:
    """A sound at another rate: float32 [>= 1]; one too short to leave a sample keeps its first.

    Raises:
        MediaError: for an empty sound.
    """
    from moca_avs.io.audio import resample

    if len(sound) == 0:
        raise MediaError("the sound is empty; an encoder needs at least one sample")
    if sample_rate == target:
        return sound
    samples = resample(sound, sample_rate, target)
    return samples if len(samples) else sound[:1]


def center_crop_at(sound: np.ndarray, sample_rate: int, target: int, length: int) -> np.ndarray:
    """The middle of a sound at another rate, without resampling what is not kept.

    Args:
        sound: float32 [N >= 1], mono.
        sample_rate: of `sound`, in Hz.
        target: the rate wanted, in Hz.
        length: most samples kept, at the wanted rate.

    Returns:
        float32 [1 .. length].

    Raises:
        MediaError: for an empty sound.
    """
    margin = sample_rate  # a second, far more than the resampling filter reaches
    kept = center_crop(sound, -(-length * sample_rate // target) + margin)
    return center_crop(resample_audio(kept, sample_rate, target), length)


SAMPLE_RATE = 16_000
FRAME, SHIFT, FFT = 400, 160, 512  # samples: 25 ms, 10 ms, and the next power of two
LOW, HIGH = 20.0, 8000.0  # Hz
PREEMPHASIS = 0.97
FLOOR = torch.finfo(torch.float32).eps  # of the power, before the logarithm


def fbank(samples: Tensor, bins: int) -> Tensor:
    """Log power in mel bands, without dither and without padding at the edges (Kaldi's ``snip_edges``).

    Args:
        samples: float32 [N], mono at 16 kHz; fewer than 400 samples are padded with zeros to one frame.
        bins: mel bands between 20 and 8000 Hz.

    Returns:
        float32 [1 + (N - 400) // 160, bins], natural logarithms, at least log(1.19e-7).
    """
    frames = F.pad(samples, (0, max(FRAME - len(samples), 0))).unfold(0, FRAME, SHIFT)
    frames = frames - frames.mean(1, keepdim=True)
    frames = frames - PREEMPHASIS * torch.cat([frames[:, :1], frames[:, :-1]], 1)
    windowed = frames * torch.hann_window(FRAME, periodic=False)
    power = torch.fft.rfft(windowed, FFT).abs().square()[:, : FFT // 2]
    return (power @ mel_bank(bins)).clamp(min=FLOOR).log()


@cache
def mel_bank(bins: int) -> Tensor:
    """Triangles equally spaced, and linear, in mel = 1127 ln(1 + f / 700).

    Returns:
        float32 [256, bins]: weights of the spectrum's bins below the Nyquist frequency, whose own is zero.
        A narrow low band may catch no bin at all (the fourth of 128).
    """
    edges = torch.linspace(_mel(LOW), _mel(HIGH), bins + 2, dtype=torch.float64)
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    hertz = torch.arange(FFT // 2, dtype=torch.float64)[:, None] * SAMPLE_RATE / FFT
    at = 1127 * (1 + hertz / 700).log()
    rising, falling = (at - left) / (center - left), (right - at) / (right - center)
    return torch.minimum(rising, falling).clamp(min=0).float()


def _mel(hertz: float) -> float:
    return 1127 * math.log(1 + hertz / 700)


def square_tiles(frame: np.ndarray, max_aspect: float) -> tuple[list[np.ndarray], int]:
    """A wide or tall frame uint8 [H, W, 3] as squarish pieces side by side, so that squashing loses little.

    Args:
        frame: of any size.
        max_aspect: longer side over shorter side, up to which the frame stays whole.

    Returns:
        (the pieces in order, views; the axis along which they lie: 0 for tall frames, 1 for wide ones)
    """
    height, width = frame.shape[:2]
    axis = int(width >= height)
    aspect = max(height, width) / min(height, width)
    count = round(aspect) if aspect > max_aspect else 1
    edges = [round(step * frame.shape[axis] / count) for step in range(count + 1)]
    spans = [slice(*span) for span in pairwise(edges)]
    return [frame[span] if axis == 0 else frame[:, span] for span in spans], axis
