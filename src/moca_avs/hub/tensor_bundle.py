"""Reads TensorFlow's checkpoint format, the tensor bundle, without TensorFlow.

A bundle is an ``.index`` file, a sorted table (LevelDB's format) from a tensor's name to its type, shape and
place, and a ``.data-00000-of-00001`` file with the tensors' bytes. Neither holds code. The format is public:
tensorflow/core/protobuf/tensor_bundle.proto and tensorflow/core/lib/io/table_format.txt. Checksums inside the
files are left alone: whoever reads one has checked its SHA-256.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from moca_avs.errors import WeightsError

_FOOTER = 48  # bytes: two handles of blocks, padded, and the magic number
_MAGIC = 0xDB4775248B80FB57
_FLOAT32 = 1  # TensorFlow's DataType.DT_FLOAT
_VARINT, _BYTES = 0, 2  # protobuf's wire types, with 1 and 5: eight and four bytes
_WIDTHS = {1: 8, 5: 4}


def read_tensor_bundle(index: Path, data: Path) -> dict[str, np.ndarray]:
    """Name -> float32 array of a bundle with one data file; entries of other types are left out.

    Raises:
        WeightsError: if a file is missing, damaged, compressed, or the bundle has several data files.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        table, values = index.read_bytes(), data.read_bytes()
        for key, entry in _table(table):
            numbers, parts = _message(entry)
            name = key.decode()
            if not name:  # the header: its field 1 is the number of data files
                if numbers.get(1, 1) != 1:
                    raise ValueError(f"{numbers[1]} data files instead of one")
                continue
            if numbers.get(1) != _FLOAT32:
                continue
            dimensions = [part for shape in parts.get(2, []) for part in _message(shape)[1].get(2, [])]
            sizes = [_message(dimension)[0].get(1, 0) for dimension in dimensions]
            array = np.frombuffer(values, "<f4", math.prod(sizes), numbers.get(4, 0))
            if array.nbytes != numbers.get(5, 0):
                raise ValueError(f"{name} of shape {sizes} has {numbers.get(5, 0)} bytes")
            arrays[name] = array.reshape(sizes)
    except (OSError, ValueError, IndexError, TypeError, struct.error) as error:
        raise WeightsError(
            f"{index} and {data.name} are no whole tensor bundle ({error}); delete both and run again"
        ) from error
    return arrays


def _table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of all entries: the footer leads to a block of handles, each of a block of entries."""
    if len(table) < _FOOTER or struct.unpack("<Q", table[-8:])[0] != _MAGIC:
        raise ValueError("the magic number of a table is missing")
    _, position = _handle(table, len(table) - _FOOTER)  # the first handle is of filters, which we don't need
    index, _ = _handle(table, position)
    for _, handle in _block(table, index):
        yield from _block(table, _handle(handle, 0)[0])


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """((offset, size) of a block, position behind)."""
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return (offset, size), position


def _block(table: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of one block. A key is stored as what it does not share with the one before."""
    offset, size = handle
    block = table[offset : offset + size]
    if table[offset + size] != 0:
        raise ValueError("the table is compressed")
    restarts = struct.unpack("<I", block[-4:])[0]
    key, position = b"", 0
    while position < len(block) - 4 * (restarts + 1):
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + own]
        yield key, block[position + own : position + own + length]
        position += own + length


def _message(message: bytes) -> tuple[dict[int, int], dict[int, list[bytes]]]:
    """A protobuf message by the numbers of its fields: (whole numbers, everything else as bytes)."""
    numbers: dict[int, int] = {}
    parts: dict[int, list[bytes]] = {}
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            numbers[field], position = _varint(message, position)
            continue
        if wire == _BYTES:
            length, position = _varint(message, position)
        elif wire in _WIDTHS:
            length = _WIDTHS[wire]
        else:
            raise ValueError(f"wire type {wire} of a protobuf message is unknown")
        parts.setdefault(field, []).append(message[position : position + length])
        position += length
    return numbers, parts


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """(a base-128 number, low digits first; position behind)."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position
