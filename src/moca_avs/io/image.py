"""Still images: reading and writing them, heat in color, masks drawn on frames, sheets of labeled images."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from moca_avs.errors import MediaError
from moca_avs.io.frames import Planes
from moca_avs.io.open import check_file
from moca_avs.utils.files import atomic_write

# What Pillow and its decoders raise on damaged files.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError),
    *(EOFError, MemoryError, struct.error),
)
_LONGEST_SIDE = 65535  # pixels, as in JPEG; longer ones are damaged headers
_MOST_PIXELS = 9000  # per byte: a white page of one bit a pixel, at the most that deflate compresses
_BAND_PIXELS = 2**22


def read_image(path: str | Path) -> np.ndarray:
    """Any image Pillow reads, upright by its EXIF flag: uint8 [H, W, 3] RGB.

    Transparent parts are put on black; 16-bit gray is scaled; of an animation the first frame is taken.

    Raises:
        MediaError: missing, empty, damaged, far too large (a decompression bomb), or not an image.
    """
    with _opened(path) as image:
        ImageOps.exif_transpose(image, in_place=True)
        rgb = np.empty((image.height, image.width, 3), np.uint8)
        # In bands, so that the largest images take no more memory than twice their size.
        band = max(_BAND_PIXELS // image.width, 1)
        for top in range(0, image.height, band):
            bottom = min(top + band, image.height)
            rgb[top:bottom] = _rgb(image.crop((0, top, image.width, bottom)))
        return rgb


def read_indices(path: str | Path) -> np.ndarray:
    """An image whose values are class indices (gray or palette, 8 bit): uint8 [H, W], untouched.

    Raises:
        MediaError: as `read_image`; also for an image in colors.
    """
    with _opened(path) as image:
        if image.mode not in ("L", "P"):
            raise MediaError(
                f"{path} should hold a class index per pixel (8-bit gray or palette), found mode "
                f"{image.mode}; colors don't say which class they are"
            )
        return np.array(image)


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """An image, decoded; everything that may be wrong with it as a MediaError."""
    path = check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
                if max(width, height) > _LONGEST_SIDE or width * height > path.stat().st_size * _MOST_PIXELS:
                    raise MediaError(
                        f"{path} has {path.stat().st_size} bytes and says that they hold {width}x{height} "
                        "pixels: it is damaged; get the file again"
                    )
                image.load()
                yield image
    except UnidentifiedImageError as error:
        raise MediaError(f"{path} is not an image that Pillow can read; save it as PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path} has too many pixels; make it smaller first ({error})") from error
    except _DAMAGE as error:
        raise MediaError(f"{path} is a damaged image ({error}); get the file again") from error


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit gray
        gray = np.asarray(image).astype(np.float64) / 257
        return np.repeat(np.clip(gray.round(), 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(ground, image)
    return np.array(image.convert("RGB"))


def write_image(path: str | Path, image: np.ndarray) -> Path:
    """Write uint8 [H, W] or [H, W, 3] in the format its name says, whole or not at all.

    Raises:
        MediaError: another dtype or shape, or a place that can't be written.
    """
    path = Path(path)
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise MediaError(
            f"an image must be uint8 [H, W] or [H, W, 3], found {image.dtype} {list(image.shape)}"
        )
    form = Image.registered_extensions().get(path.suffix.lower())
    if form is None:
        raise MediaError(f"{path} must end in an image format such as .png or .jpg")
    with atomic_write(path) as partial:
        Image.fromarray(image).save(partial, format=form)
    return path


MASK_COLOR = (0, 200, 255)
_FILL, _EDGE = 96, 255  # opacity of a mask's inside and contour, of 256
_HEAT_OPACITY = 0.55
Box = tuple[slice, slice]
"""Rows and columns of an image."""
_INK, _PAPER, _GAP = (230, 230, 230), (24, 24, 27), 6


@lru_cache(maxsize=1)
def heat_table() -> np.ndarray:
    """256 colors whose lightness rises evenly, from dark violet over red to pale yellow: uint8 [256, 3].

    A straight rise of OKLab lightness (Ottosson 2020) along a turn of hue, so that equal steps of heat look
    equal and the image survives being printed in gray.
    """
    heat = np.linspace(0, 1, 256)
    lightness = 0.14 + 0.84 * heat
    chroma = 0.19 * np.sin(np.pi * np.clip(0.12 + 0.8 * heat, 0, 1)) ** 0.8
    hue = np.deg2rad(295 + 175 * heat)
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    to_cone = np.array([[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728],
                        [1, -0.0894841775, -1.2914855480]])  # fmt: skip
    to_linear = np.array([[4.0767416621, -3.3077115913, 0.2309699292],
                          [-1.2684380046, 2.6097574011, -0.3413193965],
                          [-0.0041960863, -0.7034186147, 1.7076147010]])  # fmt: skip
    linear = np.clip((lab @ to_cone.T) ** 3 @ to_linear.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb).astype(np.uint8)


def heat_colors(heat: np.ndarray) -> np.ndarray:
    """Heat in [0, 1], any float dtype [...]: uint8 [..., 3]. Values beyond are clipped."""
    steps = np.round(np.clip(heat.astype(np.float32), 0, 1) * 255).astype(np.uint8)
    return heat_table()[steps]


def resized(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear [h, w] -> float32 [height, width]."""
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


