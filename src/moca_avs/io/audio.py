"""Audio: one channel, float32, at its own rate, placed by its time stamps; written; resampled; silence.

The silence gate (paper figure 1): room noise is not digital zero, so one absolute level is not enough. A
window is silent where its loudest block is below an absolute level, or not clearly above the quiet parts of
its own recording. Quiet parts only tell of room noise if they are quiet in absolute terms as well: a
recording that is loud throughout has none. Levels are of the root mean square: a full-scale square wave is 0
dBFS, a full-scale sine -3.01 dBFS.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np

from moca_avs.errors import MediaError, UsageError
from moca_avs.io.downmix import excess, file_weights, mono
from moca_avs.io.open import check_file, ffmpeg_path, warn_media
from moca_avs.io.sound_track import AudioTrack
from moca_avs.utils.files import atomic_write
from moca_avs.utils.settings import Range

_SURVEY_BLOCKS = 200
_LEVEL_SECONDS = 0.05


@dataclass(frozen=True)
class AudioSurvey:
    """What a first pass over a whole recording found.

    Attributes:
        rate: Hz.
        start: when its first sample sounds, in seconds after the file's zero.
        seconds: where the sound ends, after the file's zero.
        noise_floor: dBFS of its quiet parts (`moca_avs.io.audio.noise_floor`).
        loudest: dBFS of its loudest 50 ms.
        weights: of its channels in the one that is heard (`moca_avs.io.downmix`); None: their average.
        jumps: how many times its stamps were not believed (`AudioTrack.blocks`).
        notes: what its user should know.
    """

    rate: int
    start: float
    seconds: float
    noise_floor: float
    loudest: float
    weights: tuple[float, ...] | None = None
    jumps: int = 0
    notes: tuple[str, ...] = ()


def survey(path: str | Path, audio_track: int | None = None) -> AudioSurvey:
    """Read a whole sound once in little memory; remembered for as long as the file doesn't change.

    `MediaWarning`s tell where the sound is silent while another track of the file is not, and where time
    stamps were not believed.

    Args:
        path: of a sound or a video.
        audio_track: number of the track among the file's sound tracks, from 0; None: the one FFmpeg prefers.

    Raises:
        NoAudioError: without sound.
        MediaError: a file that can't be read, without that track, or where samples are NaN or infinite.
    """
    path = check_file(path)
    stat = path.stat()
    found = _survey(path.absolute(), audio_track, stat.st_mtime_ns, stat.st_size)
    for note in found.notes:
        warn_media(f"{path}: {note}")
    return found


@lru_cache(maxsize=256)
def _survey(path: Path, audio_track: int | None, _modified: int, _size: int) -> AudioSurvey:
    with AudioTrack(path, audio_track) as track:
        found, products, peak = _measured(track)
        weights = file_weights(products, track.weights)
    if weights is not track.weights:
        with AudioTrack(path, audio_track) as again:
            again.weights = weights
            found, _, peak = _measured(again)
    notes = []
    if track.jumps:
        notes.append(
            f"the time stamps of its sound jump by {max(track.jumps):.0f} s, which its samples don't "
            "explain; they follow each other"
        )
    if found.seconds == 0:
        notes.append("its sound ends before its picture begins; none of it is heard")
    gate = SilenceConfig()
    if found.loudest < gate.absolute:
        for other in track.others:
            with suppress(MediaError), AudioTrack(path, other) as beside:
                if _measured(beside)[0].loudest >= gate.absolute:
                    notes.append(
                        f"sound track {track.number} is silent, track {other} is not; "
                        f"--audio-track {other} (audio_track={other}) hears it"
                    )
                    break
    if weights is not None:
        quieter = excess(products, weights, peak)
        lost = 20 * math.log10(quieter)
        found = replace(
            found,
            noise_floor=max(found.noise_floor - lost, LOWEST),
            loudest=max(found.loudest - lost, LOWEST),
            weights=tuple((weights / quieter).tolist()),
        )
    return replace(found, jumps=len(track.jumps), notes=tuple(notes))


def _measured(track: AudioTrack) -> tuple[AudioSurvey, np.ndarray, float]:
    """(what a walk through the track finds, the mean products of its channels [C, C], peak of their mix)."""
    piece = round(_LEVEL_SECONDS * track.rate) * _SURVEY_BLOCKS
    start, end, peak, count = math.inf, 0, 0.0, 0
    products = np.zeros((track.channels, track.channels))
    levels: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    for place, planes in track.blocks():
        mixed = mono(planes, track.weights, limit=False)
        if track.weights is not None:
            peak = max(peak, float(np.abs(mixed).max()))
        if track.channels > 1:
            products += planes @ planes.T
        waiting.append(mixed)
        start, end = min(start, place), place + planes.shape[1]
        count += planes.shape[1]
        if sum(map(len, waiting)) >= piece:
            joined = np.concatenate(waiting)
            whole = len(joined) // piece * piece
            levels.append(block_levels(joined[:whole], track.rate, _LEVEL_SECONDS))
            waiting = [joined[whole:]]
    rest = np.concatenate([*waiting, np.zeros(0, np.float32)])
    if rest.size >= piece // _SURVEY_BLOCKS or not levels:
        levels.append(block_levels(rest, track.rate, _LEVEL_SECONDS))
    every = np.concatenate(levels)
    begin = start / track.rate if count else 0.0
    found = AudioSurvey(track.rate, begin, end / track.rate, noise_floor(every), float(every.max()))
    return found, products / max(count, 1), peak


def _chosen_weights(path: str | Path, audio_track: int | None) -> np.ndarray | None:
    weights = survey(path, audio_track).weights
    return None if weights is None else np.array(weights)


class AudioWindows:
    """Stretches of a sound, asked for in time order; what lies behind is forgotten.

    Args:
        path: of a sound or a video.
        audio_track: as of `survey`.
    """

    def __init__(self, path: str | Path, audio_track: int | None = None) -> None:
        weights = _chosen_weights(path, audio_track)
        self._track = AudioTrack(path, audio_track)
        self._track.weights = weights
        self.rate = self._track.rate
        self._coming = self._track.continuous()
        self._held: deque[np.ndarray] = deque()
        self._start = 0  # sample index of the first one held
        self._stop = 0

    def between(self, start: float, end: float, picture_end: float = math.inf) -> tuple[np.ndarray, float]:
        """Samples in [start, end) seconds and the time of the first: (float32 [n], seconds).

        Shortened at the ends of the recording. `start` must not go back. A gap in the recording that reaches
        beyond `picture_end` is filled with zeros up to there, and what sounds after it is left out.
        """
        self._track.picture_end = picture_end
        low = max(round(start * self.rate), 0)
        high = round(end * self.rate) if end != float("inf") else None
        while high is None or self._stop < high:
            planes = next(self._coming, None)
            if planes is None:
                break
            self._held.append(mono(planes, self._track.weights))
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


def read_audio(path: str | Path, audio_track: int | None = None) -> tuple[np.ndarray, int]:
    """The whole sound of a file (or of a video): (float32 [N] mono in [-1, 1], Hz).

    Channels are mixed as `moca_avs.io.downmix` says, the file's own rate is kept, a gap in the recording is
    filled with zeros.

    Args:
        path: of a sound or a video.
        audio_track: as of `survey`.

    Raises:
        MediaError: missing, empty or unreadable file, no sound in it, NaN or infinite samples.
    """
    with AudioTrack(path, audio_track) as track:
        if track.channels > 1 or track.others:
            track.weights = _chosen_weights(path, audio_track)
        blocks = [mono(planes, track.weights) for planes in track.continuous()]
    if track.jumps:
        survey(path, audio_track)  # which tells of them
    return np.concatenate([*blocks, np.zeros(0, np.float32)]), track.rate


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
    percentile: Annotated[float, Range(0, 100)] = 10.0
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
    return bool(silence(window, rate, floor, None, config))


def silence(
    window: np.ndarray,
    rate: int,
    floor: float,
    loudest: float | None = None,
    config: SilenceConfig | None = None,
) -> str:
    """Why nothing stands out in a window of sound, "" where something does.

    By level alone a fan, rain or a hum that never stops is no different from the noise of an empty room. So
    where nothing in the whole recording stands out from its floor, the reason says by what rule it is left
    out.

    Args:
        window: as of `is_silent`, and so are the others.
        rate: in Hz.
        floor: in dBFS.
        loudest: level of the recording's loudest block, in dBFS; None: not known.
        config: the levels.

    Returns:
        "silent", or "not above the recording's own floor" where that is true of all of the recording and the
        window is above the absolute level.
    """
    config = config or SilenceConfig()
    here = float(block_levels(window, rate, config.block).max())
    bar = floor + config.margin if floor <= config.ceiling else LOWEST
    if here < config.absolute:
        return "silent"
    if here >= bar:
        return ""
    return "silent" if loudest is None or loudest >= bar else "not above the recording's own floor"
