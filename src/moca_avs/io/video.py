"""Videos to clips: whole, or streamed in memory that does not grow with their length."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from moca_avs.clip import MOTION_SECONDS, Clip
from moca_avs.errors import MediaError, UsageError
from moca_avs.io.audio import AudioWindows, NoAudioError, survey
from moca_avs.io.frames import Shown, ToRGB, coded_aspect, shown_frames
from moca_avs.io.image import read_image
from moca_avs.io.motion_frames import MotionFrames, small_copies
from moca_avs.io.open import open_media, warn_media
from moca_avs.io.sampling import native, sampled

# A chunk holds at most this many bytes of frames, however large they are (but at least one frame).
_CHUNK_BYTES = 2**28
# Files whose header states the true length: ending this many seconds before it means that they were cut off.
_LENGTH_IN_HEADER = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"}
_CUT_OFF = 1.0
# Arrays given at this many frames a second or more show how things move.
_MOTION_RATE = 8
# What a clip without sound says of the rate of its zero samples, in Hz.
_NO_SOUND_RATE = 16000

Frames = Iterator[tuple[float, np.ndarray]]


def read_clip(
    path: str | Path,
    fps: float | str = 1.0,
    start: float = 0.0,
    end: float | None = None,
    sound: str | Path | None = None,
    margin: float = 0.0,
    phase: float = 0.0,
    square_pixels: bool = False,
) -> Clip:
    """Read a stretch of a video into memory.

    Time zero is the beginning of the file's image or sound, whichever comes first.

    Args:
        path: any video FFmpeg reads.
        fps: the frame on screen at start + (k + phase) / fps for each k (their `times`), or "native": every
            frame.
        start: seconds.
        end: seconds; None means the video's end.
        sound: a file whose sound takes the place of the video's own.
        margin: seconds of sound to keep before `start` and after `end`.
        phase: where in its interval of 1 / fps a frame is looked at: 0 its beginning, 0.5 its middle; below
            1. An interval that the end cuts short is looked at no later than its last frame.
        square_pixels: make the frames as wide as players show them, where the file says that its pixels are
            not square. Otherwise frames (and so masks) have the size in which the image is coded.

    Returns:
        A clip with the sound of [start - margin, end + margin); no samples where there is no sound track;
        `noise_floor` measured over the whole recording; `motion_frames` of the video around each frame.

    Raises:
        MediaError: missing or unreadable file, no video track, no frame in the stretch, NaN samples.
        UsageError: rates or times that make no sense.
    """
    _check(fps, start, end, margin, phase=phase)
    last = math.inf if end is None else end
    with _source(path, sound) as source:
        moving, chosen = _frames(path, fps, start, last, source.end, phase, square_pixels)
        images = list(chosen)
        if not images:
            raise MediaError(f"{path} has no frame in {start:g} to {last:g} s; choose an earlier stretch")
        times, frames = zip(*images, strict=True)
        return source.clip(times, frames, start - margin, last + margin, moving)


def stream_clips(
    path: str | Path,
    fps: float | str = 1.0,
    chunk_frames: int = 16,
    margin: float = 2.0,
    start: float = 0.0,
    end: float | None = None,
    sound: str | Path | None = None,
    phase: float = 0.0,
    context: int = 0,
    square_pixels: bool = False,
) -> Iterator[Clip]:
    """The frames of `read_clip` as clips of at most `chunk_frames` frames, in bounded memory.

    Each clip carries the sound from `margin` seconds before its first frame to `margin` seconds after its
    last one (`sound_start` says where it begins), so windows of up to twice `margin` seconds are whole, and
    the `motion_frames` around its frames. Fewer frames share a clip where they are very large (256 MiB a
    clip; as many are held back while the seconds after them are read, so `motion_frames` may reach less far).
    Each clip holds up to `context` frames more before and after those, where there are any; `Clip.core` says
    which are its own.

    Raises:
        MediaError, UsageError: as `read_clip`, once the first clip is asked for.
    """
    _check(fps, start, end, margin, chunk_frames, phase)
    last = math.inf if end is None else end
    with _source(path, sound) as source:
        moving, chosen = _frames(path, fps, start, last, source.end, phase, square_pixels)
        yield from source.clips(chosen, chunk_frames, margin, moving, context)


def clip_from_pair(image_path: str | Path, sound_path: str | Path, fps: float = 1.0) -> Clip:
    """An image shown for as long as a sound lasts, at least once; the frames share one image's memory.

    Raises:
        MediaError: either file missing or unreadable, NaN samples.
    """
    _check(fps, 0.0, None, 0.0)
    with _source(image_path, sound_path) as source:
        times, frames = zip(*_still(image_path, fps, source.end), strict=True)
        return source.clip(times, frames[:1], 0.0, math.inf)


def stream_pair(
    image_path: str | Path,
    sound_path: str | Path,
    fps: float = 1.0,
    chunk_frames: int = 16,
    margin: float = 2.0,
    context: int = 0,
) -> Iterator[Clip]:
    """`clip_from_pair` as clips of at most `chunk_frames` frames, in bounded memory; see `stream_clips`."""
    _check(fps, 0.0, None, margin, chunk_frames)
    with _source(image_path, sound_path) as source:
        yield from source.clips(_still(image_path, fps, source.end), chunk_frames, margin, context=context)


def _check(
    fps: float | str,
    start: float,
    end: float | None,
    margin: float,
    chunk_frames: int = 1,
    phase: float = 0.0,
) -> None:
    if fps != "native" and not (isinstance(fps, (int, float)) and 0 < fps < math.inf):
        raise UsageError(f'fps must be a positive number or "native", found {fps!r}')
    if not 0 <= start < math.inf or not margin >= 0:
        raise UsageError(f"start and margin must be 0 s or more, found {start!r} and {margin!r}")
    if end is not None and not end > start:
        raise UsageError(f"end must be after start ({start:g} s), found {end!r}")
    if not 0 <= phase < 1:
        raise UsageError(f"phase must be 0 or more and below 1, found {phase!r}")
    if chunk_frames < 1:
        raise UsageError(f"chunk_frames must be 1 or more, found {chunk_frames}")


@dataclass(frozen=True)
class _Source:
    """Where clips come from: the sound beside the frames, read forward as they come."""

    name: str
    windows: AudioWindows | None
    floor: float | None
    end: float  # of the sound, in seconds

    def clip(
        self,
        times: tuple[float, ...],
        frames: tuple[np.ndarray, ...],
        low: float,
        high: float,
        moving: MotionFrames | None = None,
    ) -> Clip:
        """One clip; a single image for several times is repeated without copying."""
        sound, sound_start = np.zeros(0, np.float32), 0.0
        if self.windows is not None:
            sound, sound_start = self.windows.between(low, high)
        nothing = None, None, None
        motion_frames, motion_times, reach = nothing if moving is None else moving.around(np.array(times))
        return Clip(
            frames=np.stack(frames) if len(frames) == len(times) else _repeated(frames[0], len(times)),
            times=np.array(times, np.float64),
            sound=sound,
            sample_rate=_NO_SOUND_RATE if self.windows is None else self.windows.rate,
            source=self.name,
            sound_start=sound_start,
            noise_floor=self.floor,
            motion_frames=motion_frames,
            motion_times=motion_times,
            motion_reach=reach,
        )

    def clips(
        self,
        images: Frames,
        chunk_frames: int,
        margin: float,
        moving: MotionFrames | None = None,
        context: int = 0,
    ) -> Iterator[Clip]:
        coming = list(itertools.islice(images, 1))
        if not coming:
            raise MediaError(f"{self.name} has no frame in this stretch; choose an earlier one")
        size = max(1, min(chunk_frames, _CHUNK_BYTES // coming[0][1].nbytes))
        before: list[tuple[float, np.ndarray]] = []
        while coming := coming + list(itertools.islice(images, size + context - len(coming))):
            times, frames = zip(*before, *coming, strict=True)
            clip = self.clip(times, frames, times[0] - margin, times[-1] + margin, moving)
            first, count = len(before), min(size, len(coming))
            yield clip if context == 0 else replace(clip, core=slice(first, first + count))
            before = [*before, *coming[:count]][-context:] if context else []
            coming = coming[count:]


@contextmanager
def _source(path: str | Path, sound: str | Path | None) -> Iterator[_Source]:
    """The video's own sound, or that of the file `sound`."""
    try:
        found = survey(path if sound is None else sound)
    except NoAudioError:
        if sound is not None:
            raise
        yield _Source(str(path), None, None, 0.0)
        return
    windows = AudioWindows(path if sound is None else sound)
    try:
        yield _Source(str(path), windows, found.noise_floor, found.seconds)
    finally:
        windows.close()


