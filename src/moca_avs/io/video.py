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
from moca_avs.io.audio import AudioSurvey, AudioWindows, survey
from moca_avs.io.frames import Shown, ToRGB, coded_aspect, shown_frames
from moca_avs.io.image import read_image
from moca_avs.io.motion_frames import MotionFrames, small_copies
from moca_avs.io.open import MATROSKA, MP4, open_media, start_time, warn_media
from moca_avs.io.sampling import native, sampled
from moca_avs.io.sound_track import NoAudioError

# A chunk holds at most this many bytes of frames, however large they are (but at least one frame).
_CHUNK_BYTES = 2**28
# Files whose header states the true length: ending this many seconds before it means that they were cut off.
_LENGTH_IN_HEADER = {MP4, MATROSKA, "avi"}
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
    audio_track: int | None = None,
    square_pixels: bool = False,
) -> Clip:
    """Read a stretch of a video into memory.

    Time zero is the beginning of the file's image or sound, whichever comes first; that of the image where
    the sound ends more than a minute before it.

    Args:
        path: any video FFmpeg reads.
        fps: the frame on screen at start + (k + phase) / fps for each k (their `times`), or "native": every
            frame that begins in the stretch.
        start: seconds.
        end: seconds; None means the video's end.
        sound: a file whose sound takes the place of the video's own.
        margin: seconds of sound to keep before `start` and after `end`.
        phase: where in its interval of 1 / fps a frame is looked at: 0 its beginning, 0.5 its middle; below
            1. An interval that the end cuts short is looked at no later than its last frame.
        audio_track: which of several sound tracks is heard, counted from 0; None: the one FFmpeg prefers.
        square_pixels: make the frames as wide as players show them, where the file says that its pixels are
            not square. Otherwise frames (and so masks) have the size in which the image is coded.

    Returns:
        A clip with the sound of [start - margin, end + margin); no samples where there is no sound track;
        `noise_floor` measured over the whole recording; `motion_frames` of the video around each frame.
        Several channels are mixed as `moca_avs.io.downmix` says. Sound that begins only after the image has
        ended is left out.

    Raises:
        MediaError: missing or unreadable file, no video track, no frame in the stretch, NaN samples, no such
            sound track.
        UsageError: rates or times that make no sense.
    """
    check_stretch(fps, start, end, margin, phase=phase, audio_track=audio_track)
    last = math.inf if end is None else end
    with _source(path, sound, audio_track) as source:
        moving, chosen = _frames(path, fps, start, last, source.heard, phase, square_pixels)
        images = list(chosen)
        if not images:
            raise MediaError(f"{path} has no frame in {start:g} to {last:g} s; choose an earlier stretch")
        times, frames = zip(*images, strict=True)
        picture_end = times[-1] + (0.0 if isinstance(fps, str) else 1 / fps)
        return source.clip(times, frames, start - margin, last + margin, moving, picture_end)


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
    audio_track: int | None = None,
    square_pixels: bool = False,
    skip: int = 0,
) -> Iterator[Clip]:
    """The frames of `read_clip` as clips of at most `chunk_frames` frames, in bounded memory.

    Each clip carries the sound from `margin` seconds before its first frame to `margin` seconds after its
    last one (`sound_start` says where it begins), so windows of up to twice `margin` seconds are whole, and
    the `motion_frames` around its frames. Fewer frames share a clip where they are very large (256 MiB a
    clip; as many are held back while the seconds after them are read, so `motion_frames` may reach less far).
    Each clip holds up to `context` frames more before and after those, where there are any; `Clip.core` says
    which are its own. The first `skip` frames are nobody's own: the rest of a video whose reading was
    interrupted.

    Raises:
        MediaError, UsageError: as `read_clip`, once the first clip is asked for.
    """
    check_stretch(fps, start, end, margin, chunk_frames, phase, audio_track)
    last = math.inf if end is None else end
    with _source(path, sound, audio_track) as source:
        before = min(skip, context)
        moving, chosen = _frames(path, fps, start, last, source.heard, phase, square_pixels, skip - before)
        yield from source.clips(chosen, chunk_frames, margin, moving, context, before)


