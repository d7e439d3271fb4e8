"""Colors of decoded frames beyond 8-bit SDR: more bits are rounded, HDR is tone-mapped to BT.709.

What a file says of its matrix and range is respected. Where it says nothing the matrix is BT.601 and the
range limited, as in FFmpeg; of HDR the matrix is BT.2020. YCgCo is read by its own formulas, any other matrix
that FFmpeg's scaler lacks as if the file said nothing. Transparent parts are put on black, except of HDR.

HDR keeps its light up to three quarters of the reference white (ITU-R BT.2408: 203 nits, 75 % of HLG); what
is brighter is compressed into the rest, so that whites are near white and no two brightnesses become one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from moca_avs.errors import MediaError

PQ, HLG = 16, 18
"""Transfer curves by their numbers in ITU-T H.273: SMPTE ST 2084, and ARIB STD-B67."""
WHITE = 203.0
"""Nits of HDR's reference white (BT.2408)."""
HLG_PEAK = 1000.0
"""Nits of the display that HLG is shown on."""
PQ_PEAK = 10000.0
"""Nits of the highest PQ value."""
KNEE = 0.75
"""Share of the reference white up to which light is kept as it is."""
DISPLAY_GAMMA = 2.4
"""Of an SDR display (ITU-R BT.1886)."""

_LUMINANCE_2020 = np.array([0.2627, 0.6780, 0.0593])
# Linear light: BT.2020 primaries to BT.709's (ITU-R BT.2407).
_TO_BT709 = np.array([[1.660491, -0.587641, -0.072850],
                      [-0.124550, 1.132900, -0.008350],
                      [-0.018151, -0.100579, 1.118730]])  # fmt: skip
_NODES = 65  # per side of the table; between them it is interpolated
_BT2020, _BT2020_CONSTANT, _UNSPECIFIED, _YCGCO = 9, 10, 2, 8
_SCALABLE = {0, 1, 2, 4, 5, 6, 7, 9}  # matrices (H.273) that FFmpeg's scaler knows
# Without these flags FFmpeg's scaler loses up to 2.5 of 255 levels of a 10-bit picture.
_EXACT = "accurate_rnd+full_chroma_int"

Filter = tuple[str, dict[str, str]]
"""The name and options of one of FFmpeg's filters."""


def filter_graph(frame: Any, filters: Sequence[Filter]) -> Any:
    """FFmpeg filters in a row, for frames like this one (PyAV's `Graph`: `vpush` frames, `vpull` results)."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 90000)
    )
    graph.link_nodes(
        source, *(graph.add(name, **options) for name, options in filters), graph.add("buffersink")
    )
    try:
        graph.configure()
    except (av.error.FFmpegError, ValueError) as error:
        raise _unconvertible(frame, error) from error
    return graph


def is_hdr(frame: Any) -> bool:
    """Whether a frame's brightness follows PQ or HLG."""
    return frame.color_trc in (PQ, HLG)


def is_deep(frame: Any) -> bool:
    """Whether a frame is HDR or has more than 8 bits a channel: `DeepConverter` must convert it."""
    return is_hdr(frame) or any(component.bits > 8 for component in frame.format.components)


def is_guessed(frame: Any) -> bool:
    """Whether a frame's matrix is one that can only be guessed: not known to FFmpeg's scaler, not YCgCo."""
    return not frame.format.is_rgb and frame.colorspace not in (*_SCALABLE, _YCGCO)


def scaled(reformatter: VideoReformatter, frame: Any, **wanted: Any) -> Any:
    """A frame by FFmpeg's scaler, in one thread.

    Transparent parts are put on black. A matrix that it lacks is read as BT.601 (BT.2020 with constant
    luminance as BT.2020), YCgCo by its own formulas.

    Raises:
        MediaError: where it can't convert the pixel format.
    """
    try:
        if not frame.format.is_rgb and frame.colorspace not in _SCALABLE:
            if frame.colorspace == _YCGCO:
                frame = _from_ycgco(reformatter, frame)
            else:
                frame.colorspace = _BT2020 if frame.colorspace == _BT2020_CONSTANT else _UNSPECIFIED
        return reformatter.reformat(on_black(reformatter, frame), threads=1, **wanted)
    except (av.error.FFmpegError, ValueError) as error:
        raise _unconvertible(frame, error) from error


def on_black(reformatter: VideoReformatter, frame: Any) -> Any:
    """A frame with transparent parts on black, as images are read: rgb24; the frame itself without any."""
    if not (frame.format.name == "pal8" or any(one.is_alpha for one in frame.format.components)):
        return frame
    rgba = reformatter.reformat(frame, format="rgba", threads=1).to_ndarray()
    if rgba[..., 3].min() == 255:
        return frame
    product: Any = rgba[..., :3] * rgba[..., 3:].astype(np.uint16) + np.uint16(128)
    rgb = ((product + (product >> 8)) >> 8).astype(np.uint8)  # divided by 255, to the nearest
    return av.VideoFrame.from_ndarray(rgb, format="rgb24")


def _unconvertible(frame: Any, error: Exception) -> MediaError:
    form = frame.format.name
    return MediaError(f"FFmpeg can't convert images of the pixel format {form} ({error}); save as yuv420p")


