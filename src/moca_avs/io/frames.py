"""Images of a video: decoded in order, upright, each with its time.

What a file holds, without reading it all.
"""

from __future__ import annotations

import multiprocessing
from collections import defaultdict, deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from moca_avs.errors import MediaError
from moca_avs.io.clock import Clock
from moca_avs.io.color import DeepConverter, is_deep, is_guessed, is_hdr, scaled
from moca_avs.io.deinterlacing import Deinterlacer
from moca_avs.io.open import (
    MP4,
    MediaInfo,
    audio_stream,
    decode_stream,
    frame_rate,
    open_media,
    other_tracks,
    pixel_aspect,
    start_time,
    stated_length,
    video_stream,
    warn_media,
)

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
    """Turns decoded frames into upright uint8 [H, W, 3]; all get the size of the first.

    Args:
        aspect: width / height of the frames' pixels, to be made square; 1 keeps the coded size.
    """

    def __init__(self, aspect: Fraction = Fraction(1)) -> None:
        self._reformatter, self._deep, self._aspect = VideoReformatter(), DeepConverter(), aspect
        self._size: tuple[int, int] | None = None
        self._last: tuple[Any, np.ndarray] | None = None

    def __call__(self, frame: Any) -> np.ndarray:
        """uint8 [H, W, 3]; a frame shown several times is converted once."""
        if self._last is not None and self._last[0] is frame:
            return self._last[1]
        if self._size is None:
            # Once: a frame that was asked for its matrix stays in memory until Python looks for cycles.
            self._size, self._matrix = squared_size(frame, self._aspect), display_matrix(frame)
        width, height = self._size
        if is_deep(frame):
            rgb = self._deep(frame, width, height, "rgb24")
        else:
            rgb = scaled(self._reformatter, frame, width=width, height=height, format="rgb24")
        upright = turned_upright(rgb.to_ndarray(), self._matrix)
        self._last = (frame, upright)
        return upright


class ToPlanes:
    """Turns decoded frames into upright `Planes`; all get the size of the first.

    The planes may be the decoder's own memory, which later frames are predicted from: never write to them.

    Args:
        aspect: width / height of the frames' pixels, to be made square; 1 keeps the coded size.

    Attributes:
        turned: whether the first frame's rows have become columns.
    """

    def __init__(self, aspect: Fraction = Fraction(1)) -> None:
        self._reformatter, self._deep, self._aspect = VideoReformatter(), DeepConverter(), aspect
        self._size: tuple[int, int] | None = None
        self.turned = False

    def __call__(self, frame: Any) -> Planes:
        """Views where the frame is such an image already, else converted."""
        if self._size is None:  # once, as `ToRGB`
            self._size, self._matrix = squared_size(frame, self._aspect), display_matrix(frame)
            self.turned = is_turned(self._matrix)
        width, height = self._size
        if is_hdr(frame):
            converted = self._deep(frame, width, height, "yuv420p")
        else:
            converted = to_bt709(self._reformatter, frame, width, height)
        y, u, v = (_turned(plane, self._matrix) for plane in planes_of(converted))
        return y, u, v


def squared_size(frame: Any, aspect: Fraction) -> tuple[int, int]:
    """Width and height of a decoded frame once its pixels, of this width / height, are square."""
    return max(round(frame.width * aspect), 1), frame.height


def fitted_size(height: int, width: int, longer: int, shorter: int = 1) -> tuple[int, int]:
    """Height and width whose longer side is `longer`, and whose shorter side is at least `shorter`."""
    scale = longer / max(height, width)
    return max(round(height * scale), shorter), max(round(width * scale), shorter)


class ToGray:
    """Turns decoded frames into small upright gray uint8 [h, w]; all get the size of the first.

    Args:
        longer: pixels of the longer side.
        shorter: pixels that the shorter side has at least.
        aspect: width / height of the frames' pixels, to be made square; 1 keeps the coded size's proportions.
    """

    def __init__(self, longer: int, shorter: int = 1, aspect: Fraction = Fraction(1)) -> None:
        self._reformatter, self._deep, self._aspect = VideoReformatter(), DeepConverter(), aspect
        self._sides = longer, shorter
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: Any) -> np.ndarray:
        """uint8 [h, w], 0 black and 255 white; each pixel about the mean of its area."""
        if self._size is None:
            self._matrix = display_matrix(frame)  # once, as `ToRGB`
            full_width, full_height = squared_size(frame, self._aspect)
            self._size = fitted_size(full_height, full_width, *self._sides)
        height, width = self._size
        if is_hdr(frame):
            gray = self._deep(frame, width, height, "gray", "area")
            return turned_upright(gray.to_ndarray(), self._matrix)
        gray = scaled(
            self._reformatter,
            frame,
            width=width,
            height=height,
            format="gray",
            interpolation=Interpolation.AREA,
            dst_color_range=ColorRange.JPEG,
        )
        return turned_upright(gray.to_ndarray(), self._matrix)


