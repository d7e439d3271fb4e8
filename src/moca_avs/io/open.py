"""Opening a video or sound with FFmpeg (PyAV), choosing its tracks, and saying clearly why that failed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from moca_avs.errors import MediaError
from moca_avs.io.clock import LONGEST_GAP

# FFmpeg would happily "play" a text file as a terminal recording.
_NOT_VIDEOS = {"tty"}
# They name other files, which FFmpeg would open: whoever wrote one could have any file here shown.
_PLAYLISTS = {"concat", "dash", "hls", "imf", "rtsp", "sdp", "webm_dash_manifest"}
_FORMATS = ",".join(sorted(av.formats_available - _PLAYLISTS))

VIDEO_SUFFIXES = (
    *(".3g2", ".3gp", ".asf", ".avi", ".f4v", ".flv", ".gif", ".m1v", ".m2ts", ".m4v", ".mkv", ".mov"),
    *(".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".rm", ".swf", ".ts", ".vob", ".webm", ".wmv"),
)
"""What counts as a video inside a folder. A file named outright is tried whatever it is called."""


class MediaWarning(UserWarning):
    """What should be known of a file that was read all the same: damaged or cut off, interlaced, ..."""


_NOTES: ContextVar[list[str] | None] = ContextVar("notes", default=None)


def warn_media(message: str) -> None:
    """Tell something of a file (`MediaWarning`), or tell whoever is `collect_warnings`."""
    notes = _NOTES.get()
    if notes is None:
        warnings.warn(message, MediaWarning, stacklevel=3)
    elif message not in notes:
        notes.append(message)


@contextmanager
def collect_warnings(notes: list[str]) -> Iterator[None]:
    """Collect what `MediaWarning`s would say, each once; unlike `warnings.catch_warnings`, across threads."""
    token = _NOTES.set(notes)
    try:
        yield
    finally:
        _NOTES.reset(token)


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds.

    Attributes:
        duration: seconds, by the file's own header (counted packet by packet where it has none).
        width: of the upright image, in pixels; 0 without video.
        height: of the upright image, in pixels; 0 without video.
        fps: average frames per second; 0 without video.
        has_video: whether there is a video track with at least one frame (a cover image is not a video).
        has_sound: whether there is a sound track with at least one sample.
        rate: of the sound, in Hz; 0 without sound.
        channels: of the sound; 0 without sound.
        pixel_aspect: width / height of the upright image's pixels; 1 where the file does not say.
    """

    duration: float
    width: int
    height: int
    fps: float
    has_video: bool
    has_sound: bool
    rate: int
    channels: int
    pixel_aspect: Fraction = Fraction(1)


def check_file(path: str | Path) -> Path:
    """The path of a file that is there and not empty; MediaError otherwise."""
    path = Path(path)
    if path.is_dir():
        raise MediaError(f"{path} is a folder; expected one video, sound or image file")
    if not path.exists():
        raise MediaError(f"{path} does not exist; check the spelling of the path")
    try:
        if path.stat().st_size == 0:
            raise MediaError(f"{path} is empty (0 bytes); get the file again")
        with path.open("rb"):
            pass
    except OSError as error:
        raise MediaError(f"{path} can't be opened: {error.strerror}; check its permissions") from error
    return path


def ffmpeg_path(path: Path) -> str:
    """The path as FFmpeg must see it: a colon or a dash in a file's name is never a protocol or a pipe."""
    return f"file:{path.absolute()}"


@contextmanager
def open_media(path: str | Path) -> Iterator[Any]:
    """Open `path` for reading: that file alone, nothing that a playlist may ask for."""
    path = check_file(path)
    try:
        container = av.open(
            ffmpeg_path(path),
            options={"protocol_whitelist": "file", "format_whitelist": _FORMATS},
            metadata_errors="replace",
        )
    except av.error.FFmpegError as error:
        raise MediaError(_unreadable(path, error)) from error
    with container:
        if container.format.name in _NOT_VIDEOS:
            raise MediaError(f"{path} is a text file; expected a video or a sound")
        yield container


def _unreadable(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return (
            f"{path} lacks the index (moov) of an MP4 file: the recording or download was cut off; "
            "get the whole file again"
        )
    if head.startswith((b"#EXTM3U", b"ffconcat")):
        return f"{path} is a playlist, which is not followed; give the videos that it names"
    reason = getattr(error, "strerror", None) or str(error)
    return f"{path} is not a video or sound that FFmpeg can read ({reason}); is it what its name says?"


def video_stream(container: Any) -> Any | None:
    """The video's image track; None without one.

    Of several it is the one that the file marks as default, else the largest, else the first. A cover image
    (mp3, m4a) or a thumbnail doesn't count.
    """
    return max(_image_tracks(container), key=_preference, default=None)


def other_tracks(container: Any, chosen: Any) -> int:
    """How many image tracks there are besides the chosen one."""
    return sum(track.index != chosen.index for track in _image_tracks(container))


def _image_tracks(container: Any) -> list[Any]:
    return [
        track
        for track in container.streams.video
        if track.codec_context is not None
        and not track.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)
    ]


