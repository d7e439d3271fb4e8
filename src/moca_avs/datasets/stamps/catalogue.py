"""Every cut-out, sound and background that composites are made of, decoded when first asked for."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from moca_avs.datasets.stamps.archives import read_member
from moca_avs.datasets.stamps.splits import MEDIA, Row, assign_sides
from moca_avs.errors import DataError, UsageError

RATE = 16000
"""Hz of every sound here, as in AVSBench."""

LEVEL = -20.0
"""dBFS that the audible parts of every sound are brought to."""

_CUTOUT_SIDE, _BACKGROUND_SIDE = 320, 640  # pixels: no composite shows more


@dataclass(frozen=True)
class Medium:
    """One file and where it lies in the split.

    Attributes:
        category: class name, "" for backgrounds.
        package: Debian package.
        path: inside the package.
        side: "train", "val", "test" or "unseen".
        group: what is never split: the duplicate group, or the path of a file that is alone.
        kind: of a cut-out: "photo", "drawing" or "cartoon".
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
    """A picture of one object with its exact mask."""

    def rgba(self) -> np.ndarray:
        """uint8 [h, w, 4], cropped to what is visible, at most 320 pixels a side."""
        return _decode_cutout(self.package, self.path)


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
class Catalogue:
    """The media of one set ("core" or "full"), each with its side.

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
    def load(cls, media: str = "core") -> Catalogue:
        """Read the table that ships with this package; decodes nothing.

        Args:
            media: "core", or "full" (adds three game packages, train side only).

        Raises:
            UsageError: for another name.
        """
        if media not in MEDIA:
            raise UsageError(f"media must be one of {', '.join(MEDIA)}, found {media!r}")
        return cls.of(media, read_table())

    @classmethod
    def of(cls, media: str, rows: list[Row]) -> Catalogue:
        """A catalogue of the given table's rows; sides are those of the whole table."""
        sides = assign_sides(rows)

        def pick(role: str, make: type[Medium]) -> tuple[Medium, ...]:
            return tuple(
                make(row.category, row.package, row.path, sides[row], row.unit, row.kind)
                for row in rows
                if row.role == role and row.package in MEDIA[media] and row in sides
            )

        return cls(media, pick("cutout", Cutout), pick("sound", Sound), pick("background", Background))  # type: ignore[arg-type]

    def packages(self) -> list[str]:
        """Debian packages that hold these media, sorted."""
        return sorted({medium.package for medium in (*self.cutouts, *self.sounds, *self.backgrounds)})


def read_table() -> list[Row]:
    """All rows of ``media.csv``, every package."""
    text = files("moca_avs.datasets.stamps").joinpath("media.csv").read_text(encoding="utf-8")
    return [Row(**row) for row in csv.DictReader(io.StringIO(text))]


@lru_cache(maxsize=16)
def package_root(package: str) -> Path:
    """Where a package's unpacked tree lies; fetched into the cache at first use."""
    from moca_avs.fetch.debian import unpacked

    return unpacked(package)


@lru_cache(maxsize=512)
def _decode_cutout(package: str, path: str) -> np.ndarray:
    picture = _open_picture(package, path).convert("RGBA")
    box = picture.getchannel("A").point(lambda alpha: 255 * (alpha > 16)).getbbox()
    if box is None:
        raise DataError(f"{path} of {package} is wholly transparent; expected a cut-out")
    picture = picture.crop(box)
    picture.thumbnail((_CUTOUT_SIDE, _CUTOUT_SIDE), Image.Resampling.LANCZOS)
    return _frozen(np.asarray(picture))


@lru_cache(maxsize=128)
def _decode_background(package: str, path: str) -> np.ndarray:
    picture = _open_picture(package, path).convert("RGB")
    scale = min(_BACKGROUND_SIDE / min(picture.size), 1.0)
    size = (round(picture.width * scale), round(picture.height * scale))
    return _frozen(np.asarray(picture.resize(size, Image.Resampling.LANCZOS)))


def _open_picture(package: str, path: str) -> Image.Image:
    """A picture of any kind; vector drawings are rendered 360 pixels high."""
    data = read_member(package_root(package), path)
    if path.endswith(".svg"):
        data = _import_resvg()(
            svg_string=data.decode("utf-8", errors="replace"), height=360, skip_system_fonts=True
        )
    return Image.open(io.BytesIO(bytes(data)))


def _import_resvg() -> Callable[..., bytes]:
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise DataError(
            "drawings need the package resvg-py; install it: pip install 'moca-avs[stamps]'"
        ) from error
    return svg_to_bytes


@lru_cache(maxsize=512)
def _decode_sound(package: str, path: str) -> np.ndarray:
    from moca_avs.datasets.stamps.sounds import decode, level, trim

    return _frozen(level(trim(decode(read_member(package_root(package), path))), LEVEL))


def _frozen(array: np.ndarray) -> np.ndarray:
    """The same array, not writable: it is shared by everyone who asks again."""
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array
