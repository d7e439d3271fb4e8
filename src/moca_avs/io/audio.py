"""Audio: decoded to mono float32 at its own rate, placed by its time stamps; written; resampled; silence.

The silence gate (paper figure 1): room noise is not digital zero, so one absolute level is not enough. A
window is silent where its loudest block is below an absolute level, or not clearly above the quiet parts of
its own recording. Quiet parts only tell of room noise if they are quiet in absolute terms as well: a
recording that is loud throughout has none. Levels are of the root mean square: a full-scale square wave is 0
dBFS, a full-scale sine -3.01 dBFS.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from moca_avs.errors import MediaError, UsageError
from moca_avs.io.open import audio_stream, check_file, decode_stream, ffmpeg_path, open_media, start_time
from moca_avs.utils.files import atomic_write

# Time stamps jitter; only a gap (or overlap) longer than this, in seconds, moves the samples.
_JITTER = 0.1
_SURVEY_BLOCKS = 200
# From this many on PyAV counts the planes of a frame wrongly (av 18.1, AudioFrame.planes).
_PLANES = 8
_LEVEL_SECONDS = 0.05


class NoAudioError(MediaError):
    """A file without a sound track, or with one that holds no sample."""


class AudioTrack:
    """One file's sound, always decoded from its start: exact in every format, and quick.

    Attributes:
        rate: Hz, of the first decoded frame (a header can be wrong by a factor of two).
        channels: of the first decoded frame.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._frames = self._decode()
        self._first = next(self._frames, None)
        if self._first is None:
            raise NoAudioError(f"{self.path} has no sound; expected a sound track with at least one sample")
        self.rate: int = self._first.sample_rate
        self.channels: int = self._first.layout.nb_channels

    def _decode(self) -> Generator[Any, None, None]:
        with open_media(self.path) as container:
            stream = audio_stream(container)
            if stream is None:
                return
            self._tick, self._zero = float(stream.time_base), float(start_time(container))
            yield from (frame for frame in decode_stream(self.path, container, stream) if frame.samples)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """(index of the first sample after the file's zero, float32 [C, n]): what was recorded, no padding.

        Can be walked once. Indices never go back: where stamps do, samples just follow each other.

        Raises:
            MediaError: where samples are NaN or infinite.
        """
        cursor: int | None = None
        frame = self._first
        while frame is not None:
            planes = self._conformed(frame)
            place = self._place(frame)
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

    def _place(self, frame: Any) -> int | None:
        if frame.pts is None:
            return None
        return round((frame.pts * self._tick - self._zero) * self.rate)

    def _conformed(self, frame: Any) -> np.ndarray:
        planes = float_planes(frame)
        if not np.isfinite(planes).all():
            bad = int(planes.size - np.isfinite(planes).sum())
            raise MediaError(
                f"the sound of {self.path} holds NaN or infinite samples ({bad} in one block); export it anew"
            )
        if frame.sample_rate != self.rate:
            planes = np.stack([resample(plane, frame.sample_rate, self.rate) for plane in planes])
        if len(planes) != self.channels:
            planes = np.broadcast_to(planes.mean(0, keepdims=True), (self.channels, planes.shape[1]))
        return np.clip(planes, -1, 1)

    def continuous(self) -> Iterator[np.ndarray]:
        """float32 [C, n] blocks that begin at the file's zero and follow each other; gaps are zeros."""
        cursor = 0
        for place, planes in self.blocks():
            while place > cursor:
                gap = min(place - cursor, self.rate)
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


def float_planes(frame: Any) -> np.ndarray:
    """A decoded audio frame as float32 [C, n], full scale = 1, whatever its sample format."""
    channels = frame.layout.nb_channels
    if frame.format.is_planar and channels >= _PLANES:
        (frame,) = av.AudioResampler(format=frame.format.packed).resample(frame)
    data = frame.to_ndarray()
    if not frame.format.is_planar:
        data = data.reshape(-1, channels).T
    if data.dtype.kind == "u":
        return (data.astype(np.float32) - 128) / 128
    if data.dtype.kind == "i":
        return data.astype(np.float32) * np.float32(2.0 ** (1 - 8 * data.dtype.itemsize))
    return data.astype(np.float32, copy=False)


def mono(planes: np.ndarray) -> np.ndarray:
    """The average of the channels: float32 [C, n] -> float32 [n]."""
    return planes[0] if len(planes) == 1 else planes.mean(0, dtype=np.float32)