def clip_from_pair(
    image_path: str | Path, sound_path: str | Path, fps: float = 1.0, audio_track: int | None = None
) -> Clip:
    """An image shown for as long as a sound lasts, at least once; the frames share one image's memory.

    Raises:
        MediaError: either file missing or unreadable, NaN samples.
    """
    check_stretch(fps, 0.0, None, 0.0, audio_track=audio_track)
    with _source(image_path, sound_path, audio_track) as source:
        times, frames = zip(*_still(image_path, fps, source.end), strict=True)
        return source.clip(times, frames[:1], 0.0, math.inf)


def stream_pair(
    image_path: str | Path,
    sound_path: str | Path,
    fps: float = 1.0,
    chunk_frames: int = 16,
    margin: float = 2.0,
    context: int = 0,
    audio_track: int | None = None,
    skip: int = 0,
) -> Iterator[Clip]:
    """`clip_from_pair` as clips of at most `chunk_frames` frames, in bounded memory; see `stream_clips`."""
    check_stretch(fps, 0.0, None, margin, chunk_frames, audio_track=audio_track)
    with _source(image_path, sound_path, audio_track) as source:
        before = min(skip, context)
        images = itertools.islice(_still(image_path, fps, source.end), skip - before, None)
        yield from source.clips(images, chunk_frames, margin, None, context, before)


def check_stretch(
    fps: float | str,
    start: float,
    end: float | None,
    margin: float,
    chunk_frames: int = 1,
    phase: float = 0.0,
    audio_track: int | None = None,
) -> None:
    """See that what is asked of a video makes sense; arguments as of `stream_clips`.

    Raises:
        UsageError: where it does not.
    """
    if fps != "native" and not (isinstance(fps, (int, float)) and 0 < fps < math.inf):
        raise UsageError(f'fps must be a positive number or "native", found {fps!r}')
    if not 0 <= start < math.inf:
        raise UsageError(f"start must be 0 s or more, found {start!r}")
    if not margin >= 0:
        raise UsageError(f"margin must be 0 s or more, found {margin!r}")
    if end is not None and not end > start:
        raise UsageError(f"end must be after start ({start:g} s), found {end!r}")
    if not 0 <= phase < 1:
        raise UsageError(f"phase must be 0 or more and below 1, found {phase!r}")
    if chunk_frames < 1:
        raise UsageError(f"chunk_frames must be 1 or more, found {chunk_frames}")
    if audio_track is not None and audio_track < 0:
        raise UsageError(f"audio_track must be 0 or more (the first sound track is 0), found {audio_track}")


