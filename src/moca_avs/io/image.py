"""Still images in and out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from moca_avs.errors import MediaError
from moca_avs.io.open import check_file
from moca_avs.utils.files import atomic_write


def read_image(path: str | Path) -> np.ndarray:
    """Any image Pillow reads, upright by its EXIF flag: uint8 [H, W, 3] RGB.

    Transparent parts are put on black; 16-bit gray is scaled; of an animation the first frame is taken.

    Raises:
        MediaError: missing, empty, damaged, far too large (a decompression bomb), or not an image.
    """
    with _opened(path) as image:
        return _rgb(ImageOps.exif_transpose(image))


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
                image.load()
                yield image
    except UnidentifiedImageError as error:
        raise MediaError(f"{path} is not an image that Pillow can read; save it as PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path} has too many pixels; make it smaller first ({error})") from error
    except (OSError, SyntaxError, ValueError) as error:
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
