"""The result to look at: the source video with what sounds colored in, and its own sound."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from moca_avs.errors import MediaError
from moca_avs.io.audio import survey
from moca_avs.io.audio_tracks import source_audio
from moca_avs.io.frames import TOLERANCE, Planes, ToPlanes, coded_aspect, probe, shown_frames
from moca_avs.io.image import PlaneStencil, read_image
from moca_avs.io.open import VIDEO_SUFFIXES, frame_rate, open_media, video_stream
from moca_avs.io.sampling import native
from moca_avs.io.write_video import VideoTrack, mp4, usual_rate
from moca_avs.utils.profiler import record

if TYPE_CHECKING:
    from moca_avs.clip import Segmentation

_COARSEST = Fraction(1, 1000)  # a video's clock, in seconds; finer where its own is
_STILL_BASE = Fraction(1, 90000)


class OverlayWriter:
    """Writes ``overlay.mp4`` while masks come in: every source frame is shown with the latest mask.

    H.264 yuv420p with the index in front, the source's upright size (odd sizes padded to even), pixel aspect
    ratio, times and length; the sound is the source's own packets where MP4 can hold them (AAC, MP3, AC-3,
    E-AC-3, ALAC, FLAC, Opus), else AAC. Use it as a context manager: leaving it writes the rest of the video;
    leaving it by an error or Ctrl-C ends the video where the masks end.

    Args:
        path: where to write; there only once the block is left.
        source: the video (or the image, with `still_fps`).
        sound: a file whose sound takes the place of the video's own.
        start: of the stretch to show, in seconds.
        end: of the stretch, in seconds; None means the video's end.
        still_fps: `source` is an image, shown at this many frames a second for as long as `sound` lasts.
        interval: seconds for which each mask of a result stands, counted from `start` on, wherever in them
            its frame was looked at; None: a mask holds from its own time until the next one.
        audio_track: which of several sound tracks, counted from 0; None: the one FFmpeg prefers.
        square_pixels: the size is that of the source with its pixels made square (see
            `moca_avs.io.video.read_clip`).

    Raises:
        MediaError: a source that can't be read, a mask of another size, a place that can't be written.
    """

    def __init__(
        self,
        path: str | Path,
        source: str | Path,
        sound: str | Path | None = None,
        start: float = 0.0,
        end: float | None = None,
        still_fps: float | None = None,
        interval: float | None = None,
        audio_track: int | None = None,
        square_pixels: bool = False,
    ) -> None:
        self._path, self._source, self._sound = Path(path), Path(source), sound
        self._start, self._end = start, math.inf if end is None else end
        self._still_fps, self._interval = still_fps, interval
        self._audio_track = audio_track
        self._square_pixels = square_pixels
        self._stencil: PlaneStencil | None = None
        self._time = -math.inf

    def __enter__(self) -> OverlayWriter:
        if self._still_fps is None:
            rate, base = self._video_clock()
            aspect = coded_aspect(self._source)
            convert = ToPlanes(aspect if self._square_pixels else Fraction(1))
            images = _video_images(self._source, self._start, self._end, convert)
        else:
            rate, base = usual_rate(1 / self._still_fps), _STILL_BASE
            aspect, convert = Fraction(1), ToPlanes()
            images = self._still_images(self._still_fps, convert)
        self._images = images
        self._next = next(images, None)
        if self._next is None:
            raise MediaError(f"{self._source} has no frame in the stretch to show; choose an earlier one")
        self._size = self._next[2][0].shape
        with ExitStack() as stack:
            container = stack.enter_context(mp4(self._path))
            height, width = self._size
            if self._square_pixels:
                aspect = Fraction(1)
            elif convert.turned:
                aspect = 1 / aspect
            self._track = VideoTrack(container, height, width, rate, base, quick=True, pixel_aspect=aspect)
            heard = self._sound or self._source
            self._heard = source_audio(container, heard, self._start, self._end, self._audio_track)
            if self._heard is not None:
                stack.callback(self._heard.close)
            self._open = stack.pop_all()
        return self

    def _video_clock(self) -> tuple[Fraction, Fraction]:
        with open_media(self._source) as container:
            stream = video_stream(container)
            if stream is None:
                raise MediaError(f"{self._source} has no video track to draw on")
            rate = frame_rate(stream) or Fraction(25)
            return usual_rate(float(1 / rate)), min(stream.time_base, _COARSEST)

    def _still_images(self, fps: float, convert: ToPlanes) -> Iterator[tuple[float, float, Planes]]:
        if self._sound is None:
            raise MediaError(f"{self._source} is an image: it needs a sound to go with it")
        image = convert(av.VideoFrame.from_ndarray(read_image(self._source), format="rgb24"))
        seconds = survey(self._sound, self._audio_track).seconds
        for step in range(max(math.ceil(seconds * fps), 1)):
            yield step / fps, min(1 / fps, max(seconds - step / fps, 1e-3)), image

    def add(self, time: float, mask: np.ndarray) -> None:
        """The mask bool [H, W] that holds from `time` (seconds of the source), or its interval, on."""
        if self._interval is not None:
            number = math.floor((time - self._start + TOLERANCE) / self._interval)
            time = self._start + number * self._interval
        if mask.shape != self._size:
            raise MediaError(
                f"a mask must have its video's size {list(self._size)}, found {list(mask.shape)}"
            )
        if time <= self._time:
            raise MediaError(f"masks must come in time order, found {time:g} s after {self._time:g} s")
        self._write_until(time)
        self._stencil, self._time = PlaneStencil(mask), time

    def append(self, result: Segmentation) -> None:
        """Every mask of a result, in order."""
        with record("overlay"):
            for time, mask in zip(result.times, result.masks, strict=True):
                self.add(float(time), mask)

    def _write_until(self, time: float) -> None:
        """Write the source frames that begin before `time`, with the mask held now."""
        while self._next is not None and self._next[0] < time - TOLERANCE:
            shown, duration, image = self._next
            paint = None if self._stencil is None else self._stencil.paint
            self._track.add_planes(image, shown - self._start, duration, paint)
            if self._heard is not None:
                self._heard.feed(shown - self._start)
            self._next = next(self._images, None)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with record("overlay"), self._open:
            end = math.inf if kind is None else max(self._time, self._start) + 2 * TOLERANCE
            self._write_until(end)
            self._track.finish()
            if self._heard is not None:
                self._heard.feed(end - self._start)


def _video_images(
    source: Path, start: float, end: float, convert: ToPlanes
) -> Iterator[tuple[float, float, Planes]]:
    for shown in native(shown_frames(source, start), start, end, held=True):
        yield shown.time, min(shown.duration, end - shown.time), convert(shown.raw)


def overlay_writer(result: Segmentation, path: Path) -> OverlayWriter:
    """The writer of the overlay that ``moca segment`` gives for a result, from the result alone.

    Args:
        result: its ``settings["input"]`` names the source video, and which stretch of it was looked at. Where
            it does not say (a clip that was read in Python), the stretch is that of its times.
        path: where to write.

    Raises:
        MediaError: where the source is not known or not there.
    """
    given, times = result.settings.get("input", {}), result.times
    source, sound = given.get("source", ""), given.get("sound")
    if not source or not Path(source).is_file():
        raise MediaError(
            f"the overlay needs the video that the clip was read from, found {source or 'no path'!r}; give "
            "frames= (and sound=, sample_rate=) instead"
        )
    track = given.get("audio_track")
    if sound is not None and Path(source).suffix.lower() not in VIDEO_SUFFIXES:  # an image with a sound
        return OverlayWriter(path, source, sound, still_fps=float(given["fps"]), audio_track=track)
    start, end, gap = given.get("start", 0.0), given.get("end"), 1.0
    if len(times) > 1:
        gap = float(np.median(np.diff(times)))
    if "start" not in given and len(times):
        start = 0.0 if times[0] <= gap / 2 else float(times[0])
        end = None if times[-1] + gap >= probe(source).duration else float(times[-1]) + gap
    if given.get("limit") is not None and len(times):
        native = given["fps"] == "native"
        stop = float(times[-1]) + gap if native else start + given["limit"] / float(given["fps"])
        end = stop if end is None else min(stop, end)
    interval = 1 / float(given["fps"]) if given.get("phase") and result.carried_from is None else None
    square = given.get("square_pixels", False)
    return OverlayWriter(
        path,
        source,
        sound,
        start,
        end,
        interval=interval,
        audio_track=track,
        square_pixels=square,
    )
