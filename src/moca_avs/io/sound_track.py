"""A file's sound as it is: decoded from its start, at its own rate, all channels, placed by its stamps."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from moca_avs.errors import MediaError
from moca_avs.io.clock import LONGEST_GAP
from moca_avs.io.downmix import file_weights, mono, position_weights
from moca_avs.io.open import (
    audio_stream,
    decode_stream,
    open_media,
    picture_times,
    start_time,
    warn_media,
)

# Time stamps jitter; only a gap (or overlap) longer than this, in seconds, moves the samples.
_JITTER = 0.1
# A gap may reach so far beyond the end of the picture, in seconds.
_BEYOND = 1.0
# From this many on PyAV counts the planes of a frame wrongly (av 18.1, AudioFrame.planes).
_PLANES = 8
# Sample formats that PyAV does not give as arrays.
_NOT_IN_NUMPY = ("s64", "s64p")


class NoAudioError(MediaError):
    """A file without a sound track, or with one that holds no sample."""


class AudioTrack:
    """One sound track of a file, always decoded from its start: exact in every format, and quick.

    Args:
        path: of the file.
        number: of the track among the file's sound tracks, from 0; None: the one that FFmpeg prefers.

    Attributes:
        rate: Hz, of the first decoded frame (a header can be wrong by a factor of two).
        channels: of the first decoded frame.
        weights: of these channels in the one that is heard, by their positions (`position_weights`).
        number: of the track.
        others: numbers of the file's other tracks that can be decoded.
        jumps: seconds, of each jump of the stamps so far that was not believed.
        picture_end: seconds. A gap that reaches beyond is filled up to here, and what sounds after it is left
            out (`continuous`).

    Raises:
        NoAudioError: without a sound track that can be decoded, or with one that holds no sample.
        MediaError: where there is no such file, or no track of this number.
    """

    def __init__(self, path: str | Path, number: int | None = None) -> None:
        self.path, self._wanted = Path(path), number
        self.picture_end = math.inf
        self.jumps: list[float] = []
        self._products: dict[str, np.ndarray] = {}
        self._shift = 0
        self._picture: tuple[np.ndarray, float] | None = None
        self._frames = self._decode()
        self._first = next(self._frames, None)
        if self._first is None:
            raise NoAudioError(f"{self.path} has no sound; expected a sound track with at least one sample")
        self.rate: int = self._first.sample_rate
        self.channels: int = self._first.layout.nb_channels
        self.weights = _weights(self._first)

    def _decode(self) -> Generator[Any, None, None]:
        with open_media(self.path) as container:
            tracks = list(container.streams.audio)
            unknown = [n for n, track in enumerate(tracks) if track.codec_context is None]
            if unknown and self._wanted is None:
                named = ", ".join(map(str, unknown))
                warn_media(f"{self.path}: FFmpeg does not know the codec of sound track {named}; left out")
            try:
                stream = audio_stream(container, self._wanted)
            except MediaError as error:
                raise MediaError(f"{self.path} {error}") from error
            if stream is None:
                return
            self.number = tracks.index(stream)
            self.others = [n for n in range(len(tracks)) if n != self.number and n not in unknown]
            self._tick, self._zero = float(stream.time_base), float(start_time(container))
            yield from (frame for frame in decode_stream(self.path, container, stream) if frame.samples)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """(index of the first sample after the file's zero, float32 [C, n]): what was recorded, no padding.

        Can be walked once. Indices never go back: where stamps do, samples just follow each other. So they do
        where stamps jump forward by more than `LONGEST_GAP`, unless the file's picture goes on meanwhile.

        Raises:
            MediaError: where samples are NaN or infinite.
        """
        cursor: int | None = None
        frame = self._first
        while frame is not None:
            planes = self._conformed(frame)
            place = self._place(frame, cursor)
            if cursor is None:  # what lies before the file's zero is cut off
                cursor = max(place or 0, 0)
                planes = planes[:, cursor - (place or 0) :]
            elif place is not None and place - cursor > _JITTER * self.rate:
                cursor = place
            if planes.shape[1]:
                yield cursor, planes
                cursor += planes.shape[1]
            elif cursor == 0:
                cursor = None
            frame = next(self._frames, None)

    def _place(self, frame: Any, cursor: int | None) -> int | None:
        """Index of a frame's first sample by its stamp; `cursor`: where it would follow the one before it."""
        if frame.pts is None:
            return None
        place = round((frame.pts * self._tick - self._zero) * self.rate) + self._shift
        due = cursor or 0
        longest = LONGEST_GAP * self.rate
        back = cursor is not None and place < due - longest
        if back or (place > due + longest and not self._goes_on(due, place)):
            self.jumps.append(abs(place - due) / self.rate)
            self._shift += due - place
            return due
        return place

    def _goes_on(self, low: int, high: int) -> bool:
        """Whether the picture does, in a gap between two samples: there is no minute without a packet.

        Or whether it may: there is such a minute, but the header states that length.
        """
        if self._picture is None:
            self._picture = picture_times(self.path)
        times, stated = self._picture
        start, end = low / self.rate, high / self.rate
        if not times.size or end > times[-1] + LONGEST_GAP:
            return False
        between = times[(times > start) & (times < end)]
        return end <= stated or bool(np.diff([start, *between, end]).max() <= LONGEST_GAP)

    def _conformed(self, frame: Any) -> np.ndarray:
        planes = float_planes(frame)
        if not np.isfinite(planes).all():
            bad = int(planes.size - np.isfinite(planes).sum())
            raise MediaError(
                f"the sound of {self.path} holds NaN or infinite samples ({bad} in one block); export it anew"
            )
        if frame.sample_rate != self.rate:
            import soxr

            planes = soxr.resample(planes.T, frame.sample_rate, self.rate, quality="HQ").T
        if len(planes) != self.channels:
            # Into the channels that weigh most, so that the mix of these is that of the frame's own.
            weights = np.ones(self.channels) / self.channels if self.weights is None else self.weights
            spread = np.sign(weights) * (np.abs(weights) == np.abs(weights).max())
            spread /= (spread * weights).sum()
            planes = spread[:, None].astype(np.float32) * mono(planes, self._other_weights(frame, planes))
        return np.clip(planes, -1, 1)

    def _other_weights(self, frame: Any, planes: np.ndarray) -> np.ndarray | None:
        """Weights of a frame whose channels are not those of the first, by all such frames up to this one.

        So they are the same in each walk through the track, which begins at its start.
        """
        products = self._products.get(frame.layout.name, 0.0) + planes @ planes.T.astype(np.float64)
        self._products[frame.layout.name] = products
        return file_weights(products, _weights(frame))

    def continuous(self) -> Iterator[np.ndarray]:
        """float32 [C, n] blocks that begin at the file's zero and follow each other; gaps are zeros."""
        cursor = 0
        for place, planes in self.blocks():
            while place > cursor:
                within = place <= (self.picture_end + _BEYOND) * self.rate
                end = place if within else round(self.picture_end * self.rate)
                if cursor >= end:
                    return
                gap = min(end - cursor, self.rate)
                yield np.zeros((self.channels, gap), np.float32)
                cursor += gap
            yield planes
            cursor += planes.shape[1]

    def close(self) -> None:
        """Close the file (also done when the track was read to its end)."""
        self._frames.close()

    def __enter__(self) -> AudioTrack:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _weights(frame: Any) -> np.ndarray | None:
    return position_weights([channel.name for channel in frame.layout.channels])


def float_planes(frame: Any) -> np.ndarray:
    """A decoded audio frame as float32 [C, n], full scale = 1, whatever its sample format.

    Raises:
        MediaError: where PyAV does not know the sample format.
    """
    channels = frame.layout.nb_channels
    if frame.format.name in _NOT_IN_NUMPY:
        (frame,) = av.AudioResampler(format="dbl").resample(frame)
    elif frame.format.is_planar and channels >= _PLANES:
        (frame,) = av.AudioResampler(format=frame.format.packed).resample(frame)
    try:
        data = frame.to_ndarray()
    except ValueError as error:
        raise MediaError(f"samples of the format {frame.format.name} can't be read; convert them") from error
    if not frame.format.is_planar:
        data = data.reshape(-1, channels).T
    if data.dtype.kind == "u":
        return (data.astype(np.float32) - 128) / 128
    if data.dtype.kind == "i":
        return data.astype(np.float32) * np.float32(2.0 ** (1 - 8 * data.dtype.itemsize))
    return data.astype(np.float32, copy=False)