def _preference(track: Any) -> tuple[bool, int]:
    context = track.codec_context
    return bool(track.disposition & Disposition.default), context.width * context.height


# Beyond this the header is damaged: no camera squeezes its image so much.
_WIDEST_PIXEL = 8


def pixel_aspect(stream: Any) -> Fraction:
    """Width / height of a track's pixels as coded: what the container says, else the codec; 1 if neither.

    Some codecs say it in their frames only: decode the first one before.
    """
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    return aspect if aspect and 1 / _WIDEST_PIXEL <= aspect <= _WIDEST_PIXEL else Fraction(1)


MP4, MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
"""FFmpeg's names of the containers whose header states a length of its own, whatever the time stamps say."""


def stated_length(container: Any) -> float:
    """The length that the header states, in seconds; 0 where there is none or FFmpeg estimates it."""
    if container.format.name not in (MP4, MATROSKA) or not container.duration:
        return 0.0
    return float(container.duration / av.time_base)


def audio_stream(container: Any, number: int | None = None) -> Any | None:
    """A sound track.

    Args:
        container: the open file.
        number: of the track among the file's sound tracks, from 0; None: the one that FFmpeg prefers, or the
            first where it can't be decoded.

    Returns:
        The track; None without a number and without a track that can be decoded.

    Raises:
        MediaError: without a track of this number, or where it can't be decoded.
    """
    tracks = container.streams.audio
    known = [track for track in tracks if track.codec_context is not None]
    if number is None:
        best = container.streams.best("audio")
        return best if best in known else next(iter(known), None)
    if not 0 <= number < len(tracks):
        held = f"{len(tracks)} ({', '.join(map(str, range(len(tracks))))})" if tracks else "none"
        raise MediaError(f"has no sound track {number}; it has {held}")
    if tracks[number] not in known:
        raise MediaError(f"has a sound track {number} whose codec FFmpeg does not know; choose another")
    return tracks[number]


def start_time(container: Any) -> Fraction:
    """Time of the file's zero in its own time stamps, in seconds.

    The earlier of image and sound; that of the image where the sound ends more than `LONGEST_GAP` before it:
    masks belong to images, and such stamps are mostly of two clocks that have nothing in common.
    """
    image, sound = video_stream(container), audio_stream(container)
    starts = [
        one.start_time * one.time_base
        for one in (image, sound)
        if one is not None and one.start_time is not None
    ]
    if len(starts) == 2 and sound is not None:
        # Where no length is known, FFmpeg knows the image's start only if there is little sound before it.
        sound_end = starts[1] + (sound.duration or 0) * sound.time_base
        if starts[0] > sound_end + Fraction(LONGEST_GAP):
            return starts[0]
    return min(starts, default=Fraction(0))


def frame_rate(stream: Any) -> Fraction | None:
    """Average frames per second of an image track; None if unknown.

    FFmpeg takes 25 for any raw stream (H.264, HEVC without a container): there it is what the codec says.
    """
    rates = stream.average_rate, stream.guessed_rate
    average, guessed = rates if stream.start_time is not None else rates[::-1]
    return average or guessed


def picture_times(path: Path) -> tuple[np.ndarray, float]:
    """When a video's images come, by its packets: nothing is decoded.

    Returns:
        float64 [P], seconds after the file's zero, rising, P = 0 without a video track; `stated_length`.
    """
    times: list[float] = []
    with open_media(path) as container:
        stream, zero = video_stream(container), start_time(container)
        packets = iter(()) if stream is None else container.demux(stream)
        # A damaged file may end, or come upon a track of which its header knew nothing.
        with suppress(av.error.FFmpegError, IndexError):
            times.extend(float(one.pts * one.time_base - zero) for one in packets if one.pts is not None)
        return np.sort(np.array(times)), stated_length(container)


def decode_stream(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """Frames of one track in order; damaged packets are skipped, with one `MediaWarning` at the end."""
    damaged = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:  # the file ends in the middle of something
            damaged += 1
            break
        except IndexError:  # PyAV's, at a packet of a track that appears in the middle of the file
            damaged += 1
            packets = container.demux(stream)  # goes on with the next packet
            continue
        if packet is None:
            break
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            damaged += 1
            continue
        damaged += sum(frame.is_corrupt for frame in frames)
        yield from frames
    if damaged:
        message = f"{path}: {damaged} damaged pieces of its {stream.type} track; the rest is kept"
        warn_media(message)


def is_visible_video(path: PurePath) -> bool:
    """Whether a path below a folder counts as one of the folder's videos."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not any(part.startswith(".") for part in path.parts)