@dataclass(frozen=True)
class _Source:
    """Where clips come from: the sound beside the frames, read forward as they come."""

    name: str
    windows: AudioWindows | None
    heard: AudioSurvey | None

    @property
    def end(self) -> float:
        """Of the sound, in seconds."""
        return 0.0 if self.heard is None else self.heard.seconds

    def clip(
        self,
        times: tuple[float, ...],
        frames: tuple[np.ndarray, ...],
        low: float,
        high: float,
        moving: MotionFrames | None = None,
        picture_end: float = math.inf,
    ) -> Clip:
        """One clip; a single image for several times is repeated without copying."""
        sound, sound_start = np.zeros(0, np.float32), 0.0
        if self.windows is not None:
            sound, sound_start = self.windows.between(low, high, picture_end)
        nothing = None, None, None
        motion_frames, motion_times, reach = nothing if moving is None else moving.around(np.array(times))
        return Clip(
            frames=np.stack(frames) if len(frames) == len(times) else _repeated(frames[0], len(times)),
            times=np.array(times, np.float64),
            sound=sound,
            sample_rate=_NO_SOUND_RATE if self.windows is None else self.windows.rate,
            source=self.name,
            sound_start=sound_start,
            noise_floor=None if self.heard is None else self.heard.noise_floor,
            loudest=None if self.heard is None else self.heard.loudest,
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
        known: int = 0,
    ) -> Iterator[Clip]:
        before = list(itertools.islice(images, known))
        coming = list(itertools.islice(images, 1))
        if not coming:
            raise MediaError(f"{self.name} has no frame in this stretch; choose an earlier one")
        size = max(1, min(chunk_frames, _CHUNK_BYTES // coming[0][1].nbytes))
        while coming := coming + list(itertools.islice(images, size + context - len(coming))):
            times, frames = zip(*before, *coming, strict=True)
            clip = self.clip(times, frames, times[0] - margin, times[-1] + margin, moving)
            first, count = len(before), min(size, len(coming))
            yield clip if context == 0 else replace(clip, core=slice(first, first + count))
            before = [*before, *coming[:count]][-context:] if context else []
            coming = coming[count:]


@contextmanager
def _source(path: str | Path, sound: str | Path | None, audio_track: int | None) -> Iterator[_Source]:
    """The video's own sound, or that of the file `sound`."""
    try:
        found = survey(path if sound is None else sound, audio_track)
    except NoAudioError:
        if sound is not None:
            raise
        yield _Source(str(path), None, None)
        return
    windows = AudioWindows(path if sound is None else sound, audio_track)
    try:
        yield _Source(str(path), windows, found)
    finally:
        windows.close()


def _frames(
    path: str | Path,
    fps: float | str,
    start: float,
    end: float,
    heard: AudioSurvey | None,
    phase: float,
    square_pixels: bool,
    skip: int = 0,
) -> tuple[MotionFrames, Frames]:
    """The looked-at frames, and what moves around them."""
    aspect = coded_aspect(path) if square_pixels else Fraction(1)
    moving = MotionFrames(shown_frames(path, max(start - MOTION_SECONDS, 0.0)), aspect)
    frames = _noting_end(path, moving.frames, heard)
    every = isinstance(fps, str)
    chosen = native(frames, start, end) if every else sampled(frames, float(fps), start, end, phase)
    convert = ToRGB(aspect)

    def images() -> Frames:
        for number, shown in enumerate(moving.held_back(chosen)):
            if number < skip:
                moving.forget(shown.time)
            else:
                yield shown.time, convert(shown.raw)

    return moving, images()


def _noting_end(path: str | Path, frames: Iterator[Shown], heard: AudioSurvey | None) -> Iterator[Shown]:
    """Pass frames on; warn where both image and sound stop long before the length the header states.

    And where the sound begins only after the image has ended.
    """
    image_end = 0.0
    for shown in frames:
        image_end = shown.time + shown.duration
        yield shown
    if heard is not None and heard.seconds > heard.start >= image_end:
        warn_media(
            f"{path}: its sound begins at {heard.start:.1f} s, its picture ends at {image_end:.1f} s; "
            "none of the sound is heard"
        )
    found = max(image_end, 0.0 if heard is None else heard.seconds)
    with open_media(path) as container:
        end = (container.start_time or 0) + (container.duration or 0)
        stated = end / av.time_base - float(start_time(container))
        trusted = container.format.name in _LENGTH_IN_HEADER and not (heard is not None and heard.jumps)
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
            sample_rate)``, or frames uint8 [T, H, W, 3] with the two arguments that follow. Frames and audio
            may be arrays, PyTorch tensors, or lists.
        audio: float [N] mono in [-1, 1]; N = 0 where there is no sound.
        sample_rate: of `audio`, in Hz.

    Returns:
        The clip; frames without times are spread evenly over the audio, each in the middle of its share (one
        a second where there is no audio). Frames given at 8 a second or more are its `motion_frames` too.

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
    if not (isinstance(source, tuple) and len(source) == 3 and _are_frames(source[0])):
        found = type(source).__name__ + (f" of {len(source)}" if isinstance(source, tuple | list) else "")
        alone = "; frames need their sound" if _are_frames(source) else ""
        raise UsageError(
            f"a method takes a path, a Clip, or (frames, audio, sample_rate); found {found}{alone}"
        )
    frames, sound, rate = source
    for name, value in (("audio", sound), ("sample_rate", rate)):
        if value is None:
            raise UsageError(
                f"a method takes a path, a Clip, or (frames, audio, sample_rate); found no {name} "
                "(for frames without sound give an audio of no samples)"
            )
    if isinstance(rate, int | float | np.number) and math.isfinite(rate):
        rate = int(rate)
    whole = Clip(frames, np.zeros(len(frames)), sound, rate)
    seconds = len(whole.sound) / rate if len(whole.sound) else float(len(whole))
    clip = replace(whole, times=(np.arange(len(whole)) + 0.5) * (seconds / max(len(whole), 1)))
    if not len(clip) or len(clip) < _MOTION_RATE * seconds:
        return clip
    return replace(clip, motion_frames=small_copies(clip.frames), motion_times=clip.times)


def _are_frames(given: Any) -> bool:
    """Whether it is meant as frames: an array, a tensor, or a list of arrays, tensors or Pillow images."""
    first = given[0] if isinstance(given, list) and given else given
    shape = getattr(first, "shape", None)
    return hasattr(first, "__array_interface__") if shape is None else len(shape) > 0