@dataclass(frozen=True)
class AudioSurvey:
    """What a first pass over a whole recording found.

    Attributes:
        rate: Hz.
        seconds: where the sound ends, after the file's zero.
        noise_floor: dBFS of its quiet parts (`moca_avs.io.audio.noise_floor`).
    """

    rate: int
    seconds: float
    noise_floor: float


def survey(path: str | Path) -> AudioSurvey:
    """Read a whole sound once in little memory; remembered for as long as the file doesn't change.

    Raises:
        MediaError: without sound, or where samples are NaN or infinite.
    """
    path = check_file(path)
    stat = path.stat()
    return _survey(path.absolute(), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _survey(path: Path, _modified: int, _size: int) -> AudioSurvey:
    with AudioTrack(path) as track:
        piece = round(_LEVEL_SECONDS * track.rate) * _SURVEY_BLOCKS
        end = 0
        levels: list[np.ndarray] = []
        waiting: list[np.ndarray] = []
        for place, planes in track.blocks():
            waiting.append(mono(planes))
            end = place + planes.shape[1]
            if sum(map(len, waiting)) >= piece:
                joined = np.concatenate(waiting)
                whole = len(joined) // piece * piece
                levels.append(block_levels(joined[:whole], track.rate, _LEVEL_SECONDS))
                waiting = [joined[whole:]]
        rest = np.concatenate(waiting)
        if rest.size >= piece // _SURVEY_BLOCKS or not levels:
            levels.append(block_levels(rest, track.rate, _LEVEL_SECONDS))
        return AudioSurvey(track.rate, end / track.rate, noise_floor(np.concatenate(levels)))


class AudioWindows:
    """Stretches of a sound, asked for in time order; what lies behind is forgotten."""

    def __init__(self, path: str | Path) -> None:
        self._track = AudioTrack(path)
        self.rate = self._track.rate
        self._coming = self._track.continuous()
        self._held: deque[np.ndarray] = deque()
        self._start = 0  # sample index of the first one held
        self._stop = 0

    def between(self, start: float, end: float) -> tuple[np.ndarray, float]:
        """Samples in [start, end) seconds and the time of the first: (float32 [n], seconds).

        Shortened at the ends of the recording. `start` must not go back.
        """
        low = max(round(start * self.rate), 0)
        high = round(end * self.rate) if end != float("inf") else None
        while high is None or self._stop < high:
            planes = next(self._coming, None)
            if planes is None:
                break
            self._held.append(mono(planes))
            self._stop += planes.shape[1]
            self._forget(low)
        self._forget(low)
        joined = np.concatenate([*self._held, np.zeros(0, np.float32)])
        stop = None if high is None else max(high - self._start, 0)
        return joined[low - self._start if low > self._start else 0 : stop], low / self.rate

    def _forget(self, low: int) -> None:
        while self._held and self._start + len(self._held[0]) <= low:
            self._start += len(self._held.popleft())

    def close(self) -> None:
        """Close the file."""
        self._track.close()


def read_audio(path: str | Path) -> tuple[np.ndarray, int]:
    """The whole sound of a file (or of a video): (float32 [N] mono in [-1, 1], Hz).

    Channels are averaged, the file's own rate is kept, a gap in the recording is filled with zeros.

    Raises:
        MediaError: missing, empty or unreadable file, no sound in it, NaN or infinite samples.
    """
    with AudioTrack(path) as track:
        return np.concatenate([mono(planes) for planes in track.continuous()]), track.rate


def resample(sound: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Change the rate of float32 [N] from `rate` to `target` Hz (soxr, high quality): float32 [M]."""
    if rate <= 0 or target <= 0:
        raise UsageError(f"rates must be positive, found {rate} and {target} Hz")
    if rate == target or sound.size == 0:
        return sound
    import soxr

    return soxr.resample(sound, rate, target, quality="HQ")


_CODECS = {".wav": ("wav", "pcm_s16le"), ".flac": ("flac", "flac")}


def write_audio(path: str | Path, sound: np.ndarray, rate: int) -> Path:
    """Write float32 [N] mono as 16-bit ``.wav`` or ``.flac`` (chosen by the name), whole or not at all.

    Samples beyond [-1, 1] are clipped. Reading it back gives the 16-bit values exactly.

    Raises:
        MediaError: another ending, a wrong shape, NaN samples, or a place that can't be written.
    """
    path = Path(path)
    if path.suffix.lower() not in _CODECS:
        raise MediaError(f"{path} must end in {' or '.join(_CODECS)}, found {path.suffix or 'no ending'}")
    if sound.ndim != 1 or not np.isfinite(sound).all():
        raise MediaError(f"a sound to write must be finite mono [N], found {sound.dtype} {list(sound.shape)}")
    if rate <= 0:
        raise MediaError(f"a sound's rate must be positive, found {rate} Hz")
    samples = np.clip(np.round(np.asarray(sound, np.float64) * 32768), -32768, 32767).astype(np.int16)
    form, codec = _CODECS[path.suffix.lower()]
    with atomic_write(path) as partial, av.open(ffmpeg_path(partial), "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        container.start_encoding()
        _encode(stream, container.mux, samples, rate)
    return path


def _encode(stream: Any, mux: Callable[[Any], None], samples: np.ndarray, rate: int) -> None:
    """Encode int16 [N] in pieces of the codec's size, then flush."""
    size = stream.codec_context.frame_size or 4096
    for low in range(0, len(samples), size):
        frame = av.AudioFrame.from_ndarray(samples[None, low : low + size], format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), low
        mux(stream.encode(frame))
    mux(stream.encode(None))


LOWEST = -120.0
"""dBFS given to digital silence (and to no samples at all)."""

_PADDING = -90.0  # dBFS; below, a block is padding (or dither) and says nothing of the room


@dataclass(frozen=True)
class SilenceConfig:
    """The gate's levels.

    The defaults stand in the middle of what measured best on 3,000 seconds mixed from stamps' validation
    sounds over room noise: any margin from 8 to 12 dB found every silent second and called none silent that
    was not.
    """

    absolute: float = -60.0
    """dBFS; a window whose loudest block is below is silent, whatever the recording."""
    margin: float = 9.0
    """dB by which the loudest block must stand out from the recording's noise floor."""
    ceiling: float = -45.0
    """dBFS; quiet parts above this are not room noise, and the margin does not apply."""
    block: float = 0.05
    """Seconds per block: short enough for one bark, long enough for a low note."""
    percentile: float = 10.0
    """Of the block levels: the noise floor."""

    def __post_init__(self) -> None:
        if not (self.block > 0 and 0 <= self.percentile <= 100):
            raise UsageError(
                f"block must be positive and percentile in 0..100, found {self.block} and {self.percentile}"
            )


def level(sound: np.ndarray) -> float:
    """Level of a whole sound, float32 [N], in dBFS; at least `LOWEST`."""
    return float(block_levels(sound, max(len(sound), 1), 1.0)[0])


def block_levels(sound: np.ndarray, rate: int, seconds: float = 0.05) -> np.ndarray:
    """Levels of consecutive blocks.

    Args:
        sound: float32 [N], mono, in [-1, 1].
        rate: in Hz.
        seconds: length of a block; what is left over at the end is not counted, unless it is all there is.

    Returns:
        float64 [max(1, blocks)] in dBFS, at least `LOWEST`.
    """
    size = max(1, round(seconds * rate))
    count = len(sound) // size
    blocks = sound[: count * size].reshape(count, size) if count else sound[None]
    power = np.square(blocks, dtype=np.float64).sum(1) / max(blocks.shape[1], 1)
    return np.maximum(10 * np.log10(np.maximum(power, 1e-30)), LOWEST)


def noise_floor(levels: np.ndarray, config: SilenceConfig | None = None) -> float:
    """Level of a recording's quiet parts.

    Args:
        levels: float64 [B] in dBFS, from `block_levels` over the whole recording (any order, any number).
        config: its percentile; None takes the defaults.

    Returns:
        dBFS. Digital silence does not count as a quiet part (files are often padded with it): `LOWEST` where
        there is nothing else.
    """
    config = config or SilenceConfig()
    heard = levels[levels > _PADDING]
    return float(np.percentile(heard, config.percentile)) if heard.size else LOWEST


def is_silent(window: np.ndarray, rate: int, floor: float, config: SilenceConfig | None = None) -> bool:
    """Whether nothing stands out in a window of sound.

    Args:
        window: float32 [N]; N = 0 is silent.
        rate: in Hz.
        floor: of the recording, from `noise_floor`, in dBFS.
        config: the levels; None takes the defaults.
    """
    config = config or SilenceConfig()
    loudest = float(block_levels(window, rate, config.block).max())
    if loudest < config.absolute:
        return True
    return floor <= config.ceiling and loudest < floor + config.margin
