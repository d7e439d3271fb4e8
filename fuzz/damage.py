"""Damage to bytes: the same seed gives the same bytes, on every machine."""

from __future__ import annotations

import numpy as np

EXTREMES = [
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**64 - 1,
]
HEADER = 4096
"""Bytes at both ends of a file in which extreme numbers are put: there its fields are."""
INSERTED = 4096
TEXTS = [
    b"\0",
    b"-1",
    b"1e999",
    b"NaN",
    b"99999999999999999999",
    b'"',
    b",",
    b"\xff\xfe",
    b"[" * 3000,
    b"null",
    b"{}",
]


def damage(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Bytes with one to three kinds of damage; `other` is what they may be spliced with."""
    for kind in rng.choice(list(KINDS), 1 + int(rng.integers(3) == 0) + int(rng.integers(6) == 0)):
        data = KINDS[str(kind)](data, other, rng)
    return data


def flip(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """20 to 400 bits turned over."""
    if not data:
        return data
    array = np.frombuffer(data, np.uint8).copy()
    for place in rng.integers(0, 8 * array.size, int(rng.integers(20, 401))):
        array[place >> 3] ^= 1 << (int(place) & 7)
    return array.tobytes()


def insert(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Up to 4 KiB of noise put in."""
    at = int(rng.integers(len(data) + 1))
    return data[:at] + rng.bytes(int(rng.integers(1, INSERTED + 1))) + data[at:]


def delete(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A piece left out."""
    low, high = sorted(int(place) for place in rng.integers(0, len(data) + 1, 2))
    high = min(high, low + max(1, len(data) // 4))
    return data[:low] + data[high:]


def truncate(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The end cut off; nothing may be left."""
    return data[: int(rng.integers(len(data) + 1))]


def splice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The beginning of one file, the end of another."""
    return data[: int(rng.integers(len(data) + 1))] + other[int(rng.integers(len(other) + 1)) :]


def swap(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Two blocks that change places."""
    a, b, c, d = sorted(int(place) for place in rng.integers(0, len(data) + 1, 4))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def extreme(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One to eight numbers at the file's ends made the largest, the smallest, a negative one."""
    array = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        width, order = int(rng.choice([1, 2, 4, 8])), "little" if rng.integers(2) else "big"
        value = EXTREMES[int(rng.integers(len(EXTREMES)))] % 256**width
        if rng.integers(2):
            value = int.from_bytes(rng.bytes(width), "little")
        room = min(HEADER, len(array))
        at = int(rng.integers(room + 1)) if rng.integers(4) else len(array) - int(rng.integers(room + 1))
        array[at : at + width] = value.to_bytes(width, order)
    return bytes(array)


def words(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Numbers of a text replaced by ones that make no sense, or such put in anywhere."""
    at = int(rng.integers(len(data) + 1))
    word = TEXTS[int(rng.integers(len(TEXTS)))]
    digits = [i for i, byte in enumerate(data[: 1 << 16]) if 48 <= byte < 58]
    if digits and rng.integers(4):
        at = digits[int(rng.integers(len(digits)))]
        end = at
        while end < len(data) and 48 <= data[end] < 58:
            end += 1
        return data[:at] + word + data[end:]
    return data[:at] + word + data[at:]


KINDS = {
    "flip": flip,
    "insert": insert,
    "delete": delete,
    "truncate": truncate,
    "splice": splice,
    "swap": swap,
    "extreme": extreme,
    "words": words,
}
