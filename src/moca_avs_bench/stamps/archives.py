"""Files of unpacked packages: plain, or inside a Qt ``.rcc``, an OpenTTD ``.cat``, a zip or a compressed tar.

Members are read into memory, never written anywhere, so that a name like ``../x`` leads nowhere.
"""

from __future__ import annotations

import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

from moca_avs.errors import DataError

MEMBER_BYTES = 1 << 28
"""Of one file of an archive, at most: what claims or turns out to be larger is refused."""
_ZLIB, _DIRECTORY, _ZSTD = 1, 2, 4  # flags of an entry in a Qt resource tree
# All that the readers of these formats raise at damage.
_DAMAGE = (
    *(OSError, EOFError, ValueError, LookupError, RuntimeError, OverflowError, MemoryError),
    *(struct.error, zlib.error, tarfile.TarError, zipfile.BadZipFile),
)


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn what a damaged archive raises into a DataError that names it."""
    try:
        yield
    except _DAMAGE as error:
        raise DataError(
            f"{archive} is a damaged archive ({error or type(error).__name__}); delete the unpacked package "
            "and unpack it again (`moca data stamps`)"
        ) from error


def _check_size(archive: Path, name: str, size: int) -> None:
    if size > MEMBER_BYTES:
        raise DataError(
            f"{name} in {archive} would take {size >> 20} MiB; expected {MEMBER_BYTES >> 20} MiB at most: "
            "the archive is damaged or made to fill the memory"
        )


def read_member(root: Path, path: str) -> bytes:
    """The bytes of one file of an unpacked package.

    Args:
        root: where the package was unpacked.
        path: inside the package; ``rcc:NAME``, ``cat:NAME``, ``zip:NAME`` and ``tar.gz:NAME`` are files in
            an archive.

    Raises:
        DataError: if the file, or the archive that should hold it, isn't there.
    """
    kind, _, inner = path.partition(":")
    if not inner:
        if not (root / path).is_file():
            raise DataError(f"expected {path} in {root}; unpack the package again (`moca data stamps`)")
        return (root / path).read_bytes()
    if kind not in _OPENERS:
        raise DataError(f"unknown kind of archive {kind!r} for {inner}; known: {', '.join(_OPENERS)}")
    # GCompris names one .rcc after each activity.
    name = inner.split("/")[3] if kind == "rcc" and inner.count("/") > 3 else "*"
    for archive in find_files(root, f"{name}.{kind}"):
        found = _OPENERS[kind](archive).get(inner)
        if found is not None:
            return found()
    raise DataError(f"no .{kind} file in {root} holds {inner}; another version of the package was unpacked?")


@lru_cache(maxsize=128)
def find_files(root: Path, pattern: str) -> tuple[Path, ...]:
    """The files of that name below a folder, sorted."""
    return tuple(sorted(root.rglob(pattern)))


Member = Callable[[], bytes]
"""A file of an archive, decoded when called."""


def _slice(archive: Path, start: int, size: int, flags: int = 0) -> bytes:
    """Part of a file, decompressed as `flags` say."""
    with archive.open("rb") as file, _reading(archive):
        file.seek(start)
        data = file.read(min(size, archive.stat().st_size))
        if len(data) < size:
            raise ValueError(f"it ends {size - len(data)} bytes before one of its files")
        if flags & _ZLIB:
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(data[4:], MEMBER_BYTES + 1)  # behind the decompressed size
            _check_size(archive, "a file", len(data))
            if not unpacker.eof:
                raise ValueError("a compressed file is cut short")
        if flags & _ZSTD:
            import zstandard

            try:
                _check_size(archive, "a file", zstandard.frame_content_size(data))
                data = zstandard.ZstdDecompressor().decompress(data, max_output_size=MEMBER_BYTES)
            except zstandard.ZstdError as error:
                raise ValueError(str(error)) from error
    return data


def _zipped(archive: Path, name: str) -> bytes:
    with _reading(archive), zipfile.ZipFile(archive) as file, file.open(name) as member:
        data = member.read(MEMBER_BYTES + 1)  # whatever size its entry claims
    _check_size(archive, name, len(data))
    return data


@lru_cache(maxsize=64)
def open_rcc(archive: Path) -> Mapping[str, Member]:
    """Index of a Qt binary resource: path -> member.

    Layout (big-endian): ``qres``, version, offsets of tree, data and names; tree entries of 14 bytes (22 from
    version 2): name offset, flags, then first child and count, or locale and data offset.

    Raises:
        DataError: if it is none, or damaged.
    """
    data = archive.read_bytes()
    if data[:4] != b"qres":
        raise DataError(f"{archive} is not a Qt resource file: expected it to begin with 'qres'")
    with _reading(archive):
        version, tree, blobs, names = struct.unpack_from(">4I", data, 4)
        size = 14 if version < 2 else 22
        seen: set[int] = set()

        def walk(index: int, prefix: str) -> Iterator[tuple[str, Member]]:
            if index in seen:
                raise ValueError(f"entry {index} of its tree is in two folders")
            seen.add(index)
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
                yield path, partial(_slice, archive, blobs + second + 4, length, flags)

        return dict(walk(0, ""))


@lru_cache(maxsize=8)
def open_cat(archive: Path) -> Mapping[str, Member]:
    """Index of an OpenTTD sound set: a file of (offset, length) pairs, then per sound a name and a RIFF file.

    Everything is little-endian; a name is one byte of length, then its text, zero-terminated. The text is
    ``"TITLE". Original: ...``; a sound is called by its number and title, such as ``37_Cow``.

    Raises:
        DataError: if it is damaged.
    """
    data = archive.read_bytes()
    found = {}
    with _reading(archive):
        first = struct.unpack_from("<I", data)[0] & 0x7FFFFFFF
        for at in range(0, first, 8):
            offset = struct.unpack_from("<I", data, at)[0] & 0x7FFFFFFF
            length = data[offset]
            text = data[offset + 1 : offset + 1 + length].split(b"\0")[0].decode("latin-1")
            start = offset + 1 + length
            if data[start : start + 4] == b"RIFF":
                size = struct.unpack_from("<I", data, start + 4)[0] + 8
                title = re.sub(r"\W+", "_", text.split('"')[1] if '"' in text else text)
                found[f"{at // 8:02d}_{title.strip('_')}"] = partial(_slice, archive, start, size)
    return found


@lru_cache(maxsize=8)
def open_zip(archive: Path) -> Mapping[str, Member]:
    """Index of a zip: every file under its path, and under that path below its first folder (``audio/``).

    Raises:
        DataError: if it is damaged.
    """
    with _reading(archive), zipfile.ZipFile(archive) as file:
        names = [n for n in file.namelist() if not n.endswith("/")]
    members = {name: partial(_zipped, archive, name) for name in names}
    return {name.partition("/")[2]: member for name, member in members.items()} | members


@lru_cache(maxsize=8)
def open_tar(archive: Path) -> Mapping[str, Member]:
    """Index of the images in a compressed tar, read at once: path -> member.

    Raises:
        DataError: if it is damaged, or its images are far too large.
    """
    found: dict[str, Member] = {}
    size = 0
    with _reading(archive), tarfile.open(archive) as tar:
        for entry in tar:
            size += entry.size  # of what is skipped too: it is decompressed all the same
            _check_size(archive, entry.name, size)
            if entry.isfile() and entry.name.endswith((".jpg", ".png")):
                found[entry.name] = partial(bytes, tar.extractfile(entry).read())  # type: ignore[union-attr]
    return found


_OPENERS: dict[str, Callable[[Path], Mapping[str, Member]]] = {
    "rcc": open_rcc,
    "cat": open_cat,
    "zip": open_zip,
    "tar.gz": open_tar,
}
