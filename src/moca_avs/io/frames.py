"""Images of a video: decoded in order, upright, each with its time; sampled at a rate or all of them.

What a file holds, without reading it all.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from moca_avs.errors import MediaError
from moca_avs.io.open import MediaInfo, audio_stream, decode_stream, open_media, start_time, video_stream

# Containers round time stamps, Matroska to 1 ms: a frame this much late still counts as shown. Seconds.
TOLERANCE = 0.6e-3
# Where a seek lands after the wanted time, it is tried again from this much earlier; then from the start.
_SEEK_BACK = (0.0, 10.0)

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""An image in yuv420p, BT.709, limited range: Y uint8 [H, W], U and V uint8 [ceil(H / 2), ceil(W / 2)]."""


@dataclass(frozen=True, eq=False)
class Shown:
    """One decoded frame: from `time` on for `duration` (both seconds after the file's zero)."""

    time: float
    duration: float
    raw: Any


class ToRGB:
    """Turns decoded frames into upright uint8 [H, W, 3]; all get the size of the first."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None
        self._last: tuple[Any, np.ndarray] | None = None

    def __call__(self, frame: Any) -> np.ndarray:
        """uint8 [H, W, 3]; a frame shown several times is converted once."""
        if self._last is not None and self._last[0] is frame:
            return self._last[1]
        if self._size is None:
            self._size = (frame.width, frame.height)
        width, height = self._size
        rgb = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
        upright = turned_upright(rgb.to_ndarray(), display_matrix(frame))
        self._last = (frame, upright)
        return upright


class ToPlanes:
    """Turns decoded frames into upright `Planes`; all get the size of the first.

    The planes may be the decoder's own memory, which later frames are predicted from: never write to them.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: Any) -> Planes:
        """Views where the frame is such an image already, else converted."""
        if self._size is None:
            self._size = (frame.width, frame.height)
        width, height = self._size
        converted = to_bt709(self._reformatter, frame, width, height)
        matrix = display_matrix(frame)
        y, u, v = (_turned(plane, matrix) for plane in planes_of(converted))
        return y, u, v


def fitted_size(height: int, width: int, longer: int, shorter: int = 1) -> tuple[int, int]:
    """Height and width whose longer side is `longer`, and whose shorter side is at least `shorter`."""
    scale = longer / max(height, width)
    return max(round(height * scale), shorter), max(round(width * scale), shorter)


class ToGray:
    """Turns decoded frames into small upright gray uint8 [h, w]; all get the size of the first.

    Args:
        longer: pixels of the longer side.
        shorter: pixels that the shorter side has at least.
    """

    def __init__(self, longer: int, shorter: int = 1) -> None:
        self._reformatter = VideoReformatter()
        self._sides = longer, shorter
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: Any) -> np.ndarray:
        """uint8 [h, w], 0 black and 255 white; each pixel about the mean of its area."""
        if self._size is None:
            # Once: a frame that was asked for its matrix stays in memory until Python looks for cycles.
            self._matrix = display_matrix(frame)
            self._size = fitted_size(frame.height, frame.width, *self._sides)
        height, width = self._size
        gray = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="gray",
            interpolation=Interpolation.AREA,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        return turned_upright(gray.to_ndarray(), self._matrix)


def to_bt709(reformatter: VideoReformatter, frame: Any, width: int, height: int) -> Any:
    """The frame in yuv420p, BT.709, limited range; itself where it is that already."""
    return reformatter.reformat(
        frame,
        width=width,
        height=height,
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        threads=1,
    )


def planes_of(frame: Any) -> Planes:
    """Views into the memory of a yuv420p frame, without what pads its lines."""
    y, u, v = (
        # Where lines are stored from the bottom up, their distance is negative.
        np.frombuffer(plane, np.uint8).reshape(-1, abs(plane.line_size))[
            :: -1 if plane.line_size < 0 else 1, : plane.width
        ]
        for plane in frame.planes
    )
    return y, u, v


def display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """(a, b, c, d) of the display matrix: a pixel (x, y) is shown at (ax + cy, bx + dy)."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32)[:9]
    return int(a), int(b), int(c), int(d)


def turned_upright(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Turn and mirror [H, W, 3] as the display matrix says (to the nearest quarter turn)."""
    return np.ascontiguousarray(_turned(image, matrix))


