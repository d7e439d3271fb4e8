"""What every method is, and what all share: the silence gate, batches of frames, results at source size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import moca_avs
from moca_avs.clip import Clip, Segmentation
from moca_avs.encoders.base import AudioFeatures, AudioVisualEncoder
from moca_avs.io.audio import block_levels, noise_floor, silence
from moca_avs.io.video import as_clip
from moca_avs.methods.config import MethodConfig
from moca_avs.proposals.masks import downscale, resize_mask
from moca_avs.utils.profiler import record


class Method(Protocol):
    """A way to segment a clip.

    A method whose attribute `context` is true gets, where a video is streamed, one looked-at frame more
    before and after those whose masks are wanted (`moca_avs.clip.Clip.core`). Others get only the latter.

    Attributes:
        settings: JSON-able, everything needed to build it again, weights' hashes included.
    """

    settings: dict[str, Any]

    def __call__(self, clip: Clip, /) -> Segmentation:
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
        """A result per clip, equal to that of each clip alone.

        On a CPU bit for bit, whatever the batches; on a GPU up to the rounding of batched arithmetic.

        Args:
            clips: with frames of any sizes and sounds of any sample rates; chunks of one video may be among
                them.
        """
        ...


@dataclass(frozen=True, eq=False)
class ClipFrame:
    """One frame of a clip, with the sound around it.

    Attributes:
        clip: frames and sound.
        index: of the frame in the clip.
    """

    clip: Clip
    index: int

    @property
    def image(self) -> np.ndarray:
        """uint8 [H, W, 3]."""
        image: np.ndarray = self.clip.frames[self.index]
        return image

    def window(self, seconds: float) -> tuple[np.ndarray, int]:
        """The sound centered on the frame, float32 [N], and its rate in Hz."""
        return self.clip.window(self.index, seconds), self.clip.sample_rate


@dataclass(frozen=True, eq=False)
class FramePrediction:
    """What a method says of one frame.

    Attributes:
        mask: bool [h, w] on the downscaled frame.
        heat: float16 [h, w] in [0, 1], of the method's `heat_size`.
        score: confidence, on the method's own scale.
        reason: why the mask is empty, "" where it is not.
        parts: bool [P, h, w], the masks whose union is `mask`; None where there is only the mask.
    """

    mask: np.ndarray
    heat: np.ndarray
    score: float
    reason: str
    parts: np.ndarray | None = None


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


class FrameMethod:
    """A method that predicts frame by frame; a subclass gives `predict_frames` and sets the attributes.

    Attributes:
        config: audio windows, silence gate, batch size.
        grid: positions per side of the heat maps.
        settings: see `Method`.
        classifier: names the classes of each mask; None leaves `Segmentation.labels` at None.
    """

    config: MethodConfig
    grid: int
    settings: dict[str, Any]
    classifier: MaskClassifier | None = None

    def __repr__(self) -> str:
        encoder = self.settings.get("encoder", {}).get("name")
        named = f", encoder={encoder!r}" if encoder else ""
        return f"{type(self).__name__}(method={self.settings['method']!r}{named})"

    def __call__(
        self,
        source: Clip | str | Path | tuple[Any, Any, int],
        audio: Any = None,
        sample_rate: int | None = None,
    ) -> Segmentation:
        """Segment every frame of a clip.

        Args:
            source: a `Clip`, the path of a video (read at one frame per second), a tuple ``(frames, audio,
                sample_rate)``, or frames uint8 [T, H, W, 3] with the two arguments that follow.
            audio: float [N] mono in [-1, 1]; see `source`.
            sample_rate: of `audio`, in Hz.

        Returns:
            Masks at source size; what heat, `scores` and `reasons` mean is told by each method. Frames
            without sound ("no sound", "silent", "not above the recording's own floor") are empty, with heat
            and score 0.

        Raises:
            UsageError: for anything else.
            MediaError: for a video that can't be read, or arrays of a wrong shape.
        """
        return self.predict_batch([as_clip(source, audio, sample_rate)])[0]

    @torch.inference_mode()
    def predict_batch(self, clips: Sequence[Clip], **options: Any) -> list[Segmentation]:
        """Segment several clips, their audible frames in common batches; see `BatchedMethod`.

        Args:
            clips: with frames of any sizes and sounds of any sample rates.
            options: of `predict_frames`.
        """
        predictions = [
            ClipPredictions(clip, self.config, self.heat_size(clip), self.classifier) for clip in clips
        ]
        audible = [(one, frame) for one in predictions for frame in one.audible]
        for start in range(0, len(audible), self.config.batch):
            batch = audible[start : start + self.config.batch]
            found = self.predict_frames([frame for _, frame in batch], **options)
            for (one, frame), prediction in zip(batch, found, strict=True):
                one.add(frame, prediction)
        return [one.segmentation(self.settings) for one in predictions]

    def heat_size(self, clip: Clip) -> tuple[int, int]:
        """Positions (h, w) of the heat maps of a clip's frames."""
        return self.grid, self.grid

    def predict_frames(self, frames: list[ClipFrame]) -> Iterable[FramePrediction]:
        """A prediction for each of a batch of audible frames, in their order."""
        raise NotImplementedError


