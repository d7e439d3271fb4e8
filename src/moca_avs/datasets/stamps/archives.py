"""Read single files out of a Debian package's tree: plain, or inside a Qt ``.rcc``, a ``.cat`` or a zip."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from moca_avs.errors import DataError

_ZLIB, _DIRECTORY, _ZSTD = 1, 2, 4  # flags of an entry in a Qt resource tree


def read_member(root: Path, path: str) -> bytes:
    """The bytes of one file of an unpacked package.

    Args:
        root: where the package was unpacked.
        path: inside the package; ``rcc:NAME``, ``cat:NAME`` and ``zip:NAME`` are files inside an archive.

    Raises:
        DataError: if the file, or the archive that should hold it, isn't there.
    """
    kind, _, inner = path.partition(":")
    if not inner:
        if not (root / path).is_file():
            raise DataError(f"expected {path} in {root}; unpack the package again (`moca data stamps`)")
        return (root / path).read_bytes()
    for archive in _candidates(root, kind, inner):
        found = _OPENERS[kind](archive).get(inner)
        if found is not None:
            return found()
    raise DataError(f"no .{kind} file in {root} holds {inner}; another version of the package was unpacked?")


def _candidates(root: Path, kind: str, inner: str) -> tuple[Path, ...]:
    """Archives that may hold `inner`: GCompris names one ``.rcc`` after each activity."""
    if kind not in _OPENERS:
        raise DataError(f"unknown kind of archive {kind!r} for {inner}; known: {', '.join(_OPENERS)}")
    name = inner.split("/")[3] if kind == "rcc" and inner.count("/") > 3 else "*"
    return _find(root, f"{name}.{kind}")


@lru_cache(maxsize=128)
def _find(root: Path, pattern: str) -> tuple[Path, ...]:
    return tuple(sorted(root.rglob(pattern)))


class _Member:
    """A place inside an archive, decoded when called."""

    def __init__(self, archive: Path, start: int, size: int, flags: int = 0) -> None:
        self.archive, self.start, self.size, self.flags = archive, start, size, flags

    def __call__(self) -> bytes:
        with self.archive.open("rb") as file:
            file.seek(self.start)
            data = file.read(self.size)
        if self.flags & _ZLIB:
            return zlib.decompress(data[4:])  # the first four bytes tell the decompressed size
        if self.flags & _ZSTD:
            import zstandard

            return zstandard.ZstdDecompressor().decompress(data, max_output_size=1 << 28)
        return data


class _ZipMember:
    """A file of a zip, decoded when called."""

    def __init__(self, archive: Path, name: str) -> None:
        self.archive, self.name = archive, name

    def __call__(self) -> bytes:
        with zipfile.ZipFile(self.archive) as file:
            return file.read(self.name)


@lru_cache(maxsize=64)
def open_rcc(archive: Path) -> dict[str, _Member]:
    """Index of a Qt binary resource: path -> member.

    Layout (big-endian): ``qres``, version, offsets of tree, data and names; tree entries of 14 bytes (22 from
    version 2): name offset, flags, then first child and count, or locale and data offset.
    """
    data = archive.read_bytes()
    if data[:4] != b"qres":
        raise DataError(f"{archive} is not a Qt resource file: expected it to begin with 'qres'")
    version, tree, blobs, names = struct.unpack_from(">4I", data, 4)
    size = 14 if version < 2 else 22

    def walk(index: int, prefix: str) -> Iterator[tuple[str, _Member]]:
        name_at, flags, first, second = struct.unpack_from(">IHII", data, tree + index * size)
        path = prefix
        if index:
            length = struct.unpack_from(">H", data, names + name_at)[0]
            start = names + name_at + 6  # length, then a 32-bit hash
            path = f"{prefix}/{data[start : start + 2 * length].decode('utf-16-be')}".lstrip("/")
        if flags & _DIRECTORY:
            for child in range(second, second + first):
                yield from walk(child, path)
        else:
            length = struct.unpack_from(">I", data, blobs + second)[0]
            yield path, _Member(archive, blobs + second + 4, length, flags)

    return dict(walk(0, ""))


@lru_cache(maxsize=8)
def open_cat(archive: Path) -> dict[str, _Member]:
    """Index of an OpenTTD sound set: a file of (offset, length) pairs, then per sound a name and a RIFF file.

    Everything is little-endian; a name is one byte of length, then its text, zero-terminated. The text is
    ``"TITLE". Original: ...``; a sound is called by its number and title, such as ``37_Cow``.
    """
    data = archive.read_bytes()
    first = struct.unpack_from("<I", data)[0] & 0x7FFFFFFF
    found = {}
    for at in range(0, first, 8):
        offset = struct.unpack_from("<I", data, at)[0] & 0x7FFFFFFF
        length = data[offset]
        text = data[offset + 1 : offset + 1 + length].split(b"\0")[0].decode("latin-1")
        start = offset + 1 + length
        if data[start : start + 4] == b"RIFF":
            size = struct.unpack_from("<I", data, start + 4)[0] + 8
            title = re.sub(r"\W+", "_", text.split('"')[1] if '"' in text else text)
            found[f"{at // 8:02d}_{title.strip('_')}"] = _Member(archive, start, size)
    return found


@lru_cache(maxsize=8)
def open_zip(archive: Path) -> dict[str, _ZipMember]:
    """Index of a zip: every file under its path, and under that path below its first folder (``audio/``)."""
    with zipfile.ZipFile(archive) as file:
        names = [n for n in file.namelist() if not n.endswith("/")]
    shortened = {n.partition("/")[2]: _ZipMember(archive, n) for n in names}
    return shortened | {n: _ZipMember(archive, n) for n in names}


_OPENERS: dict[str, Callable[[Path], Mapping[str, Callable[[], bytes]]]] = {
    "rcc": open_rcc,
    "cat": open_cat,
    "zip": open_zip,
}
