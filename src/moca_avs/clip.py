"""The two things that travel: a `Clip` walks in, a `Segmentation` walks out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from moca_avs.errors import MediaError

MOTION_SECONDS = 3.0
"""Readers of videos give a clip small frames from so long before each frame to so long after it."""

# A sound louder than this, full scale = 1, was not scaled to [-1, 1]. (A little more is left by resampling.)
_LOUDEST = 10.0

# What is cast without loss of meaning: lists of arrays, whole or single-precision times, float64 audio.
_CASTS = (
    ("frames", np.uint8, ""),
    ("times", np.float64, "iuf"),
    ("sound_times", np.float64, "iuf"),
    ("sound", np.float32, "f"),
    ("motion_frames", np.uint8, ""),
    ("motion_times", np.float64, "iuf"),
    ("motion_reach", np.float64, "iuf"),
)


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames and the sound around them; lists, PyTorch tensors, whole times and float64 audio are cast.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB.
        times: float64 [T], presentation time of each frame in seconds, increasing.
        sound: float32 [N], mono, in [-1, 1] (beyond 10 is refused); N = 0 where there is no sound track.
        sample_rate: of `sound`, in Hz.
        source: where it came from (a path, usually).
        sound_start: time of ``sound[0]`` in seconds (0 unless the clip was cut out of a longer stream).
        sound_times: float64 [T], the time whose sound belongs to each frame; None means `times`. Datasets
            whose masks are drawn per second put the middle of that second here.
        noise_floor: level in dBFS of the whole recording's quiet parts; None means: measure it on `sound`.
        motion_frames: uint8 [M, h, w], gray, small (longer side 64), at the video's own rate up to
            30 a second, at least `MOTION_SECONDS` before and after each frame where the video has
            them; None: a still image, or nobody knows.
        motion_times: float64 [M], when those are shown, in seconds, increasing; None without them.
        core: the rows whose results are wanted; the frames before and after them are there to be compared
            with. None: all.
        loudest: level in dBFS of the whole recording's loudest 50 ms; None: measured on `sound` where
            `noise_floor` is None too, else not known.
        motion_reach: float64 [T], the time in seconds up to which each frame's motion frames count, so that
            a frame sees the same whatever others are in its clip; None: as far as there are any.

    Raises:
        MediaError: on a wrong shape or dtype (integer audio has no known scale), or where the sound holds NaN
            or infinite samples.
    """

    frames: np.ndarray
    times: np.ndarray
    sound: np.ndarray
    sample_rate: int
    source: str = ""
    sound_start: float = 0.0
    sound_times: np.ndarray | None = None
    noise_floor: float | None = None
    motion_frames: np.ndarray | None = None
    motion_times: np.ndarray | None = None
    core: slice | None = None
    loudest: float | None = None
    motion_reach: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, kind, casts in _CASTS:
            value = getattr(self, name)
            if value is None:
                continue
            array = _array(name, value)
            if array.dtype != kind and (array.dtype.kind in casts or not array.size):
                array = array.astype(kind)
            object.__setattr__(self, name, array)
        frames, times = self.frames, self.times
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape[1:3]:
            raise MediaError(
                "frames must be uint8 [T, H, W, 3] (RGB, 0 to 255, channels last), "
                f"found {frames.dtype} {list(frames.shape)}"
            )
        aligned = (("times", times), ("sound_times", self.sound_times), ("motion_reach", self.motion_reach))
        for name, found in aligned:
            if found is not None and (found.shape != (len(frames),) or found.dtype != np.float64):
                raise MediaError(
                    f"{name} must be float64 [{len(frames)}], found {found.dtype} {list(found.shape)}"
                )
            # Reach is infinite where the video ends.
            if found is not None and name != "motion_reach" and not np.isfinite(found).all():
                raise MediaError(f"{name} must be finite, in seconds, found {found[~np.isfinite(found)][0]}")
        self._check_sound()
        self._check_motion()

    @property
    def wanted(self) -> range:
        """The rows whose results are wanted."""
        return range(len(self))[slice(None) if self.core is None else self.core]

    def part(self, rows: slice) -> Clip:
        """Some of its frames, all of them wanted, with all of its sound and motion frames."""
        sound_times = None if self.sound_times is None else self.sound_times[rows]
        reach = None if self.motion_reach is None else self.motion_reach[rows]
        return replace(
            self,
            frames=self.frames[rows],
            times=self.times[rows],
            sound_times=sound_times,
            core=None,
            motion_reach=reach,
        )

    def _check_sound(self) -> None:
        sound, rate = self.sound, self.sample_rate
        if sound.ndim != 1 or sound.dtype != np.float32:
            advice = "average the channels"
            if sound.ndim == 1:
                advice = "float in [-1, 1] is expected"
                if sound.dtype.kind in "iu":
                    full = 2 ** (8 * sound.dtype.itemsize - 1)
                    middle = f"subtract {full} and " if sound.dtype.kind == "u" else ""
                    advice = f"{middle}divide by full scale ({full}, if that is what its samples have)"
            raise MediaError(
                "sound must be mono float32 [N] in [-1, 1], "
                f"found {sound.dtype} {list(sound.shape)}; {advice}"
            )
        if not isinstance(rate, Real) or not 0 < rate < math.inf:
            raise MediaError(f"sample_rate must be positive, a number in Hz, found {rate!r}")
        bad = int(sound.size - np.isfinite(sound).sum())
        if bad:
            raise MediaError(f"the sound of {self.source or 'this clip'} holds {bad} NaN or infinite samples")
        if sound.size and (peak := float(np.abs(sound).max())) > _LOUDEST:
            raise MediaError(
                f"sound must be in [-1, 1], found a peak of {peak:g}; divide it by full scale (32768 where "
                "its samples had 16 bits)"
            )

    def _check_motion(self) -> None:
        frames, times = self.motion_frames, self.motion_times
        if frames is None and times is None:
            return
        if frames is None or times is None:
            raise MediaError("motion_frames and motion_times go together, found one without the other")
        if frames.ndim != 3 or frames.dtype != np.uint8:
            raise MediaError(
                f"motion_frames must be uint8 [M, h, w], found {frames.dtype} {list(frames.shape)}"
            )
        if times.shape != (len(frames),) or times.dtype != np.float64 or not (np.diff(times) > 0).all():
            raise MediaError(
                f"motion_times must be float64 [{len(frames)}], increasing, "
                f"found {times.dtype} {list(times.shape)}"
            )

    def __repr__(self) -> str:
        height, width = self.frames.shape[1:3]
        seconds = len(self.sound) / self.sample_rate
        return (
            f"Clip({len(self)} frames of {width}x{height}, {seconds:.2f} s of sound at {self.sample_rate} Hz"
            + (f", source={self.source!r})" if self.source else ")")
        )

    def __len__(self) -> int:
        return len(self.frames)

    def window(self, index: int, seconds: float) -> np.ndarray:
        """The sound centered on frame `index`: float32 [<= seconds * sample_rate], shortened at the ends."""
        center = (self.times if self.sound_times is None else self.sound_times)[index]
        # In samples since the recording's zero, so that rounding does not depend on where the clip begins.
        zero = round(self.sound_start * self.sample_rate)
        start, stop = (round((center + side * seconds / 2) * self.sample_rate) - zero for side in (-1, 1))
        return self.sound[max(start, 0) : max(stop, 0)]

    def motion_window(self, index: int, seconds: float = MOTION_SECONDS) -> tuple[np.ndarray, np.ndarray]:
        """The small frames at most `seconds` before and after frame `index`: what depends on no other frame.

        Returns:
            Views of `motion_frames`, uint8 [n, h, w], and `motion_times`, float64 [n]; n = 0 without them.
        """
        if self.motion_frames is None or self.motion_times is None:
            return np.zeros((0, 0, 0), np.uint8), np.zeros(0)
        center = self.times[index]
        first = np.searchsorted(self.motion_times, center - seconds, "left")
        last = center + seconds
        if self.motion_reach is not None:
            last = min(last, float(self.motion_reach[index]))
        rows = slice(first, np.searchsorted(self.motion_times, last, "right"))
        return self.motion_frames[rows], self.motion_times[rows]


