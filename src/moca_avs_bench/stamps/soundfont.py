"""Instruments rendered from a SoundFont 2 file: short phrases, to train on, with numpy alone.

Source of the format: SoundFont Technical Specification 2.04. Filters, modulators, vibrato and reverberation
are left out.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from moca_avs.errors import DataError

FONT_RATE = 44100
"""Hz of every phrase."""
PHRASE_SECONDS = 9.0
DRUMS = 128
"""Bank of the drum kits, in which each key is an instrument."""

_PLUCKED, _BLOWN = "chords", "melody"
RANGES: dict[int, tuple[int, int, str]] = {
    **dict.fromkeys((0, 1, 2, 3), (45, 79, _PLUCKED)),
    **dict.fromkeys((12, 13), (65, 93, _BLOWN)),
    **dict.fromkeys((21, 23), (55, 79, _PLUCKED)),
    22: (60, 84, _BLOWN),
    **dict.fromkeys((24, 25, 26, 27, 29, 30), (43, 72, _PLUCKED)),
    **dict.fromkeys((40, 110), (57, 86, _BLOWN)),
    42: (38, 64, _BLOWN),
    46: (45, 84, _PLUCKED),
    47: (38, 55, _BLOWN),
    **dict.fromkeys((52, 53), (55, 76, _PLUCKED)),
    **dict.fromkeys((56, 59), (58, 80, _BLOWN)),
    57: (43, 67, _BLOWN),
    58: (31, 53, _BLOWN),
    60: (46, 72, _BLOWN),
    **dict.fromkeys((64, 65), (58, 82, _BLOWN)),
    **dict.fromkeys((66, 67), (46, 70, _BLOWN)),
    70: (36, 62, _BLOWN),
    71: (52, 84, _BLOWN),
    73: (62, 91, _BLOWN),
    105: (50, 76, _PLUCKED),
    **dict.fromkeys((116, 117), (40, 64, _BLOWN)),
    **dict.fromkeys((123, 125), (56, 68, _BLOWN)),
}
"""General MIDI program -> lowest and highest key, and whether it plays chords."""

_GROOVE = (36, 42, 38, 42, 36, 46, 38, 42)  # bass drum, hi-hat, snare drum: one bar of eighths
_FILL = (50, 48, 45, 43)  # toms, high to low

# Generators (specification, 8.1.2): those that add up, with what they are without an entry.
_ADDED = {17: 0, 34: -12000, 35: -12000, 36: -12000, 37: 0, 38: -12000, 48: 0, 51: 0, 52: 0}
_PLACES = {0: 1, 1: 1, 2: 1, 3: 1, 4: 32768, 12: 32768, 45: 32768, 50: 32768}
_INSTRUMENT, _KEYS, _VELOCITIES, _SAMPLE, _MODES, _SCALE, _ROOT = 41, 43, 44, 53, 54, 56, 58


def phrase(font: Path, name: str) -> np.ndarray:
    """One phrase of nine seconds, drawn from the name: float32 [N] at 44.1 kHz.

    Args:
        font: an ``.sf2`` file.
        name: ``PROGRAM/TAKE`` plays a General MIDI program (0..127), ``drum-KEY/TAKE`` one key of the
            standard drum kit, ``kit-PRESET/TAKE`` a rhythm on the whole kit of that preset.

    Raises:
        DataError: if the file is no SoundFont or lacks the instrument.
    """
    rng = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()[:8]))
    what = name.partition("/")[0]
    notes = list(_notes(what, rng))
    kind, _, number = what.partition("-")
    bank, preset = (0, int(what)) if not number else (DRUMS, int(number) if kind == "kit" else 0)
    out = np.zeros(round((PHRASE_SECONDS + 4) * FONT_RATE), np.float32)
    loaded = load(font)
    for start, key, velocity, seconds in notes:
        tone = loaded.note(bank, preset, key, velocity, seconds)[: out.size - round(start * FONT_RATE)]
        out[round(start * FONT_RATE) : round(start * FONT_RATE) + tone.size] += tone
    return out[: round(PHRASE_SECONDS * FONT_RATE)]


def _notes(what: str, rng: np.random.Generator) -> Iterator[tuple[float, int, int, float]]:
    """(start, key, velocity, seconds) of each note of a phrase."""
    now, step = 0.0, float(rng.uniform(0.16, 0.34))
    kind, _, number = what.partition("-")
    if kind == "kit":
        while now < PHRASE_SECONDS:
            bar = [*_GROOVE[:4], *_FILL] if rng.random() < 0.35 else list(_GROOVE)
            for index, key in enumerate(bar):
                yield now, key, int(rng.integers(70, 120)), 0.3
                if index == 0 and rng.random() < 0.4:
                    yield now, 49, 100, 1.0  # a cymbal on the first beat
                now += step
    elif kind == "drum":
        while now < PHRASE_SECONDS:
            yield now, int(number), int(rng.integers(60, 125)), 0.5
            now += step * float(rng.choice([0.5, 1, 1, 2, 4], p=[0.3, 0.2, 0.2, 0.2, 0.1]))
    else:
        low, high, manner = RANGES[int(what)]
        key = int(rng.integers(low, high + 1))
        while now < PHRASE_SECONDS:
            length = step * float(rng.choice([1, 2, 3, 6]))
            chord = (0, *rng.choice([3, 4, 5, 7, 9, 12], 2, replace=False)) if manner == _PLUCKED else (0,)
            for interval in chord if rng.random() < 0.5 else (0,):
                if low <= key + interval <= high:
                    yield now, key + int(interval), int(rng.integers(60, 120)), length * 0.95
            now += length
            key = int(np.clip(key + rng.choice([-7, -5, -3, -2, -1, 1, 2, 3, 5, 7]), low, high))


@lru_cache(maxsize=4)
def load(font: Path) -> SoundFont:
    """The tables of a SoundFont; its samples stay on disk until they are played."""
    return SoundFont(font)


@dataclass(frozen=True)
class _Zone:
    """One sample that a key plays: the instrument's generators, the preset's added."""

    keys: tuple[int, int]
    velocities: tuple[int, int]
    sample: int
    values: dict[int, int]


class SoundFont:
    """A SoundFont 2 file.

    Args:
        path: of the file.

    Raises:
        DataError: if it is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chunks = dict(_chunks(path))
        if not {b"smpl", b"phdr", b"pbag", b"pgen", b"inst", b"ibag", b"igen", b"shdr"} <= set(self._chunks):
            raise DataError(f"{path} is not a SoundFont 2 file; unpack its package again")
        try:
            self._read_tables()
        except (struct.error, IndexError, ValueError) as error:
            raise DataError(f"{path} is damaged ({error}); unpack its package again") from error

    def _read_tables(self) -> None:
        start, size = self._chunks[b"smpl"]
        self._wave = np.memmap(self._path, "<i2", "r", start, (size // 2,))
        self._headers = [h[1:] for h in struct.iter_unpack("<20s5IBbHH", self._read(b"shdr"))]
        self._tables = {
            name: list(struct.iter_unpack(form, self._read(name)))
            for name, form in ((b"pbag", "<HH"), (b"pgen", "<H2s"), (b"ibag", "<HH"), (b"igen", "<H2s"))
        }
        presets = [(r[1], r[2], r[3]) for r in struct.iter_unpack("<20sHHHIII", self._read(b"phdr"))]
        self._presets = {
            (bank, preset): (bag, presets[i + 1][2]) for i, (preset, bank, bag) in enumerate(presets[:-1])
        }
        bags = [r[1] for r in struct.iter_unpack("<20sH", self._read(b"inst"))]
        self._instruments = list(pairwise(bags))
        self._zones: dict[tuple[int, int], list[_Zone]] = {}

    def note(self, bank: int, preset: int, key: int, velocity: int, seconds: float) -> np.ndarray:
        """One note, held so long and then released: float32 [N] mono at 44.1 kHz, in about [-1, 1].

        Raises:
            DataError: if no sample answers to it, or the one that does lies outside of the file.
        """
        try:
            tones = [
                self._tone(zone, key, seconds)
                for zone in self._of(bank, preset)
                if zone.keys[0] <= key <= zone.keys[1]
                and zone.velocities[0] <= velocity <= zone.velocities[1]
            ]
        except (IndexError, ValueError, OverflowError) as error:
            raise DataError(f"{self._path} is damaged ({error}); unpack its package again") from error
        if not tones:
            raise DataError(f"{self._path} has no sound for bank {bank}, preset {preset}, key {key}")
        out = np.zeros(max(tone.size for tone in tones), np.float32)
        for tone in tones:
            out[: tone.size] += tone * (velocity / 127) ** 2 / len(tones)
        return out

    def _tone(self, zone: _Zone, key: int, seconds: float) -> np.ndarray:
        start, end, loop, stop, rate, pitch, correction, _, _ = self._headers[zone.sample]
        value = zone.values
        places = [
            sum(_PLACES[g] * value.get(g, 0) for g in pair) for pair in ((0, 4), (1, 12), (2, 45), (3, 50))
        ]
        start, end, loop, stop = (p + q for p, q in zip((start, end, loop, stop), places, strict=True))
        root = value.get(_ROOT, pitch)
        cents = (key - root) * value.get(_SCALE, 100) + 100 * value.get(51, 0) + value.get(52, 0) + correction
        speed = rate / FONT_RATE * 2 ** (cents / 1200)
        attack, hold, decay, release = (2 ** (value.get(g, -12000) / 1200) for g in (34, 35, 36, 38))
        at = np.arange(round((seconds + min(release, 1.5)) * FONT_RATE)) * speed
        wave = self._wave[start:end].astype(np.float32) / 32768
        if value.get(_MODES, 0) & 1 and stop - loop > 8:  # looped: what follows the loop is never reached
            begin, length = loop - start, stop - loop
            at = np.where(at < begin, at, begin + (at - begin) % length)
            wave = np.append(wave[: begin + length], wave[begin])
        else:
            at = at[at < wave.size - 1]
        tone = np.interp(at, np.arange(wave.size), wave)
        time = np.arange(tone.size) / FONT_RATE
        faded = np.clip((time - attack - hold) / max(decay, 0.01) * 100, 0, min(value.get(37, 0) / 10, 100))
        faded = faded + np.clip((time - seconds) / max(release, 0.03) * 100, 0, 100) + value.get(48, 0) / 25
        return (tone * np.minimum(time / max(attack, 1e-3), 1) * 10 ** (-faded / 20)).astype(np.float32)

    def _of(self, bank: int, preset: int) -> list[_Zone]:
        """All zones of a preset."""
        if (bank, preset) not in self._presets:
            raise DataError(f"{self._path} has no preset {preset} in bank {bank}")
        if (bank, preset) not in self._zones:
            zones = []
            for outer in self._generators(b"pbag", b"pgen", self._presets[bank, preset], _INSTRUMENT):
                bags = self._instruments[outer[_INSTRUMENT]]
                inner = self._generators(b"ibag", b"igen", bags, _SAMPLE)
                zones += [_joined(outer, zone) for zone in inner]
            self._zones[bank, preset] = zones
        return self._zones[bank, preset]

    def _generators(
        self, bags: bytes, gens: bytes, span: tuple[int, int], terminal: int
    ) -> Iterator[dict[int, int]]:
        """Generators of each zone that names an instrument or sample, over those of the global zone."""
        common: dict[int, int] = {}
        for index in range(*span):
            begin, end = self._tables[bags][index][0], self._tables[bags][index + 1][0]
            own = {}
            for generator, raw in self._tables[gens][begin:end]:
                unsigned = generator in (_KEYS, _VELOCITIES, _INSTRUMENT, _SAMPLE, _MODES)
                own[generator] = struct.unpack("<H" if unsigned else "<h", raw)[0]
            if terminal in own:
                yield common | own
            elif index == span[0]:
                common = own

    def _read(self, chunk: bytes) -> bytes:
        start, size = self._chunks[chunk]
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(size)


def _joined(outer: dict[int, int], inner: dict[int, int]) -> _Zone:
    """A preset's zone and an instrument's: ranges intersect, generators add up."""
    values = defaultdict(int, inner)
    for generator, without in _ADDED.items():
        if generator in outer:
            values[generator] = inner.get(generator, without) + outer[generator]
    ranges = []
    for generator in (_KEYS, _VELOCITIES):
        pairs = [divmod(zone.get(generator, 127 << 8), 256) for zone in (outer, inner)]
        ranges.append((max(low for _, low in pairs), min(high for high, _ in pairs)))
    return _Zone(ranges[0], ranges[1], inner[_SAMPLE], dict(values))


def _chunks(path: Path) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """(name, (offset, size)) of the chunks inside the lists of a RIFF file."""
    with path.open("rb") as file:
        at, total = 12, path.stat().st_size
        while at + 8 <= total:
            file.seek(at)
            name, size = struct.unpack("<4sI", file.read(8))
            if name == b"LIST":
                at += 12  # into the list
                continue
            yield name, (at + 8, size)
            at += 8 + size + size % 2