def to_bt709(reformatter: VideoReformatter, frame: Any, width: int, height: int) -> Any:
    """The frame in yuv420p, BT.709, limited range; itself where it is that already."""
    return scaled(
        reformatter,
        frame,
        width=width,
        height=height,
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
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


def is_turned(matrix: tuple[int, int, int, int]) -> bool:
    """Whether a display matrix makes columns of rows."""
    a, b, c, d = matrix
    return abs(a) + abs(d) < abs(b) + abs(c)


def _turned(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """A view of [H, W, ...], upright; of a copy where rows become columns."""
    a, b, c, d = matrix
    if is_turned(matrix):
        import cv2

        # In NumPy, copying columns to rows takes five times as long: as long as converting the frame.
        image, a, d = cv2.transpose(image), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def shown_frames(path: str | Path, start: float = 0.0) -> Iterator[Shown]:
    """Every frame in order, from the one on screen at `start` (seconds) or earlier on.

    Interlaced frames are deinterlaced. A `MediaWarning` tells of that, of other video tracks that are left
    out, of damaged packets that are skipped, and of gaps in the time stamps that are cut
    (`moca_avs.io.clock`).

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
        others = other_tracks(container, stream)
        if others:
            warn_media(
                f"{path} has {others + 1} video tracks; only track {stream.index}, "
                f"{stream.width}x{stream.height}, is looked at"
            )
        any_frame = False
        timed = _timed(path, container, stream, zero, seek is not None)
        for shown in _deinterlaced(path, timed, seek is not None):
            if not any_frame and is_guessed(shown.raw):
                warn_media(
                    f"{path}: its color matrix (number {shown.raw.colorspace} of ITU-T H.273) can't be "
                    "converted; its colors are guessed"
                )
            any_frame = True
            yield shown
        if not any_frame and seek is None:
            raise MediaError(f"{path} has a video track, but not one frame of it can be decoded")


def _no_video(path: Path, container: Any) -> str:
    if container.streams.audio:
        return f"{path} has sound but no video; give an image to go with it (--image IMAGE --sound {path})"
    return f"{path} has no video track that can be decoded"


def _timed(path: Path, container: Any, stream: Any, zero: Fraction, sought: bool) -> Iterator[Shown]:
    """Give each frame a time after the one before it, whatever its stamps say."""
    rate = frame_rate(stream)
    usual = float(1 / rate) if rate else 0.04
    clock = Clock(usual, stated_length(container), sought, timed=container.format.name == MP4)
    first = True
    for frame in decode_stream(path, container, stream):
        if frame.pts is None and sought and first:
            return
        first = False
        time = clock.time(None if frame.pts is None else float(frame.pts * stream.time_base - zero))
        length = clock.length(float(frame.duration * stream.time_base) if frame.duration else 0.0)
        yield Shown(time, length, frame)
    if clock.jumps:
        warn_media(
            f"{path}: its time stamps jump {clock.jumps} times, by up to {clock.longest:.0f} s; "
            "these gaps are cut"
        )


def _deinterlaced(path: Path, frames: Iterator[Shown], sought: bool) -> Iterator[Shown]:
    """Pass frames on, interlaced ones without combs."""
    deinterlace = Deinterlacer()
    waiting: deque[Shown] = deque()
    first, told = True, False
    for shown in chain(frames, [None]):
        if shown is not None:
            waiting.append(shown)
        for raw in deinterlace(None if shown is None else shown.raw):
            one = waiting.popleft()
            changed = raw is not one.raw
            if changed and not told:
                told = True
                warn_media(f"{path} is interlaced; its frames are deinterlaced")
            # After a seek the frame before the first one is not known, so that it would look different.
            if not (first and sought and changed):
                yield replace(one, raw=raw)
            first = False


def coded_aspect(path: str | Path) -> Fraction:
    """Width / height of the pixels of a video's image as coded, not turned upright; 1 if unknown."""
    with open_media(path) as container:
        stream = video_stream(container)
        if stream is None or next(decode_stream(Path(path), container, stream), None) is None:
            return Fraction(1)
        return pixel_aspect(stream)


def probe(path: str | Path) -> MediaInfo:
    """Look at the header, the first frame and the first samples of a video or sound.

    Raises:
        MediaError: missing, empty or unreadable file.
    """
    with open_media(path) as container:
        video, sound = video_stream(container), audio_stream(container)
        fps = 0.0 if video is None else float(frame_rate(video) or 0)
        video_index, sound_index = (None if s is None else s.index for s in (video, sound))
        # Raw streams have no header: FFmpeg guesses their length from the bit rate, often wrongly.
        known = container.duration is not None and container.start_time is not None
        duration = container.duration / av.time_base if known else None
    image = None if video_index is None else _first(path, video_index)
    samples = None if sound_index is None else _first(path, sound_index)
    width, height = (0, 0) if image is None else (image.width, image.height)
    aspect = Fraction(1) if image is None else coded_aspect(path)
    if image is not None and is_turned(display_matrix(image)):
        width, height, aspect = height, width, 1 / aspect
    return MediaInfo(
        duration=_counted(path) if duration is None else duration,
        width=width,
        height=height,
        fps=0.0 if image is None else fps,
        has_video=image is not None,
        has_sound=samples is not None,
        rate=0 if samples is None else samples.sample_rate,
        channels=0 if samples is None else samples.layout.nb_channels,
        pixel_aspect=aspect,
    )


def _first(path: str | Path, index: int) -> Any | None:
    """The first frame of a track that can be decoded; None without one."""
    with open_media(path) as container:
        return next(decode_stream(Path(path), container, container.streams[index]), None)


def _counted(path: str | Path) -> float:
    """The end of the last packet, in seconds after the file's zero."""
    end, follows = Fraction(0), defaultdict[int, Fraction](Fraction)
    with open_media(path) as container:
        zero = start_time(container)
        tracks = [s for s in (video_stream(container), audio_stream(container)) if s is not None]
        # A damaged file may end, or come upon a track of which its header knew nothing.
        with suppress(av.error.FFmpegError, IndexError):
            for packet in container.demux(*tracks):
                length = (packet.duration or 0) * packet.time_base
                if packet.pts is not None:
                    end = max(end, packet.pts * packet.time_base + length - zero)
                elif packet.size:  # raw streams have no time stamps: packets follow each other
                    if not length and packet.stream.type == "video":
                        length = 1 / (frame_rate(packet.stream) or Fraction(25))
                    follows[packet.stream.index] += length
                    end = max(end, follows[packet.stream.index])
    return float(end)
