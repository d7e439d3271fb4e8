"""H.264 videos in MP4 that every browser plays."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from moca_avs.errors import MediaError
from moca_avs.io.audio_tracks import EncodedAudio
from moca_avs.io.frames import Planes, planes_of, to_bt709
from moca_avs.io.open import ffmpeg_path
from moca_avs.utils.files import atomic_write, unwritable_error

_QUALITY = {"crf": "20", "preset": "veryfast"}
# Of what makes veryfast small, looking ahead pays for its time; finer motion, more shapes of block and
# arithmetic coding don't: without them an image takes 0.42 to 0.56 of the time and 1.15 to 1.3 of the bytes.
_QUICK = _QUALITY | {"x264-params": "subme=0:me=dia:chroma-me=0:partitions=i4x4:8x8dct=0:cabac=0"}
# Threads cost 5 % more time in all; two cores, which the models keep busy, write small images without.
_SMALL, _FEW_CORES, _MOST_THREADS = 1280 * 720, 2, 8
# Above this many pixels the encoder looks at one frame at a time: dozens of them would not fit in memory.
_LARGE = 4096 * 2304
_LARGE_QUALITY = {"crf": "20", "preset": "ultrafast", "tune": "zerolatency", "threads": "2"}
_BT709 = 1  # the number of BT.709 in H.264's tables of color spaces, primaries and transfer curves
_FRAME_DURATION = 1 << 8  # AV_CODEC_FLAG_FRAME_DURATION: the last frame lasts as long as it says
_FINE = Fraction(1, 90000)
_LAST_FRAME = 0.04


@contextmanager
def mp4(path: Path) -> Iterator[Any]:
    """An MP4 to mux into, its index in front (+faststart); at `path` only once it is whole.

    Raises:
        MediaError: where `path` can't be written, or the disk is full.
    """
    with atomic_write(path) as partial:
        try:
            with av.open(
                ffmpeg_path(partial), "w", format="mp4", options={"movflags": "faststart"}
            ) as container:
                yield container
        except av.error.FFmpegError as error:
            raise unwritable_error(path, error) from error


class VideoTrack:
    """The image track of an MP4: H.264 yuv420p; odd sizes get one more row or column (the last, repeated).

    Args:
        container: an MP4 opened for writing.
        height: of the images.
        width: of the images.
        rate: usual frames per second; frames come with their own times all the same.
        time_base: unit of the time stamps in seconds, best the source's own, so that they stay exact.
        quick: spend little time on each image, for somewhat more bytes.
        pixel_aspect: width / height of a pixel, told to players.
    """

    def __init__(
        self,
        container: Any,
        height: int,
        width: int,
        rate: Fraction,
        time_base: Fraction,
        quick: bool = False,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        self._mux = container.mux
        self._base = time_base
        self._pad = ((0, height % 2), (0, width % 2), (0, 0))
        self._shape = (height, width, 3)
        self._reformatter = VideoReformatter()
        self._last = -1
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base
        context = stream.codec_context
        if height * width > _LARGE:
            stream.options = _LARGE_QUALITY
        elif quick:
            stream.options = _QUICK | {"threads": str(_threads(height * width))}
            context.thread_type = "FRAME"
        else:
            stream.options = _QUALITY
        context.flags |= _FRAME_DURATION
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG
        if pixel_aspect != 1:
            context.sample_aspect_ratio = pixel_aspect
        self.stream = stream

    def add(self, image: np.ndarray, time: float, duration: float) -> None:
        """Write uint8 [H, W, 3], shown from `time` on for `duration` (seconds)."""
        if image.shape != self._shape or image.dtype != np.uint8:
            raise MediaError(
                f"frames must all be uint8 {list(self._shape)}, found {image.dtype} {list(image.shape)}"
            )
        padded = np.pad(image, self._pad, mode="edge") if any(map(sum, self._pad)) else image
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        self._encode(to_bt709(self._reformatter, rgb, rgb.width, rgb.height), time, duration)

    def add_planes(
        self, planes: Planes, time: float, duration: float, paint: Callable[[Planes], None] | None = None
    ) -> None:
        """Write an image that is yuv420p already; `paint` draws on a copy of it, padded."""
        if planes[0].shape != self._shape[:2]:
            raise MediaError(
                f"frames must all have the size {list(self._shape[:2])}, found {list(planes[0].shape)}"
            )
        frame = av.VideoFrame(self.stream.width, self.stream.height, "yuv420p")
        copies = planes_of(frame)
        for copy, plane in zip(copies, planes, strict=True):
            height, width = plane.shape
            copy[:height, :width] = plane
            copy[height:, :width] = plane[-1:]
            copy[:, width:] = copy[:, width - 1 : width]
        if paint is not None:
            paint(copies)
        self._encode(frame, time, duration)

    def _encode(self, frame: Any, time: float, duration: float) -> None:
        # Stamps must rise even where the source's clock was too coarse for its frames.
        frame.pts = self._last = max(round(time / self._base), self._last + 1)
        frame.time_base = self._base
        frame.duration = max(round(duration / self._base), 1)
        self._mux(self.stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds back."""
        self._mux(self.stream.encode(None))


