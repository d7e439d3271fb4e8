"""What every method is.

What every method does with clips: leave out frames where nothing is heard, answer the rest in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import moca_avs
from moca_avs.clip import Clip, Segmentation
from moca_avs.encoders.base import AudioFeatures, AudioVisualEncoder
from moca_avs.io.silence import block_levels, is_silent, noise_floor
from moca_avs.methods.config import MethodConfig
from moca_avs.proposals.masks import downscale, resize_mask
from moca_avs.utils.profiler import record


class Method(Protocol):
    """A way to segment a clip.

    Attributes:
        settings: JSON-able, everything needed to build it again, weights' hashes included.
    """

    settings: dict[str, Any]

    def __call__(self, clip: Clip) -> Segmentation:
        """Masks of what sounds, at source size, one per frame."""
        ...


@runtime_checkable
class BatchedMethod(Method, Protocol):
    """A method whose networks take frames of several clips at once."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def predict_batch(self, clips: Sequence[Clip]) -> list[Segmentation]:
        """A result per clip, as from asking about each alone up to the rounding of batched arithmetic.

        Args:
            clips: with images of any sizes and sounds of any sample rates; pieces of one video may be among
                them.
        """
        ...


FrameIndex = tuple[Clip, int]
"""A frame: its clip, and its index there."""


@dataclass(frozen=True, eq=False)
class FramePrediction:
    """What one frame got.

    Attributes:
        mask: bool [h, w] on the working copy.
        heat: float16 [grid, grid] in [0, 1].
        score: confidence, on the method's own scale.
        reason: why the mask is empty, "" where it is not.
        parts: bool [P, h, w], the masks whose union is `mask`; None where there is only the mask.
    """

    mask: np.ndarray
    heat: np.ndarray
    score: float
    reason: str
    parts: np.ndarray | None = None

    @property
    def parts_or_mask(self) -> np.ndarray:
        """Bool [P, h, w], P >= 1."""
        return self.mask[None] if self.parts is None else self.parts


class MaskClassifier(Protocol):
    """Says what the parts of a mask are (AVSS).

    Attributes:
        settings: JSON-able, what is needed to make it again.
    """

    settings: dict[str, Any]

    def __call__(
        self, frame: np.ndarray, parts: np.ndarray, sound: np.ndarray, sample_rate: int
    ) -> np.ndarray:
        """uint8 [h, w, 3], bool [P, h, w], float32 [N], Hz -> class indices uint8 [h, w], 0 = none."""
        ...


def predict_clip(
    clip: Clip,
    config: MethodConfig,
    grid: int,
    settings: dict[str, Any],
    answer: Callable[[list[int]], Iterable[FramePrediction]],
    classifier: MaskClassifier | None = None,
) -> Segmentation:
    """Ask for every frame where something is heard, a batch at a time.

    Args:
        clip: frames and sound.
        config: windows, gate and batch.
        grid: positions per side of the heat maps.
        settings: of the method.
        answer: frame indices -> an answer for each, in their order.
        classifier: asked about each mask; None leaves `Segmentation.labels` at None.

    Returns:
        Masks at source size; the reasons "no sound" and "silent" come from here, heat is 0 there.
    """

    def of_rows(rows: list[FrameIndex]) -> Iterable[FramePrediction]:
        return answer([index for _, index in rows])

    return predict_clips([clip], config, grid, settings, of_rows, classifier)[0]


def predict_clips(
    clips: Sequence[Clip],
    config: MethodConfig,
    grid: int,
    settings: dict[str, Any],
    answer: Callable[[list[FrameIndex]], Iterable[FramePrediction]],
    classifier: MaskClassifier | None = None,
) -> list[Segmentation]:
    """`predict_clip` for several clips: a batch holds frames of as many as it takes to fill it."""
    sheets = [_ClipPredictions(clip, config, grid, classifier) for clip in clips]
    heard = [(sheet, index) for sheet in sheets for index in sheet.heard]
    for start in range(0, len(heard), config.batch):
        sources = heard[start : start + config.batch]
        rows = [(sheet.clip, index) for sheet, index in sources]
        for (sheet, index), found in zip(sources, answer(rows), strict=True):
            sheet.enter(index, found)
    return [sheet.result(settings) for sheet in sheets]