def _frames(
    path: str | Path,
    fps: float | str,
    start: float,
    end: float,
    sound_end: float,
    phase: float,
    square_pixels: bool,
) -> tuple[MotionFrames, Frames]:
    """The looked-at frames, and what moves around them."""
    aspect = coded_aspect(path) if square_pixels else Fraction(1)
    moving = MotionFrames(shown_frames(path, max(start - MOTION_SECONDS, 0.0)), aspect)
    frames = _noting_end(path, moving.frames, sound_end)
    every = isinstance(fps, str)
    chosen = native(frames, start, end) if every else sampled(frames, float(fps), start, end, phase)
    convert = ToRGB(aspect)
    return moving, ((shown.time, convert(shown.raw)) for shown in moving.held_back(chosen))


def _noting_end(path: str | Path, frames: Iterator[Shown], sound_end: float) -> Iterator[Shown]:
    """Pass frames on; warn where both image and sound stop long before the length the header states."""
    image_end = 0.0
    for shown in frames:
        image_end = shown.time + shown.duration
        yield shown
    found = max(image_end, sound_end)
    with open_media(path) as container:
        stated = container.duration / av.time_base if container.duration else 0.0
        trusted = container.format.name in _LENGTH_IN_HEADER
    if trusted and found < stated - _CUT_OFF:
        message = f"{path} ends after {found:.1f} s of the {stated:.1f} s its header states: it was cut off"
        warn_media(message)