class ClipPredictions:
    """The predictions of one clip as they come; frames where nothing is heard are settled at once.

    Args:
        clip: frames and sound.
        config: windows and silence gate.
        heat_size: positions (h, w) of the heat maps.
        classifier: names the classes of each mask, or None.

    Attributes:
        audible: the frames that pass the silence gate, of those whose results are wanted.
    """

    def __init__(
        self,
        clip: Clip,
        config: MethodConfig,
        heat_size: tuple[int, int],
        classifier: MaskClassifier | None = None,
    ) -> None:
        self._clip, self._config, self._classifier = clip, config, classifier
        self._reasons = silence_reasons(clip, config)
        self.audible = [ClipFrame(clip, i) for i in clip.wanted if not self._reasons[i]]
        self._masks = np.zeros(clip.frames.shape[:3], bool)
        self._heatmaps = np.zeros((len(clip), *heat_size), np.float16)
        self._scores = np.zeros(len(clip), np.float32)
        self._labels = None if classifier is None else np.zeros(clip.frames.shape[:3], np.uint8)

    def add(self, frame: ClipFrame, found: FramePrediction) -> None:
        """Enter what was predicted of one frame, its masks enlarged to source size."""
        index, size = frame.index, frame.image.shape[:2]
        self._masks[index], self._heatmaps[index] = resize_mask(found.mask, size), found.heat
        self._scores[index], self._reasons[index] = found.score, found.reason
        if self._classifier is not None and self._labels is not None and found.mask.any():
            image = downscale(frame.image, self._config.working_side)
            parts = found.mask[None] if found.parts is None else found.parts
            with record("classify"):
                classes = self._classifier(image, parts, *frame.window(self._config.window))
            enlarged = Image.fromarray(classes).resize(size[::-1], Image.Resampling.NEAREST)
            self._labels[index] = np.asarray(enlarged) * self._masks[index]

    def segmentation(self, settings: dict[str, Any]) -> Segmentation:
        """Those of the wanted frames; the settings also name the file that the clip was read from."""
        rows, source = slice(self._clip.wanted.start, self._clip.wanted.stop), self._clip.source
        return Segmentation(
            masks=self._masks[rows],
            heatmaps=self._heatmaps[rows],
            scores=self._scores[rows],
            reasons=tuple(self._reasons[rows]),
            times=self._clip.times[rows],
            settings={**settings, "input": {"source": source}} if source else settings,
            labels=None if self._labels is None else self._labels[rows],
        )


def silence_reasons(clip: Clip, config: MethodConfig) -> list[str]:
    """Why each frame stays empty before it is looked at: "no sound", or as `moca_avs.io.audio.silence` says.

    "" where it is heard.
    """
    gate = config.silence
    floor, loudest = clip.noise_floor, clip.loudest
    if floor is None:
        levels = block_levels(clip.sound, clip.sample_rate, gate.block)
        floor, loudest = noise_floor(levels, gate), float(levels.max())
    reasons = []
    for index in range(len(clip)):
        if not clip.window(index, config.window).size:
            reasons.append("no sound")
        else:
            near = clip.window(index, config.gate_window)
            reasons.append(silence(near, clip.sample_rate, floor, loudest, gate))
    return reasons


def lots(device: torch.device, count: int) -> list[list[int]]:
    """Which of so many items go through a network at once: on a CPU each alone, elsewhere all together.

    The order in which a CPU adds up depends on how many items a batch has: alone, each has the same bits
    whatever the others are. It costs little there: one item keeps the processor busy.
    """
    every = list(range(count))
    return [[one] for one in every] if device.type == "cpu" else [every]


def encode_windows(encoder: AudioVisualEncoder, windows: Sequence[tuple[np.ndarray, int]]) -> AudioFeatures:
    """Features of windows of sound (samples, their rate in Hz), one row each; equal ones are encoded once."""
    keys = [(window.tobytes(), rate) for window, rate in windows]
    place = {key: index for index, key in reversed(list(enumerate(keys)))}
    distinct = sorted(place.values())
    with record("audio encoder"):
        prepared = torch.stack([encoder.prepare_audio(*windows[index]) for index in distinct])
        parts = [encoder.encode_audio(prepared[lot]) for lot in lots(prepared.device, len(distinct))]
    embedding = torch.cat([part.embedding for part in parts])
    tokens = {site: torch.cat([part.tokens[site] for part in parts]) for site in parts[0].tokens}
    rows = [distinct.index(place[key]) for key in keys]
    return AudioFeatures(embedding, tokens).index(torch.tensor(rows, device=embedding.device))


def prepare_frames(encoder: AudioVisualEncoder, frames: Sequence[np.ndarray]) -> Tensor:
    """`prepare_images` of frames uint8 [H, W, 3] that may differ in size; runs of one size go together."""
    runs = groupby(frames, key=np.shape)
    images = [encoder.prepare_images(np.stack(list(run))) for _, run in runs]
    return images[0] if len(images) == 1 else torch.cat(images)


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