def _from_ycgco(reformatter: VideoReformatter, frame: Any) -> Any:
    """YCgCo (ITU-T H.273, matrix 8) to rgb24 of the same size."""
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    frame.colorspace = _UNSPECIFIED  # from YUV to YUV values stay
    same = ColorRange.JPEG if full else ColorRange.MPEG
    whole: Any = reformatter.reformat(
        frame, format="yuv444p", src_color_range=same, dst_color_range=same, threads=1
    )
    frame.colorspace = _YCGCO
    y, green, orange = (
        np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width].astype(np.int16)
        for plane in whole.planes
    )
    green, orange = green - 128, orange - 128
    rgb = np.stack([y - green + orange, y + green, y - green - orange], -1).astype(np.float32)
    if not full:
        rgb = (rgb - 16) * (255 / 219)
    return av.VideoFrame.from_ndarray(rgb.round().clip(0, 255).astype(np.uint8), format="rgb24")


class DeepConverter:
    """Turns frames that are `is_deep` into 8-bit SDR frames of another size and form."""

    def __init__(self) -> None:
        self._graph: Any = None
        self._kind: Any = None
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any, width: int, height: int, form: str, method: str = "bilinear") -> Any:
        """A frame of width x height.

        Args:
            frame: decoded.
            width: wanted, in pixels.
            height: wanted, in pixels.
            form: "rgb24", "gray" (full range) or "yuv420p" (BT.709, limited range).
            method: of FFmpeg's scaler.
        """
        if frame.colorspace == _YCGCO and not frame.format.is_rgb and not is_hdr(frame):
            frame = _from_ycgco(self._reformatter, frame)
        if not is_hdr(frame):
            frame = on_black(self._reformatter, frame)
        coded = frame.width, frame.height, frame.format.name
        kind = coded, frame.colorspace, frame.color_range, frame.color_trc, width, height, form
        if kind != self._kind:
            with tempfile.TemporaryDirectory() as folder:  # the filter reads its table while it is made
                filters = _to_sdr(frame, width, height, form, method, Path(folder) / "table.cube")
                self._graph, self._kind = filter_graph(frame, filters), kind
        self._graph.vpush(frame)
        return self._graph.vpull()


def _to_sdr(frame: Any, width: int, height: int, form: str, method: str, table: Path) -> list[Filter]:
    """The filters of `DeepConverter`; writes the table that they need."""
    filters: list[Filter] = []
    hdr, matrix = is_hdr(frame), frame.colorspace
    if not frame.format.is_rgb and (matrix not in _SCALABLE or (hdr and matrix == _UNSPECIFIED)):
        wide = hdr or matrix == _BT2020_CONSTANT
        filters.append(("setparams", {"colorspace": "bt2020nc" if wide else "unknown"}))
    sized, exact = {"w": str(width), "h": str(height), "flags": f"{method}+{_EXACT}"}, {"flags": _EXACT}
    if hdr:
        table.write_text(_cube(frame.color_trc), "ascii")
        # By way of x2rgb10: from YUV to planes of RGB FFmpeg's scaler does not round but loses 0.3 %.
        filters += [("scale", sized), ("format", {"pix_fmts": "x2rgb10le"}), ("scale", exact)]
        filters += [("format", {"pix_fmts": "gbrp10le"}), ("lut3d", {"file": str(table)})]
        sized = exact
    if form != "rgb24":
        sized = {**sized, "out_color_matrix": "bt709", "out_range": "full" if form == "gray" else "limited"}
    return [*filters, ("scale", sized), ("format", {"pix_fmts": form})]


@lru_cache(maxsize=2)
def _cube(transfer: int) -> str:
    """The table of `sdr_code` as FFmpeg's lut3d reads it: red runs fastest."""
    steps = np.linspace(0, 1, _NODES)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    # From 10 to 8 bits FFmpeg's scaler divides by 4: 255 of 255 is 1020 of 1023.
    codes = sdr_code(np.stack([red, green, blue], -1).reshape(-1, 3), transfer) * (1020 / 1023)
    return f"LUT_3D_SIZE {_NODES}\n" + "\n".join(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in codes.tolist())


def sdr_code(code: np.ndarray, transfer: int) -> np.ndarray:
    """HDR's R'G'B' in SDR: [..., 3] in [0, 1] -> float64 [..., 3] in [0, 1].

    Args:
        code: by `transfer`, with BT.2020 primaries.
        transfer: `PQ` or `HLG`.

    Returns:
        BT.709 primaries, for a display of gamma 2.4. What BT.709 can't show is clipped; hues are kept
        otherwise, since all channels are compressed by what the brightest one needs.
    """
    light = np.maximum(display_light(code, transfer) / WHITE @ _TO_BT709.T, 0)
    brightest = light.max(-1, keepdims=True)
    return (light * (_compressed(brightest) / np.maximum(brightest, 1e-9))).clip(0, 1) ** (1 / DISPLAY_GAMMA)


def display_light(code: np.ndarray, transfer: int) -> np.ndarray:
    """Nits that a display shows (ITU-R BT.2100): R'G'B' [..., 3] in [0, 1] -> float64 [..., 3]."""
    code = np.asarray(code, np.float64)
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = code ** (1 / m2)
        light: np.ndarray = PQ_PEAK * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
        return light
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return HLG_PEAK * scene * (scene @ _LUMINANCE_2020)[..., None] ** 0.2


def _compressed(light: np.ndarray) -> np.ndarray:
    """Light in reference whites, up to PQ's peak, into [0, 1]: Reinhard's curve above the knee."""
    above, most = (np.maximum(one - KNEE, 0) / (1 - KNEE) for one in (light, PQ_PEAK / WHITE))
    return np.minimum(light, KNEE) + (1 - KNEE) * above * (1 + above / most**2) / (1 + above)
