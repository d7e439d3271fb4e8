"""Cleaning recordings, and mixing them into the sound of a scene."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RATE = 16000
MARGIN = 15.0
"""dB that every sounding second lies above the room noise, at least."""

_STEP = 160  # 10 ms at 16 kHz
_FADE = 160


def decode(data: bytes, form: str | None = None) -> np.ndarray:
    """Bytes of a sound file -> float32 [N] mono at 16 kHz (channels averaged).

    `form` names the format of a file that has no header.
    """
    import av

    with av.open(io.BytesIO(data), "r", format=form) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("fltp")
        blocks = [b for frame in (*container.decode(stream), None) for b in resampler.resample(frame)]
        mono = np.concatenate([block.to_ndarray().mean(axis=0) for block in blocks])
        return resampled(mono, stream.rate)


def resampled(mono: np.ndarray, rate: int) -> np.ndarray:
    """Sound float [N] at any rate -> float32 at 16 kHz."""
    import soxr

    return soxr.resample(mono, rate, RATE).astype(np.float32)


def trim(sound: np.ndarray, gap: float = 0.4, depth: float = 35.0) -> np.ndarray:
    """Cut silence away: all of it at both ends, and pauses of more than `gap` seconds down to half of that.

    Args:
        sound: float32 [N] at 16 kHz.
        gap: longest pause kept whole, in seconds.
        depth: dB below the loudest 10 ms from where it counts as silence.
    """
    loud = np.flatnonzero(_loud(sound, depth))
    if not loud.size:
        return sound
    keep, pause = [], round(gap * RATE / _STEP)
    breaks = np.flatnonzero(np.diff(loud) > pause)
    for first, last in zip(np.r_[0, breaks + 1], np.r_[breaks, loud.size - 1], strict=True):
        keep.append(_faded(sound[max(loud[first] - 2, 0) * _STEP : (loud[last] + 3) * _STEP]))
    silence = np.zeros(pause * _STEP // 2, np.float32)
    return np.concatenate([part for piece in keep for part in (piece, silence)][:-1])


def level(sound: np.ndarray, target: float) -> np.ndarray:
    """Scale the audible parts (within 30 dB of the loudest) to an RMS of `target` dBFS; peak <= .95."""
    frames = _frames(sound)
    audible = frames[_loud(sound, 30.0)]
    rms = np.sqrt((audible.astype(np.float64) ** 2).mean())
    scale = min(10 ** (target / 20) / max(rms, 1e-9), 0.95 / max(float(np.abs(sound).max()), 1e-9))
    return (sound * scale).astype(np.float32)


def decibels(sound: np.ndarray) -> float:
    """RMS of a sound in dBFS (a full-scale square wave has 0); -120 for digital silence."""
    power = float((sound.astype(np.float64) ** 2).mean()) if sound.size else 0.0
    return max(10 * np.log10(max(power, 1e-30)), -120.0)


@dataclass(frozen=True, eq=False)
class Event:
    """One object's sound in a scene.

    Attributes:
        samples: float32 [N] at 16 kHz, as `Sound.samples` gives them.
        active: bool [seconds]: in which seconds it is heard.
        gain: in dB, on top of its own level.
    """

    samples: np.ndarray
    active: np.ndarray
    gain: float = 0.0


@dataclass(frozen=True, eq=False)
class Mix:
    """The sound of a scene.

    Attributes:
        sound: float32 [seconds * 16000] in [-1, 1].
        levels: float64 [events, seconds], RMS of each event in each second in dBFS (-120 where silent).
        room: level of the room noise in dBFS.
    """

    sound: np.ndarray
    levels: np.ndarray
    room: float


def compose_sound(events: Sequence[Event], seconds: int, rng: np.random.Generator) -> Mix:
    """Room noise everywhere, each event in its own seconds, at least `MARGIN` dB above the room there.

    A recording is cropped or repeated to fill a run of seconds; where a second would come out too quiet (the
    tail of a bell), the loudest second of the recording is put there instead.
    """
    room_level = float(rng.uniform(-60, -50))
    room = room_noise(seconds * RATE, room_level, rng)
    floor = room_level + MARGIN + 1
    stems = (
        np.stack([_stem(event, seconds, floor, rng) for event in events])
        if events
        else np.zeros((0, room.size))
    )
    peak = np.abs(stems.sum(axis=0) + room).max()
    stems *= min(1.0, 0.98 / peak)
    levels = np.array([[decibels(s) for s in stem.reshape(seconds, RATE)] for stem in stems]).reshape(
        -1, seconds
    )
    return Mix((stems.sum(axis=0) + room).astype(np.float32), levels, room_level)


def room_noise(samples: int, level_db: float, rng: np.random.Generator) -> np.ndarray:
    """Noise between pink and brown (3 to 6 dB an octave): float64 [samples], RMS `level_db` dBFS."""
    slope = rng.uniform(0.5, 1.0)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 40.0)
    noise = np.fft.irfft(spectrum / frequency**slope, samples)
    return noise * (10 ** (level_db / 20) / np.sqrt((noise**2).mean()))


def _stem(event: Event, seconds: int, floor: float, rng: np.random.Generator) -> np.ndarray:
    """float64 [seconds * RATE]: the event alone, silent outside its seconds."""
    out = np.zeros(seconds * RATE)
    samples = event.samples * 10 ** (event.gain / 20)
    active = np.r_[False, event.active, False]
    edges = np.flatnonzero(np.diff(active.astype(int)))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        out[start * RATE : stop * RATE] = _faded(_fill(samples, (stop - start) * RATE, rng))
    for second in np.flatnonzero(event.active):
        part = out[second * RATE : (second + 1) * RATE]
        if decibels(part) < floor:
            loudest = _loudest(samples)  # amplified where even that lies below the floor
            part[:] = _faded(loudest * 10 ** (max(floor + 1 - decibels(loudest), 0) / 20))
    return out


def _fill(samples: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """`length` samples: a random stretch of a long recording, or a short one repeated with short pauses."""
    if samples.size >= length:
        start = int(rng.integers(samples.size - length + 1))
        return samples[start : start + length]
    pieces, filled = [], 0
    pause = int(rng.uniform(0.05, 0.25) * RATE)
    while filled < length:
        pieces += [_faded(samples), np.zeros(pause, samples.dtype)]
        filled += samples.size + pause
    return np.concatenate(pieces)[:length]


def _loudest(samples: np.ndarray) -> np.ndarray:
    """The second with the most energy; a shorter recording is repeated without pauses."""
    looped = np.resize(samples, max(samples.size, RATE))
    energy = np.cumsum(np.r_[0.0, looped.astype(np.float64) ** 2])
    start = int(np.argmax(energy[RATE:] - energy[:-RATE]))
    return looped[start : start + RATE]


def _faded(samples: np.ndarray) -> np.ndarray:
    """10 ms of fade at both ends, against clicks."""
    out = samples.copy()
    fade = min(_FADE, out.size // 2)
    ramp = np.linspace(0, 1, fade, endpoint=False, dtype=out.dtype)
    out[:fade] *= ramp
    out[out.size - fade :] *= ramp[::-1]
    return out


def _frames(sound: np.ndarray) -> np.ndarray:
    """[F, 160]: steps of 10 ms, the last one filled with zeros."""
    return np.pad(sound, (0, -sound.size % _STEP)).reshape(-1, _STEP)


def _loud(sound: np.ndarray, depth: float) -> np.ndarray:
    """Which 10 ms lie within `depth` dB of the loudest: bool [F]."""
    power = (_frames(sound).astype(np.float64) ** 2).mean(axis=1)
    return power > power.max(initial=0.0) * 10 ** (-depth / 10)