class _ClipPredictions:
    """A clip's answers as they come."""

    def __init__(
        self, clip: Clip, config: MethodConfig, grid: int, classifier: MaskClassifier | None
    ) -> None:
        self.clip, self._config, self._classifier = clip, config, classifier
        self._size = clip.frames.shape[1:3]
        self._reasons = silence_reasons(clip, config)
        self.heard = [index for index, reason in enumerate(self._reasons) if not reason]
        self._masks = np.zeros((len(clip), *self._size), bool)
        self._heatmaps = np.zeros((len(clip), grid, grid), np.float16)
        self._scores = np.zeros(len(clip), np.float32)
        self._labels = None if classifier is None else np.zeros((len(clip), *self._size), np.uint8)

    def enter(self, index: int, found: FramePrediction) -> None:
        """What one frame got."""
        self._masks[index], self._heatmaps[index] = resize_mask(found.mask, self._size), found.heat
        self._scores[index], self._reasons[index] = found.score, found.reason
        if self._labels is not None and self._classifier is not None and found.mask.any():
            window = self.clip.window(index, self._config.window)
            frame = downscale(self.clip.frames[index], self._config.working_side)
            with record("naming"):
                classes = self._classifier(frame, found.parts_or_mask, window, self.clip.sample_rate)
            self._labels[index] = resize_labels(classes, self._size) * self._masks[index]

    def result(self, settings: dict[str, Any]) -> Segmentation:
        """All of them."""
        reasons, times = tuple(self._reasons), self.clip.times
        return Segmentation(self._masks, self._heatmaps, self._scores, reasons, times, settings, self._labels)


def resize_labels(classes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Class indices uint8 [h, w] at another size, [H, W]: the nearest pixel's."""
    return np.asarray(Image.fromarray(classes).resize(size[::-1], Image.Resampling.NEAREST))


def silence_reasons(clip: Clip, config: MethodConfig) -> list[str]:
    """Why each frame stays empty before anybody looks at it: "no sound", "silent"; "" where it is heard."""
    gate = config.silence
    floor = clip.noise_floor
    if floor is None:
        floor = noise_floor(block_levels(clip.sound, clip.sample_rate, gate.block), gate)
    reasons = []
    for index in range(len(clip)):
        if not clip.window(index, config.window).size:
            reasons.append("no sound")
        else:
            near = clip.window(index, config.gate_window)
            reasons.append("silent" if is_silent(near, clip.sample_rate, floor, gate) else "")
    return reasons


def encode_windows(encoder: AudioVisualEncoder, windows: Sequence[tuple[np.ndarray, int]]) -> AudioFeatures:
    """States of windows of sound (samples, their rate in Hz), one row each; equal ones are encoded once."""
    keys = [(window.tobytes(), rate) for window, rate in windows]
    place = {key: index for index, key in reversed(list(enumerate(keys)))}
    distinct = sorted(place.values())
    with record("sound encoder"):
        prepared = torch.stack([encoder.prepare_audio(*windows[index]) for index in distinct])
        states = encoder.encode_audio(prepared)
    picked = [distinct.index(place[key]) for key in keys]
    return states.index(torch.tensor(picked, device=states.embedding.device))


def prepare_frames(encoder: AudioVisualEncoder, frames: Sequence[np.ndarray]) -> Tensor:
    """`prepare_images` of frames uint8 [H, W, 3] that may differ in size; runs of one size go together."""
    runs = groupby(frames, key=np.shape)
    images = [encoder.prepare_images(np.stack(list(run))) for _, run in runs]
    return images[0] if len(images) == 1 else torch.cat(images)


def frames_and_embeddings(
    encoder: AudioVisualEncoder, clip: Clip, rows: list[int], config: MethodConfig
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """(working copy uint8 [h, w, 3], embedding [E] of its window of sound) of each row."""
    windows = [(clip.window(index, config.window), clip.sample_rate) for index in rows]
    sounds = encode_windows(encoder, windows).embedding
    for index, sound in zip(rows, sounds, strict=True):
        yield downscale(clip.frames[index], config.working_side), sound


def encoder_settings(encoder: AudioVisualEncoder) -> dict[str, Any]:
    """What the settings of a method tell of its encoder."""
    return {
        "name": encoder.name,
        "weights": encoder.weights_hash(),
        "image_size": encoder.image_size,
        "grid": encoder.grid,
    }


def versions() -> dict[str, str]:
    """What the settings of a method tell of the software."""
    return {"moca_avs": moca_avs.__version__, "torch": torch.__version__}