def _array(name: str, value: Any) -> np.ndarray:
    """An array of what was given: arrays, tensors on any device, lists of them."""

    def here(one: Any) -> Any:
        return one.detach().cpu() if hasattr(one, "detach") else one

    try:
        return np.asarray([here(one) for one in value] if isinstance(value, list | tuple) else here(value))
    except (TypeError, ValueError, RuntimeError) as error:
        raise MediaError(f"{name} must be one array of numbers or arrays of one shape ({error})") from error


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a method says of a clip.

    Attributes:
        masks: bool [T, H, W] at source size.
        heatmaps: float16 [T, h, w] in [0, 1]: (1 + cosine) / 2 of each position with the sound; with several
            cues, the probability that it sounds.
        scores: float32 [T], confidence of each frame (the method's own scale; see `settings`).
        reasons: T strings; "" where there is a mask, else why the frame is empty ("silent", "no sound", ...).
        times: float64 [T] in seconds.
        settings: everything needed to run it again, weights' hashes included; JSON-serializable.
        labels: uint8 [T, H, W], the class of each pixel (AVSS), 0 = background; None where nobody named any.
        carried_from: float64 [T] in seconds: the frame that was looked at, for frames whose mask was carried
            from it by optical flow; NaN for those that were looked at. None: all were.
    """

    masks: np.ndarray
    heatmaps: np.ndarray
    scores: np.ndarray
    reasons: tuple[str, ...]
    times: np.ndarray
    settings: dict[str, Any] = field(default_factory=dict)
    labels: np.ndarray | None = None
    carried_from: np.ndarray | None = None

    def __post_init__(self) -> None:
        found = {
            "masks": (self.masks.dtype, self.masks.ndim, len(self.masks)),
            "heatmaps": (self.heatmaps.dtype, self.heatmaps.ndim, len(self.heatmaps)),
            "scores": (self.scores.dtype, self.scores.ndim, len(self.scores)),
            "times": (self.times.dtype, self.times.ndim, len(self.times)),
        }
        frames = len(self.reasons)
        expected = {
            "masks": (np.dtype(bool), 3, frames),
            "heatmaps": (np.dtype(np.float16), 3, frames),
            "scores": (np.dtype(np.float32), 1, frames),
            "times": (np.dtype(np.float64), 1, frames),
        }
        for name, want in expected.items():
            if found[name] != want:
                raise MediaError(
                    f"{name} must be {want[0]} with {want[1]} dimensions and {want[2]} frames, "
                    f"found {found[name][0]} with {found[name][1]} dimensions and {found[name][2]} frames"
                )
        labels = self.labels
        if labels is not None and (labels.dtype != np.uint8 or labels.shape != self.masks.shape):
            raise MediaError(
                f"labels must be uint8 {list(self.masks.shape)}, found {labels.dtype} {list(labels.shape)}"
            )

        origins = self.carried_from
        if origins is not None and (origins.dtype != np.float64 or origins.shape != (frames,)):
            raise MediaError(
                f"carried_from must be float64 [{frames}], found {origins.dtype} {list(origins.shape)}"
            )

    def __len__(self) -> int:
        return len(self.reasons)

    def __repr__(self) -> str:
        height, width = self.masks.shape[1:]
        full = sum(not reason for reason in self.reasons)
        method = self.settings.get("method", "unknown")
        return f"Segmentation({len(self)} frames of {width}x{height}, {full} with a mask, method={method!r})"

    def save(
        self,
        folder: str | Path,
        frames: np.ndarray | None = None,
        sound: np.ndarray | None = None,
        sample_rate: int | None = None,
        *,
        overlay: bool = False,
    ) -> Path:
        """Write ``result.json``, ``masks/``, ``heatmaps/`` and ``heatmaps.safetensors`` (and an overlay).

        Args:
            folder: where to write; made if missing.
            frames: uint8 [T, H, W, 3]; given, ``overlay.mp4`` shows them, at their own times.
            sound: float32 [N] mono, the sound track of that overlay.
            sample_rate: of `sound`, in Hz.
            overlay: write ``overlay.mp4`` as ``moca segment`` does: every frame of the source video, with its
                own sound. The source is the file that the clip was read from (`Clip.source`).

        Raises:
            MediaError: where the place can't be written, or the source video is not there any more.
        """
        from moca_avs.io.overlay import overlay_writer
        from moca_avs.io.results import save_segmentation

        # A source that is not there is told before anything is written.
        drawn = overlay_writer(self, Path(folder) / "overlay.mp4") if overlay and frames is None else None
        saved = save_segmentation(self, Path(folder), frames, sound, sample_rate)
        if drawn is not None and len(self):
            with drawn:
                drawn.append(self)
        return saved

    def to_coco(self) -> dict[str, Any]:
        """The masks as a COCO dictionary: "images", "annotations" (compressed RLE) and "categories".

        One image per frame, named like the mask PNGs, with its time in seconds; one annotation per frame with
        a mask, or per class of `labels` in it, with its score. Category 1 is "sounding object"; with labels
        the categories are the class indices.
        """
        from moca_avs.io.results import encode_rle

        height, width = self.masks.shape[1:]
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index, mask in enumerate(self.masks):
            name = f"{index:06d}.png"
            time = float(self.times[index])
            images.append({"id": index, "file_name": name, "height": height, "width": width, "time": time})
            if self.labels is None:
                found = {1: mask}
            else:
                labels = self.labels[index]
                found = {int(label): labels == label for label in np.unique(labels) if label}
            for category, part in found.items():
                if not part.any():
                    continue
                rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
                left, top = int(columns[0]), int(rows[0])
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index,
                        "category_id": category,
                        "segmentation": encode_rle(part),
                        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
                        "area": int(part.sum()),
                        "iscrowd": 0,
                        "score": float(self.scores[index]),
                    }
                )
        named = {1} if self.labels is None else {int(label) for label in np.unique(self.labels) if label}
        word = "sounding object" if self.labels is None else "class {}"
        categories = [{"id": label, "name": word.format(label)} for label in sorted(named)]
        return {"images": images, "annotations": annotations, "categories": categories}

    @classmethod
    def load(cls, folder: str | Path) -> Segmentation:
        """Read what `save` wrote; equal to it in every field."""
        from moca_avs.io.results import load_segmentation

        return load_segmentation(Path(folder), cls)
