import struct
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from helpers.media_files import images, make_image, quadrants
from moca_avs.errors import MediaError
from moca_avs.io.image import read_image, read_indices, write_image

IMAGE = quadrants()


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp"])
def test_lossless_formats(tmp_path, ending):
    Image.fromarray(IMAGE).save(tmp_path / f"a.{ending}", lossless=True)
    found = read_image(tmp_path / f"a.{ending}")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, IMAGE)
    found[0] = 0  # it is ours to change


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    # What a camera held so stores for an upright image (EXIF 2.3, tag 0x0112).
    stored = {
        1: IMAGE,
        2: IMAGE[:, ::-1],
        3: IMAGE[::-1, ::-1],
        4: IMAGE[::-1],
        5: IMAGE.swapaxes(0, 1),
        6: np.rot90(IMAGE, 1),
        7: IMAGE[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(IMAGE, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), IMAGE)


def test_palette_and_gray(tmp_path):
    Image.fromarray(IMAGE).quantize(8).save(tmp_path / "p.gif")
    assert np.abs(read_image(tmp_path / "p.gif").astype(int) - IMAGE).max() <= 4
    Image.fromarray(IMAGE[..., 0]).save(tmp_path / "g.png")
    np.testing.assert_array_equal(read_image(tmp_path / "g.png"), np.repeat(IMAGE[..., :1], 3, 2))
    Image.fromarray(IMAGE[..., 0] > 100).save(tmp_path / "b.png")
    assert set(np.unique(read_image(tmp_path / "b.png"))) == {0, 255}


def test_transparency_is_put_on_black(tmp_path):
    alpha = np.dstack([IMAGE, np.full(IMAGE.shape[:2], 255, np.uint8)])
    alpha[:10, :, 3] = 0
    alpha[10:20, :, 3] = 128
    Image.fromarray(alpha).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png").astype(float)
    assert not found[:10].any()
    np.testing.assert_allclose(found[10:20], IMAGE[10:20] * (128 / 255), atol=1)
    np.testing.assert_array_equal(found[20:], IMAGE[20:])
    palette = Image.fromarray(IMAGE).quantize(8)
    index = palette.getpixel((0, 0))
    palette.save(tmp_path / "p.png", transparency=index)
    assert not read_image(tmp_path / "p.png")[0, 0].any()


def test_sixteen_bits_are_scaled(tmp_path):
    gray = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(gray * 257).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.repeat(gray[..., None], 3, 2))


def test_bad_images(tmp_path):
    with pytest.raises(MediaError, match="does not exist"):
        read_image(tmp_path / "missing.png")
    (tmp_path / "text.png").write_text("nothing to see")
    with pytest.raises(MediaError, match="not an image"):
        read_image(tmp_path / "text.png")
    rng = np.random.default_rng(0)
    path = write_image(tmp_path / "cut.png", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(MediaError, match="damaged"):
        read_image(path)


def test_a_decompression_bomb(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", IMAGE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", IMAGE.shape[0] * IMAGE.shape[1] // 3)
    with pytest.raises(MediaError, match="too many pixels"):
        read_image(tmp_path / "a.png")


def test_writing(tmp_path):
    np.testing.assert_array_equal(read_image(write_image(tmp_path / "new/a.png", IMAGE)), IMAGE)
    with pytest.raises(MediaError, match="must be uint8"):
        write_image(tmp_path / "a.png", IMAGE / 255)
    with pytest.raises(MediaError, match="image format"):
        write_image(tmp_path / "a.mp5", IMAGE)
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="can't be written"):
        write_image(tmp_path / "file/a.png", IMAGE)


def test_class_indices_are_read_untouched(tmp_path):
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(indices).save(tmp_path / "gray.png")
    palette = Image.fromarray(indices).convert("P")
    palette.putdata(indices.ravel().tolist())
    palette.save(tmp_path / "palette.png")
    for name in ("gray", "palette"):
        assert (read_indices(tmp_path / f"{name}.png") == indices).all()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "colors.png")
    with pytest.raises(MediaError, match=r"colors\.png should hold a class index per pixel.*mode RGB"):
        read_indices(tmp_path / "colors.png")
    (tmp_path / "broken.png").write_bytes(b"not an image")
    with pytest.raises(MediaError, match=r"broken\.png"):
        read_indices(tmp_path / "broken.png")


@pytest.mark.parametrize(("tag", "value"), [(257, 2_097_210), (256, 1_300_000), (257, 2_000_000)])
def test_headers_that_claim_far_more_than_the_file_can_hold(tmp_path, tag, value):
    path = tmp_path / "x.tif"
    make_image(path, images(1, 58, 77)[0])
    data = bytearray(path.read_bytes())
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    places = [directory + 2 + 12 * entry for entry in range(entries)]
    place = next(one for one in places if struct.unpack_from("<H", data, one)[0] == tag)
    struct.pack_into("<HII", data, place + 2, 4, 1, value)
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(MediaError, match="damaged"):
        read_image(path)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_pages_of_one_color_are_no_bombs(tmp_path):
    for name, mode in (("gray.png", "L"), ("bits.png", "1"), ("color.png", "RGB")):
        Image.new(mode, (6000, 3000), 1).save(tmp_path / name, optimize=True)
        assert read_image(tmp_path / name).shape == (3000, 6000, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_bands_make_no_difference(tmp_path, monkeypatch, mode):
    image = Image.fromarray(images(1, 37, 29)[0])
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.linear_gradient("L").resize((29, 37)))
    if mode == "I;16":
        image = Image.fromarray(np.arange(37 * 29, dtype=np.uint16).reshape(37, 29) * 60)
    path = tmp_path / ("x.tif" if mode in ("CMYK", "YCbCr", "I", "F") else "x.png")
    image.convert(mode).save(path)
    whole = read_image(path)
    monkeypatch.setattr("moca_avs.io.image._BAND_PIXELS", 29 * 5)
    assert whole.std() > 0
    assert (read_image(path) == whole).all()


@pytest.mark.parametrize(
    "error", [TypeError, KeyError, ZeroDivisionError, MemoryError, EOFError, struct.error]
)
def test_whatever_pillow_raises_on_damage_is_a_media_error(tmp_path, monkeypatch, error):
    def load(_):
        raise error("found by fuzzing")

    make_image(tmp_path / "x.png", images(1, 8, 8)[0])
    monkeypatch.setattr(PngImageFile, "load", load)
    with pytest.raises(MediaError, match="damaged"):
        read_image(tmp_path / "x.png")
