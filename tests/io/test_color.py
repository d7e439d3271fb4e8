"""10 bits are rounded; HDR comes back as the SDR picture that it was made of; SDR stays as it is."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from helpers.raw_videos import make_raw_video, raw_frame
from moca_avs.errors import MediaError
from moca_avs.io.color import HLG, KNEE, PQ, sdr_code
from moca_avs.io.frames import ToGray, ToPlanes, ToRGB, planes_of, shown_frames
from moca_avs.io.image import read_image
from moca_avs.io.open import MediaWarning
from moca_avs.io.overlay import OverlayWriter
from moca_avs.io.video import read_clip

BT2020 = {"colorspace": 9, "color_primaries": 9, "color_range": 1}
KR, KB = 0.2627, 0.0593


def primaries_to_xyz(red, green, blue, white=(0.3127, 0.3290)):
    """The matrix of linear RGB to XYZ by the chromaticities of its primaries (SMPTE RP 177)."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (red, green, blue)]).T
    whole = np.array([white[0] / white[1], 1, (1 - white[0] - white[1]) / white[1]])
    return columns * np.linalg.solve(columns, whole)


FROM_709 = np.linalg.solve(
    primaries_to_xyz((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    primaries_to_xyz((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
)


def hdr_code(sdr, transfer):
    """SDR code [..., 3] in [0, 1] to HDR's, its white at 203 nits: BT.2100's formulas the other way round."""
    nits = 203 * (sdr**2.4) @ FROM_709.T
    if transfer == PQ:
        power = (nits / 10000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    luminance = (nits @ [KR, 1 - KR - KB, KB])[..., None] / 1000
    scene = nits / 1000 * np.maximum(luminance, 1e-12) ** (1 / 1.2 - 1)
    low, high = (
        np.sqrt(3 * scene),
        0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073,
    )
    return np.where(scene <= 1 / 12, low, high)


def bt2020_planes(code):
    """R'G'B' [H, W, 3] in [0, 1] to limited 10-bit Y, U, V: uint16 [H, W] each."""
    red, _, blue = np.moveaxis(code, -1, 0)
    y = code @ [KR, 1 - KR - KB, KB]
    u, v = (blue - y) / (2 - 2 * KB), (red - y) / (2 - 2 * KR)
    return [np.round(one).astype(np.uint16) for one in (64 + 876 * y, 512 + 896 * u, 512 + 896 * v)]


def picture(height=24, width=64, most=0.85):
    """Colors that change slowly, below the knee: float64 [H, W, 3] in [0, 1]."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    return np.stack([0.1 + 0.7 * x, 0.15 + y, most - 0.4 * x - 0.3 * y], -1)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_comes_back_as_the_sdr_picture_that_it_was_made_of(tmp_path, transfer):
    sdr = picture()
    planes = bt2020_planes(hdr_code(sdr, transfer))
    tags = BT2020 | {"color_trc": transfer}
    path = make_raw_video(tmp_path / "hdr.mkv", [planes] * 3, "yuv444p10le", tags=tags)
    frame = read_clip(path).frames[0].astype(float)
    assert np.abs(frame - 255 * sdr).mean() < 1
    # The least channel of a saturated color is a small difference of large numbers.
    assert np.percentile(np.abs(frame - 255 * sdr), 99) < 4
    with OverlayWriter(tmp_path / "overlay.mp4", path) as writer:
        writer.add(0.0, np.zeros(sdr.shape[:2], bool))
    overlay = read_clip(tmp_path / "overlay.mp4").frames[0].astype(float)
    assert np.abs(overlay - 255 * sdr).mean() < 3


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_grays_stay_gray_and_in_order(transfer):
    levels = np.arange(64, 941, dtype=np.uint16)[None].repeat(2, 0)
    middle = np.full_like(levels, 512)
    frame = raw_frame([levels, middle, middle], "yuv444p10le", **BT2020, color_trc=transfer)
    gray = ToRGB()(frame)[0].astype(int)
    assert np.ptp(gray, axis=-1).max() == 0
    assert (np.diff(gray[:, 0]) >= 0).all()
    assert gray[0, 0] == 0
    assert gray[-1, 0] >= 252
    wanted = 255 * sdr_code(np.repeat((levels[0] - 64)[:, None] / 876, 3, 1), transfer)[:, 0]
    assert np.abs(gray[:, 0] - wanted).max() <= 2
    luma = ToPlanes()(frame)[0][0].astype(int)
    assert np.abs(luma - (16 + 219 * wanted / 255)).max() <= 2


def test_published_levels():
    """BT.2408: 75 % HLG and 58 % PQ are the reference white, 203 nits; 38 % of both is 26 nits, gray."""
    for transfer, white, gray in ((HLG, 0.75, 0.38), (PQ, 0.5807, 0.3793)):
        codes = 255 * sdr_code(np.array([[white] * 3, [gray] * 3]), transfer)[:, 0]
        assert 235 <= codes[0] <= 250  # near white, room above it
        assert codes[1] == pytest.approx(255 * (26 / 203) ** (1 / 2.4), abs=2)
    assert sdr_code(np.ones((1, 3)), PQ).max() == pytest.approx(1)
    assert sdr_code(np.zeros((1, 3)), HLG).max() == 0
    assert 0 < KNEE < 1


def test_small_gray_frames_are_tone_mapped_too():
    sdr = np.full((32, 64, 3), 0.5)
    frames = [
        raw_frame(bt2020_planes(hdr_code(sdr, transfer)), "yuv444p10le", **BT2020, color_trc=transfer)
        for transfer in (PQ, HLG)
    ]
    for frame in frames:
        gray = ToGray(16)(frame)
        assert gray.shape == (8, 16)
        assert np.abs(gray.astype(int) - 127.5).max() <= 2


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("matrix", "kr", "kb"), [(1, 0.2126, 0.0722), (5, 0.299, 0.114), (9, KR, KB), (2, 0.299, 0.114)]
)
@pytest.mark.parametrize("bits", [10, 12])
def test_ten_bits_are_rounded_by_their_matrix_and_range(bits, matrix, kr, kb, full):
    rng = np.random.default_rng(0)
    rgb = rng.uniform(0.05, 0.95, (16, 256, 3))
    y = rgb @ [kr, 1 - kr - kb, kb]
    u, v = (rgb[..., 2] - y) / (2 - 2 * kb), (rgb[..., 0] - y) / (2 - 2 * kr)
    one, half = 2**bits - 1, 2 ** (bits - 1)
    scale = one if full else 219 * 2 ** (bits - 8)
    chroma = one if full else 224 * 2 ** (bits - 8)
    planes = [(0 if full else 16 * 2 ** (bits - 8)) + scale * y, half + chroma * u, half + chroma * v]
    planes = [np.round(plane).astype(np.uint16) for plane in planes]
    frame = raw_frame(planes, f"yuv444p{bits}le", colorspace=matrix, color_range=1 + full)
    error = ToRGB()(frame) - 255 * rgb
    # Rounded, not cut; of full range FFmpeg's scaler divides by a power of two, 1023 of 1023 becomes 255.75.
    assert np.abs(error).max() < (1.5 if full else 1)
    assert np.abs(error.mean((0, 1))).max() < (0.55 if full else 0.05)


def test_frames_may_change_on_the_way():
    middle = [np.full((8, 12), value, np.uint16) for value in (500, 512, 512)]
    hdr = raw_frame(middle, "yuv444p10le", **BT2020, color_trc=HLG)
    sdr = raw_frame([plane // 4 for plane in middle], "yuv444p10le", colorspace=1)
    small = raw_frame([plane[:4, :6] for plane in middle], "yuv444p10le", **BT2020, color_trc=PQ)
    convert, planes = ToRGB(), ToPlanes()
    for frame in (hdr, sdr, small, hdr):
        assert convert(frame).shape == (8, 12, 3)
        assert planes(frame)[0].shape == (8, 12)
    assert (convert(hdr) == ToRGB()(hdr)).all()


def test_constant_luminance_and_matrices_nobody_knows_are_read_all_the_same():
    planes = [np.full((8, 12), value, np.uint16) for value in (500, 512, 512)]
    for matrix in (8, 10, 14):
        gray = ToRGB()(raw_frame(planes, "yuv444p10le", colorspace=matrix, color_range=1))
        assert np.abs(gray.astype(int) - 127).max() <= 2


def test_ordinary_frames_are_converted_as_ever():
    rng = np.random.default_rng(1)
    planes = [rng.integers(16, 236, shape).astype(np.uint8) for shape in ((32, 64), (16, 32), (16, 32))]
    frame = raw_frame(planes, colorspace=1, color_range=1)
    assert (ToRGB()(frame) == frame.reformat(format="rgb24", threads=1).to_ndarray()).all()
    for found, given in zip(ToPlanes()(frame), planes_of(frame), strict=True):
        assert np.shares_memory(found, given)


def ycgco(rgb, full, bits):
    """RGB [H, W, 3] in [0, 1] to the planes of H.273's matrix 8."""
    most = 2 ** (bits - 8)
    red, green, blue = np.moveaxis(255 * most * rgb if full else most * (16 + 219 * rgb), -1, 0)
    planes = (
        (red + 2 * green + blue) / 4,
        (2 * green - red - blue) / 4 + 128 * most,
        (red - blue) / 2 + 128 * most,
    )
    return [np.round(plane).astype(np.uint8 if bits == 8 else np.uint16) for plane in planes]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
def test_ycgco_is_read_by_its_formulas(bits, full):
    rgb = np.random.default_rng(0).uniform(0.05, 0.95, (32, 48, 3))
    form = "yuv444p" if bits == 8 else "yuv444p10le"
    frame = raw_frame(ycgco(rgb, full, bits), form, colorspace=8, color_range=1 + full)
    for _ in range(2):  # the frame stays what it was
        found = ToRGB()(frame)
        assert np.abs(found - 255 * rgb).max() <= 3
    flat = raw_frame(ycgco(np.full((32, 48, 3), 0.5), full, bits), form, colorspace=8, color_range=1 + full)
    assert np.abs(ToGray(16)(flat).astype(int) - 127.5).max() <= 2
    assert np.abs(ToPlanes()(flat)[0].astype(int) - (16 + 219 * 0.5)).max() <= 2


@pytest.mark.parametrize("form", ["yuv420p", "yuv444p10le"])
@pytest.mark.parametrize("matrix", [3, 10, 11, 12, 13, 14, 15, 17])
def test_matrices_nobody_knows_are_guessed(form, matrix):
    level = 126 if form == "yuv420p" else 504
    kind, side = (np.uint8, (4, 6)) if form == "yuv420p" else (np.uint16, (8, 12))
    chroma = np.full(side, 128 if form == "yuv420p" else 512, kind)
    planes = [np.full((8, 12), level, kind), chroma, chroma]
    for convert in (ToRGB(), ToGray(16), lambda frame: ToPlanes()(frame)[0] * 255.0 / 219 - 18.6):
        try:
            frame = raw_frame(planes, form, colorspace=matrix, color_range=1)
        except (ValueError, KeyError):
            pytest.skip("PyAV does not set this matrix")
        assert np.abs(convert(frame).astype(int) - 128).max() <= 2


def test_a_guessed_matrix_is_told(tmp_path):
    planes = [np.full((8, 12), 126, np.uint8), *[np.full((4, 6), 128, np.uint8)] * 2]
    path = make_raw_video(tmp_path / "a.mkv", [planes] * 3, tags={"colorspace": 12})
    with pytest.warns(MediaWarning, match="matrix"):
        assert np.abs(read_clip(path).frames.astype(int) - 128).max() <= 1


def test_a_pixel_format_that_nothing_converts_is_named():
    frame = av.VideoFrame(16, 8, "rgb4")
    for convert in (ToRGB(), ToGray(16), ToPlanes()):
        with pytest.raises(MediaError, match="rgb4"):
            convert(frame)


@pytest.mark.parametrize(
    ("codec", "form", "ending"), [("png", "rgba", "mov"), ("qtrle", "argb", "mov"), ("ffv1", "bgra", "mkv")]
)
def test_transparent_parts_are_on_black_as_in_images(tmp_path, codec, form, ending):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 96, 4), np.uint8)
    pixels[:8, :, 3], pixels[8:16, :, 3] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    path = tmp_path / f"a.{ending}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 96, form
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=form)
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found, expected = read_clip(path).frames[0], read_image(tmp_path / "a.png")
    assert (expected[:8] == 0).all()
    assert (expected[8:16] == pixels[8:16, :, :3]).all()
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found != expected).mean() < 0.01
    assert (ToPlanes()(next(shown_frames(path)).raw)[0][:8] == 16).all()