class Stencil:
    """One mask made ready to be drawn on many frames: bool [H, W]."""

    def __init__(self, mask: np.ndarray) -> None:
        self._box = _box(mask)
        if self._box is None:
            return
        opacity = _opacity(mask, self._box, _reach(mask))[..., None]
        self._keep = 256 - opacity
        self._paint = opacity * np.array(MASK_COLOR, np.uint16)

    def drawn(self, frame: np.ndarray) -> np.ndarray:
        """A copy of uint8 [H, W, 3] with the mask colored in; the frame itself where the mask is empty."""
        if self._box is None:
            return frame
        frame = frame.copy()
        _mix(frame, self._box, self._keep, self._paint)
        return frame


class PlaneStencil:
    """`Stencil` for the planes of yuv420p: bool [H, W]."""

    def __init__(self, mask: np.ndarray) -> None:
        self._parts: list[tuple[Box, np.ndarray, np.ndarray]] = []
        height, width = mask.shape
        padded = np.pad(mask, ((0, height % 2), (0, width % 2)), mode="edge")
        box = _box(padded)
        if box is None:
            return
        rows, columns = (slice(side.start // 2, (side.stop + 1) // 2) for side in box)
        twice = slice(2 * rows.start, 2 * rows.stop), slice(2 * columns.start, 2 * columns.stop)
        opacity = _opacity(padded, twice, _reach(mask))
        average = opacity[::2, ::2] + opacity[::2, 1::2] + opacity[1::2, ::2] + opacity[1::2, 1::2]
        average = (average + 2) >> 2
        luma, *chroma = _bt709(MASK_COLOR)
        for where, part, value in ((twice, opacity, luma), *(((rows, columns), average, c) for c in chroma)):
            paint = part * np.float32(value) + np.float32(128.5)  # half of 256, and to the nearest
            self._parts.append((where, 256 - part, paint.astype(np.uint16)))

    def paint(self, planes: Planes) -> None:
        """Color the mask in on planes of its size, made even; an empty mask changes nothing."""
        for plane, (where, keep, paint) in zip(planes, self._parts, strict=False):
            _mix(plane, where, keep, paint)


def _mix(image: np.ndarray, where: Box, keep: np.ndarray, paint: np.ndarray) -> None:
    """Keep so many 256ths of a box of uint8 [H, W, ...] and add paint, in place; both uint16."""
    mixed = image[where] * keep
    mixed += paint
    mixed >>= 8
    image[where] = mixed


def _box(mask: np.ndarray) -> Box | None:
    """What of bool [H, W] holds every True; None without one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if rows.size == 0:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _reach(mask: np.ndarray) -> int:
    """How thick a mask's contour is, in pixels."""
    return max(1, round(min(mask.shape) / 240))


def _opacity(mask: np.ndarray, box: Box, reach: int) -> np.ndarray:
    """Of 256, uint16 [h, w] of a box of bool [H, W]: of a mask's inside, of its contour, 0 elsewhere."""
    rows, columns = (slice(side.start, side.stop + 2 * reach) for side in box)
    # The image's own border is no contour: outside counts as inside.
    inside = np.pad(mask, reach, mode="edge")[rows, columns]
    for _ in range(2):  # the least of (2 reach + 1) x (2 reach + 1) pixels: along columns, then along rows
        length = len(inside) - 2 * reach
        inside = np.logical_and.reduce([inside[step : step + length] for step in range(2 * reach + 1)]).T
    return np.where(inside, np.uint16(_FILL), np.uint16(_EDGE)) * mask[box]


def _bt709(color: tuple[int, int, int]) -> tuple[float, float, float]:
    """Y, U, V of limited range (ITU-R BT.709) of an RGB color 0..255."""
    red, green, blue = (value / 255 for value in color)
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return 16 + 219 * y, 128 + 224 * (blue - y) / 1.8556, 128 + 224 * (red - y) / 1.5748


def overlay(frame: np.ndarray, mask: np.ndarray | None, heat: np.ndarray | None = None) -> np.ndarray:
    """Draw heat (under) and a mask (over) on a frame.

    Args:
        frame: uint8 [H, W, 3].
        mask: bool [H, W], filled and outlined; None: no mask.
        heat: [h, w] in [0, 1], any size, stretched over the frame; None: no heat.

    Returns:
        uint8 [H, W, 3], never `frame` itself.

    Raises:
        MediaError: where the mask's size is not the frame's.
    """
    drawn = frame.copy()
    if heat is not None:
        colors = heat_colors(resized(heat, *frame.shape[:2])).astype(np.float32)
        drawn = np.round(frame + (colors - frame) * _HEAT_OPACITY).astype(np.uint8)
    if mask is None:
        return drawn
    if mask.shape != frame.shape[:2]:
        raise MediaError(f"the mask must have its frame's size {frame.shape[:2]}, found {mask.shape}")
    return Stencil(mask).drawn(drawn)


def contact_sheet(
    rows: Sequence[Sequence[tuple[np.ndarray, str]]], cell: int = 192, headings: Sequence[str] = ()
) -> np.ndarray:
    """Rows of labeled images on one sheet: uint8 [H, W, 3].

    Args:
        rows: rows of (image uint8 [h, w, 3] or [h, w] or bool [h, w], caption); rows may differ in length.
        cell: side of the square each image is fitted into, in pixels.
        headings: above the columns; none: no heading line.
    """
    if not rows or not any(rows):
        raise MediaError("a contact sheet needs at least one image")
    font = ImageFont.load_default(size=max(10, cell // 14))
    line = int(font.getbbox("Ag")[3]) + 4
    columns = max(len(headings), *(len(row) for row in rows))
    cells = [[(_thumbnail(image, cell), caption) for image, caption in row] for row in rows]
    heights = [max((tile.height for tile, _ in row), default=0) + line + _GAP for row in cells]
    top = (line if headings else 0) + _GAP
    sheet = Image.new("RGB", (columns * (cell + _GAP) + _GAP, top + sum(heights)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(headings):
        draw.text((_GAP + column * (cell + _GAP), 2), _fitted(heading, font, cell), _INK, font)
    for row, height in zip(cells, heights, strict=True):
        for column, (tile, caption) in enumerate(row):
            left = _GAP + column * (cell + _GAP)
            sheet.paste(tile, (left + (cell - tile.width) // 2, top))
            draw.text((left, top + height - line - _GAP), _fitted(caption, font, cell), _INK, font)
        top += height
    return np.array(sheet)


def _thumbnail(image: np.ndarray, cell: int) -> Image.Image:
    if image.dtype == bool:
        image = image * np.uint8(255)
    tile = Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
    scale = cell / max(tile.size)
    size = (max(round(tile.width * scale), 1), max(round(tile.height * scale), 1))
    return tile.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, shortened with an ellipsis where it is wider than its column."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