def _turned(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """A view of [H, W, ...], upright."""
    a, b, c, d = matrix
    if abs(a) + abs(d) < abs(b) + abs(c):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def shown_frames(path: str | Path, start: float = 0.0) -> Iterator[Shown]:
    """Every frame in order, from the one on screen at `start` (seconds) or earlier on.

    Damaged packets are skipped with one `MediaWarning` at the end.

    Raises:
        MediaError: without a video track, or where not one frame can be decoded.
    """
    for back in _SEEK_BACK if start > 0 else ():
        frames = _decoded(Path(path), start - back)
        first = next(frames, None)
        if first is not None and first.time <= start + TOLERANCE:
            yield first
            yield from frames
            return
        frames.close()
    yield from _decoded(Path(path), None)


def _decoded(path: Path, seek: float | None) -> Generator[Shown, None, None]:
    """Frames from the start, or from the key frame before `seek`; nothing where seeking can't be trusted."""
    with open_media(path) as container:
        stream = video_stream(container)
        if stream is None:
            raise MediaError(_no_video(path, container))
        # Frame threads can hang in the workers of a torch DataLoader (PyAV issue 1962).
        stream.thread_type = "SLICE" if multiprocessing.parent_process() else "AUTO"
        zero = start_time(container)
        if seek is not None:
            if stream.start_time is None:  # raw streams: time stamps after a seek are made up
                return
            try:
                container.seek(int((Fraction(max(seek, 0.0)) + zero) / stream.time_base), stream=stream)
            except av.error.FFmpegError:
                return
        any_frame = False
        for shown in _timed(path, container, stream, zero, seek is not None):
            any_frame = True
            yield shown
        if not any_frame and seek is None:
            raise MediaError(f"{path} has a video track, but not one frame of it can be decoded")


def _no_video(path: Path, container: Any) -> str:
    if container.streams.audio:
        return f"{path} has sound but no video; give an image to go with it (--image IMAGE --sound {path})"
    return f"{path} has no video track that can be decoded"


def _timed(path: Path, container: Any, stream: Any, zero: Fraction, need_stamps: bool) -> Iterator[Shown]:
    """Give each frame a time after the one before it, whatever its stamps say."""
    usual = float(1 / stream.average_rate) if stream.average_rate else 0.04
    last = None
    for frame in decode_stream(path, container, stream):
        if frame.pts is None and need_stamps and last is None:
            return
        stamp = None if frame.pts is None else float(frame.pts * stream.time_base - zero)
        if stamp is None or (last is not None and stamp <= last):
            stamp = 0.0 if last is None else last + usual
        length = float(frame.duration * stream.time_base) if frame.duration else usual
        last = stamp
        yield Shown(stamp, length, frame)


def sampled(
    frames: Iterator[Shown], fps: float, start: float, end: float, phase: float = 0.0
) -> Iterator[Shown]:
    """The frame on screen at start + (k + phase) / fps, for every k until `end` or the video's own end.

    Where the first frame comes late, it stands for the times before it. Where the last interval, cut short by
    the end, does not reach its moment, its last frame is taken, at that frame's time.
    """
    step = 0
    held: Shown | None = None
    stop = end
    for shown in frames:
        while held is not None and shown.time > (due := start + (step + phase) / fps) + TOLERANCE:
            if due >= end - TOLERANCE:
                break
            yield Shown(due, 1 / fps, held.raw)
            step += 1
        if held is not None and shown.time >= end - TOLERANCE:
            break
        held = shown
    else:
        if held is None:
            return
        stop = min(end, held.time + max(held.duration, 2 * TOLERANCE))
    while (begin := start + step / fps) < stop - TOLERANCE:
        due = start + (step + phase) / fps
        yield Shown(due if due < stop - TOLERANCE else max(begin, held.time), 1 / fps, held.raw)
        step += 1


def native(frames: Iterator[Shown], start: float, end: float) -> Generator[Shown, None, None]:
    """Every frame that begins in [start, end)."""
    for shown in frames:
        if shown.time >= end - TOLERANCE:
            return
        if shown.time >= start - TOLERANCE:
            yield shown


def probe(path: str | Path) -> MediaInfo:
    """Look at the header, the first frame and the first samples of a video or sound.

    Raises:
        MediaError: missing, empty or unreadable file.
    """
    with open_media(path) as container:
        video, sound = video_stream(container), audio_stream(container)
        fps = float(video.average_rate or video.guessed_rate or 0) if video is not None else 0.0
        video_index, sound_index = (None if s is None else s.index for s in (video, sound))
        # Raw streams have no header: FFmpeg guesses their length from the bit rate, often wrongly.
        known = container.duration is not None and container.start_time is not None
        duration = container.duration / av.time_base if known else None
    image = None if video_index is None else _first(path, video_index)
    samples = None if sound_index is None else _first(path, sound_index)
    width, height = (0, 0) if image is None else (image.width, image.height)
    if image is not None:
        a, b, c, d = display_matrix(image)
        if abs(a) + abs(d) < abs(b) + abs(c):
            width, height = height, width
    return MediaInfo(
        duration=_counted(path) if duration is None else duration,
        width=width,
        height=height,
        fps=0.0 if image is None else fps,
        has_video=image is not None,
        has_sound=samples is not None,
        rate=0 if samples is None else samples.sample_rate,
        channels=0 if samples is None else samples.layout.nb_channels,
    )


def _first(path: str | Path, index: int) -> Any | None:
    """The first frame of a track that can be decoded; None without one."""
    with open_media(path) as container:
        return next(decode_stream(Path(path), container, container.streams[index]), None)


def _counted(path: str | Path) -> float:
    """The end of the last packet, in seconds after the file's zero."""
    end = Fraction(0)
    with open_media(path) as container:
        zero = start_time(container)
        tracks = [s for s in (video_stream(container), audio_stream(container)) if s is not None]
        for packet in container.demux(*tracks):
            if packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base - zero)
    return float(end)