def _still(image_path: str | Path, fps: float, seconds: float) -> Frames:
    image = read_image(image_path)
    for step in itertools.count():
        if step and step / fps >= seconds:
            return
        yield step / fps, image


def _repeated(image: np.ndarray, count: int) -> np.ndarray:
    """[count, H, W, 3] over one image's memory, in a form torch takes (np.broadcast_to's it warns of)."""
    return np.lib.stride_tricks.as_strided(image, (count, *image.shape), (0, *image.strides))


def as_clip(source: Any, audio: Any = None, sample_rate: int | None = None) -> Clip:
    """What a method may be called with, as a clip.

    Args:
        source: a `Clip`, the path of a video (read at one frame per second), a tuple ``(frames, audio,
            sample_rate)``, or frames uint8 [T, H, W, 3] with the two arguments that follow.
        audio: float [N] mono in [-1, 1].
        sample_rate: of `audio`, in Hz.

    Returns:
        The clip; frames without times are spread evenly over the audio, each in the middle of its share.
        Frames given at 8 a second or more are its `motion_frames` too.

    Raises:
        UsageError: for anything else.
        MediaError: for a video that can't be read, or arrays of a wrong shape.
    """
    if audio is not None or sample_rate is not None:
        source = (source, audio, sample_rate)
    if isinstance(source, Clip):
        return source
    if isinstance(source, str | Path):
        return read_clip(source)
    triple = isinstance(source, tuple) and len(source) == 3 and isinstance(source[2], int | float | np.number)
    if triple and np.ndim(source[0]) == 4 and np.ndim(source[1]) == 1:
        frames, sound = source[0], np.asarray(source[1])
        seconds = sound.size / max(int(source[2]), 1)
        times = (np.arange(len(frames)) + 0.5) * (seconds / max(len(frames), 1))
        clip = Clip(frames, times, sound, int(source[2]))
        if not len(clip) or len(clip) < _MOTION_RATE * seconds:
            return clip
        return replace(clip, motion_frames=small_copies(clip.frames), motion_times=clip.times)
    raise UsageError(
        "a method takes a path, a Clip, or (frames, audio, sample_rate); "
        f"found {type(source).__name__}" + (f" of {len(source)}" if isinstance(source, tuple | list) else "")
    )
