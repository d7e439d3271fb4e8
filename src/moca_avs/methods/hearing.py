"""What every method does with clips: leave out frames where nothing is heard, answer the rest in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import moca_avs
from moca_avs.clip import Clip, Segmentation
from moca_avs.encoders.base import AudioVisualEncoder, SoundStates
from moca_avs.methods.config import HearingConfig
from moca_avs.proposals.base import shrunk
from moca_avs.proposals.resizing import resized_mask
from moca_avs.silence import block_levels, is_silent, noise_floor
from moca_avs.stages import stage

Row = tuple[Clip, int]
"""A frame: its clip, and its index there."""


@dataclass(frozen=True, eq=False)
class Answer:
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


class Labeller(Protocol):
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


def answered(
    clip: Clip,
    config: HearingConfig,
    grid: int,
    settings: dict[str, Any],
    answer: Callable[[list[int]], Iterable[Answer]],
    labeller: Labeller | None = None,
) -> Segmentation:
    """Ask for every frame where something is heard, a batch at a time.

    Args:
        clip: frames and sound.
        config: windows, gate and batch.
        grid: positions per side of the heat maps.
        settings: of the method.
        answer: frame indices -> an answer for each, in their order.
        labeller: asked about each mask; None leaves `Segmentation.labels` at None.

    Returns:
        Masks at source size; the reasons "no sound" and "silent" come from here, heat is 0 there.
    """

    def of_rows(rows: list[Row]) -> Iterable[Answer]:
        return answer([index for _, index in rows])

    return all_answered([clip], config, grid, settings, of_rows, labeller)[0]


def all_answered(
    clips: Sequence[Clip],
    config: HearingConfig,
    grid: int,
    settings: dict[str, Any],
    answer: Callable[[list[Row]], Iterable[Answer]],
    labeller: Labeller | None = None,
) -> list[Segmentation]:
    """`answered` for several clips: a batch holds frames of as many as it takes to fill it."""
    sheets = [_Sheet(clip, config, grid, labeller) for clip in clips]
    heard = [(sheet, index) for sheet in sheets for index in sheet.heard]
    for start in range(0, len(heard), config.batch):
        places = heard[start : start + config.batch]
        rows = [(sheet.clip, index) for sheet, index in places]
        for (sheet, index), found in zip(places, answer(rows), strict=True):
            sheet.enter(index, found)
    return [sheet.result(settings) for sheet in sheets]


class _Sheet:
    """A clip's answers as they come."""

    def __init__(self, clip: Clip, config: HearingConfig, grid: int, labeller: Labeller | None) -> None:
        self.clip, self._config, self._labeller = clip, config, labeller
        self._size = clip.frames.shape[1:3]
        self._reasons = unheard(clip, config)
        self.heard = [index for index, reason in enumerate(self._reasons) if not reason]
        self._masks = np.zeros((len(clip), *self._size), bool)
        self._heatmaps = np.zeros((len(clip), grid, grid), np.float16)
        self._scores = np.zeros(len(clip), np.float32)
        self._labels = None if labeller is None else np.zeros((len(clip), *self._size), np.uint8)

    def enter(self, index: int, found: Answer) -> None:
        """What one frame got."""
        self._masks[index], self._heatmaps[index] = resized_mask(found.mask, self._size), found.heat
        self._scores[index], self._reasons[index] = found.score, found.reason
        if self._labels is not None and self._labeller is not None and found.mask.any():
            window = self.clip.window(index, self._config.window)
            frame = shrunk(self.clip.frames[index], self._config.working_side)
            with stage("naming"):
                classes = self._labeller(frame, found.parts_or_mask, window, self.clip.sample_rate)
            self._labels[index] = resized_labels(classes, self._size) * self._masks[index]

    def result(self, settings: dict[str, Any]) -> Segmentation:
        """All of them."""
        reasons, times = tuple(self._reasons), self.clip.times
        return Segmentation(self._masks, self._heatmaps, self._scores, reasons, times, settings, self._labels)


def resized_labels(classes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Class indices uint8 [h, w] at another size, [H, W]: the nearest pixel's."""
    return np.asarray(Image.fromarray(classes).resize(size[::-1], Image.Resampling.NEAREST))


def unheard(clip: Clip, config: HearingConfig) -> list[str]:
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


def encoded(encoder: AudioVisualEncoder, windows: Sequence[tuple[np.ndarray, int]]) -> SoundStates:
    """States of windows of sound (samples, their rate in Hz), one row each; equal ones are encoded once."""
    keys = [(window.tobytes(), rate) for window, rate in windows]
    place = {key: index for index, key in reversed(list(enumerate(keys)))}
    distinct = sorted(place.values())
    with stage("sound encoder"):
        prepared = torch.stack([encoder.prepare_sound(*windows[index]) for index in distinct])
        states = encoder.encode_sound(prepared)
    picked = [distinct.index(place[key]) for key in keys]
    return states.index(torch.tensor(picked, device=states.embedding.device))


def prepared_images(encoder: AudioVisualEncoder, frames: Sequence[np.ndarray]) -> Tensor:
    """`prepare_images` of frames uint8 [H, W, 3] that may differ in size; runs of one size go together."""
    runs = groupby(frames, key=np.shape)
    images = [encoder.prepare_images(np.stack(list(run))) for _, run in runs]
    return images[0] if len(images) == 1 else torch.cat(images)


def frames_and_sounds(
    encoder: AudioVisualEncoder, clip: Clip, rows: list[int], config: HearingConfig
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """(working copy uint8 [h, w, 3], embedding [E] of its window of sound) of each row."""
    windows = [(clip.window(index, config.window), clip.sample_rate) for index in rows]
    sounds = encoded(encoder, windows).embedding
    for index, sound in zip(rows, sounds, strict=True):
        yield shrunk(clip.frames[index], config.working_side), sound


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