def _threads(pixels: int) -> int:
    cores = os.cpu_count() or 1
    return 1 if cores <= _FEW_CORES and pixels <= _SMALL else min(cores, _MOST_THREADS)


def usual_rate(seconds_per_frame: float) -> Fraction:
    """A frame rate H.264 can state, for a usual distance between frames."""
    return Fraction(1 / min(max(seconds_per_frame, 1e-3), 1e3)).limit_denominator(1001)


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    times: np.ndarray,
    sound: np.ndarray | None = None,
    rate: int | None = None,
) -> Path:
    """Write frames at their own times as H.264, with a sound (from time zero on) as AAC.

    Args:
        path: an ``.mp4``; replaced whole or not at all.
        frames: T images uint8 [H, W, 3] of one size, at least one.
        times: float64 [T] seconds, increasing. The last frame lasts as long as the one before it.
        sound: float32 [N] mono or [C, N]; None or no samples: no sound track.
        rate: of `sound`, in Hz.

    Raises:
        MediaError: no frames, sizes or counts that don't fit, or a place that can't be written.
    """
    times = np.asarray(times, np.float64)
    if times.ndim != 1 or len(times) == 0 or (np.diff(times) <= 0).any() or times[0] < 0:
        raise MediaError(f"a video needs increasing times [T >= 1] from 0 s on, found {times[:5]} ...")
    lengths = np.append(np.diff(times), times[-1] - times[-2] if len(times) > 1 else _LAST_FRAME)
    with mp4(Path(path)) as container:
        track, heard = None, None
        count = 0
        for count, image in enumerate(frames, start=1):
            if count > len(times):
                break
            time, length = float(times[count - 1]), float(lengths[count - 1])
            if track is None:
                usual = usual_rate(float(np.median(lengths)))
                track = VideoTrack(container, image.shape[0], image.shape[1], usual, _FINE)
                heard = _given_sound(container, sound, rate)
            track.add(image, time, length)
            if heard is not None:
                heard.feed(time)
        if track is None or count != len(times):
            raise MediaError(f"expected a frame for each of the {len(times)} times, found {count} frames")
        track.finish()
        if heard is not None:
            heard.feed(math.inf)
    return Path(path)


def _given_sound(container: Any, sound: np.ndarray | None, rate: int | None) -> EncodedAudio | None:
    if sound is None or sound.size == 0:
        return None
    if rate is None or rate <= 0:
        raise MediaError(f"a sound needs its rate in Hz, found {rate}")
    planes = np.atleast_2d(np.asarray(sound, np.float32))
    return EncodedAudio(container, iter([planes]), rate, len(planes))
