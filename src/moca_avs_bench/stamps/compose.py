"""Composites: cut-outs on a background, with masks of what stays visible. Seeded and pure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

COVER = (0.03, 0.15)
"""Smallest and largest part of the image that an object covers (thin or tiny objects may cover less)."""

OCCLUSION = 0.25
"""Largest part of an object that others may hide."""

_LARGEST_SIDE, _LARGEST_ZOOM = 0.7, 3.0
_TRIES = 40
_BLUR = 12  # pixels around a shadow


@dataclass(frozen=True, eq=False)
class Placed:
    """A cut-out made ready: its pixels and where its top left corner lies in each frame.

    Attributes:
        rgba: float32 [h, w, 4], colors in [0, 255] and alpha in [0, 1].
        corners: int64 [T, 2], (y, x) in each frame; may lie outside the image.
        shadow: how much its shadow darkens the ground, in [0, 1]; 0 is none.
    """

    rgba: np.ndarray
    corners: np.ndarray
    shadow: float


def compose_scene(
    background: np.ndarray,
    objects: Sequence[np.ndarray],
    rng: np.random.Generator,
    size: int = 384,
    frames: int = 1,
    moving: bool = False,
    cover: tuple[float, float] = COVER,
) -> tuple[np.ndarray, np.ndarray]:
    """Put cut-outs on a background.

    Args:
        background: uint8 [h, w, 3].
        objects: uint8 [h, w, 4] each; later ones lie in front.
        rng: source of every choice.
        size: side of the image, in pixels.
        frames: T.
        moving: whether objects drift along a straight path.
        cover: smallest and largest part of the image that an object covers.

    Returns:
        Frames uint8 [T, size, size, 3] and masks bool [N, T, size, size]: alpha above .5 and not hidden.
    """
    ground = _ground(background, rng, size)
    placed: list[Placed] = []
    for rgba in objects:
        ready = _prepare(rgba, rng, size, cover)
        ready = _harmonize(ready, ground, rng)
        corners = _place(ready[..., 3], placed, rng, size, frames, moving)
        placed.append(Placed(ready, corners, float(rng.uniform(0.1, 0.35)) if rng.random() < 0.5 else 0.0))
    finish = _Finish.draw(rng, size)
    out: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    for t in range(frames):
        if t and not moving:
            out.append(out[0])
            masks.append(masks[0])
            continue
        image, mask = _render(ground, placed, t)
        out.append(finish(image))
        masks.append(mask)
    return np.stack(out), np.stack(masks, axis=1)


def plain_ground(rng: np.random.Generator, size: int = 384) -> np.ndarray:
    """A background of one color with a soft gradient: uint8 [size, size, 3]."""
    color, other = rng.uniform(20, 235, 3), rng.uniform(-30, 30, 3)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    slope = (np.cos(angle) * x + np.sin(angle) * y)[..., None]
    return np.clip(color + slope * other, 0, 255).astype(np.uint8)


def _ground(background: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """A random square of the background, maybe mirrored and a little brighter: float32 [size, size, 3]."""
    side = int(min(background.shape[:2]) * rng.uniform(0.6, 1.0))
    y, x = (int(rng.integers(length - side + 1)) for length in background.shape[:2])
    square = Image.fromarray(background[y : y + side, x : x + side])
    ground = np.asarray(square.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    if rng.random() < 0.5:
        ground = ground[:, ::-1]
    return np.clip(ground * rng.uniform(0.85, 1.1), 0, 255)


def _prepare(rgba: np.ndarray, rng: np.random.Generator, size: int, cover: tuple[float, float]) -> np.ndarray:
    """Scale, mirror and turn a cut-out: float32 [h, w, 4] with alpha in [0, 1]."""
    wanted = (cover[0] + (cover[1] - cover[0]) * rng.beta(1.4, 2.4)) * size**2
    zoom = np.sqrt(wanted / max(int((rgba[..., 3] > 127).sum()), 1))
    if cover == COVER:
        zoom = min(zoom, _LARGEST_ZOOM, _LARGEST_SIDE * size / max(rgba.shape[:2]))
    else:  # large objects: coarse or cut off at the edges, as they come in videos
        zoom = min(zoom, 2 * _LARGEST_ZOOM, 2 * _LARGEST_SIDE * size / max(rgba.shape[:2]))
    if rng.random() < 0.5:
        rgba = rgba[:, ::-1]
    angle = rng.uniform(-12, 12)
    shape = (max(round(rgba.shape[1] * zoom), 4), max(round(rgba.shape[0] * zoom), 4))
    image = Image.fromarray(np.ascontiguousarray(rgba))  # Pillow premultiplies: no dark fringes
    image = image.resize(shape, Image.Resampling.BICUBIC if zoom > 1 else Image.Resampling.BOX)
    out = np.array(image.rotate(angle, Image.Resampling.BICUBIC, expand=True), dtype=np.float32)
    out[..., 3] /= 255
    return out


def _harmonize(rgba: np.ndarray, ground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and tint a little off, and a little towards the ground's mean color."""
    color = rgba[..., :3]
    mean = np.average(color.reshape(-1, 3), axis=0, weights=rgba[..., 3].ravel() + 1e-6)
    color = (color - mean) * rng.uniform(0.85, 1.1) + mean * rng.uniform(0.85, 1.1)
    color = color * rng.uniform(0.96, 1.04, 3)
    blend = rng.uniform(0, 0.12)
    color = color * (1 - blend) + ground.mean(axis=(0, 1)) * blend
    return np.concatenate([np.clip(color, 0, 255), rgba[..., 3:]], axis=2).astype(np.float32)


def _place(
    alpha: np.ndarray, placed: list[Placed], rng: np.random.Generator, size: int, frames: int, moving: bool
) -> np.ndarray:
    """Corners [T, 2] where the object lies in the image and hides none of the others by more than allowed.

    After `_TRIES` random places the one that hides least is taken.
    """
    best, least = None, np.inf
    for _ in range(_TRIES):
        corners = _path(alpha.shape, rng, size, frames, moving)
        hidden = max(_hidden(alpha, corners[t], placed, t, size) for t in range(frames if moving else 1))
        if hidden < least:
            best, least = corners, hidden
        if least <= OCCLUSION:
            break
    return best  # type: ignore[return-value]  # the first try always sets it


def _path(
    shape: tuple[int, ...], rng: np.random.Generator, size: int, frames: int, moving: bool
) -> np.ndarray:
    """A place (a tenth may lie outside, or what is larger than the image) and a drift: int64 [T, 2]."""
    inside, outside = -0.1 * np.array(shape[:2]), size - 0.9 * np.array(shape[:2])
    low, high = np.minimum(inside, outside), np.maximum(inside, outside)
    start = rng.uniform(low, high)
    end = np.clip(start + rng.uniform(-0.25, 0.25, 2) * size, low, high) if moving else start
    steps = np.linspace(0, 1, frames)[:, None]
    return np.rint(start + (end - start) * steps).astype(np.int64)


def _hidden(alpha: np.ndarray, corner: np.ndarray, placed: list[Placed], t: int, size: int) -> float:
    """Largest part of any object placed so far that is hidden once this one lies at `corner`."""
    cover = np.zeros((size, size), bool)
    _paste(cover, alpha > 0.5, corner)
    worst = 0.0
    for other in reversed(placed):
        own = np.zeros_like(cover)
        _paste(own, other.rgba[..., 3] > 0.5, other.corners[t])
        worst = max(worst, float((own & cover).sum() / max(own.sum(), 1)))
        cover |= own
    return worst


def _render(ground: np.ndarray, placed: list[Placed], t: int) -> tuple[np.ndarray, np.ndarray]:
    """One image float32 [H, W, 3] and visible masks bool [N, H, W]."""
    image = ground.copy()
    masks = np.zeros((len(placed), *ground.shape[:2]), bool)
    for index, item in enumerate(placed):
        color, alpha = item.rgba[..., :3], item.rgba[..., 3:]
        if item.shadow:  # soft, a little below and beside the object
            wide = Image.fromarray(np.pad(alpha[..., 0] * item.shadow * 255, _BLUR).astype(np.uint8))
            soft = np.asarray(wide.filter(ImageFilter.GaussianBlur(5)), np.float32)[..., None] / 255
            (y, x), (v, u) = _overlap(image.shape, soft.shape, item.corners[t] - _BLUR + (6, 4))
            image[y, x] *= 1 - soft[v, u]
        (y, x), (v, u) = _overlap(image.shape, alpha.shape, item.corners[t])
        image[y, x] = image[y, x] * (1 - alpha[v, u]) + color[v, u] * alpha[v, u]
        own = np.zeros(ground.shape[:2], bool)
        _paste(own, alpha[..., 0] > 0.5, item.corners[t])
        masks[:index] &= ~own
        masks[index] = own
    return image, masks


def _paste(target: np.ndarray, patch: np.ndarray, corner: np.ndarray) -> None:
    (y, x), (v, u) = _overlap(target.shape, patch.shape, corner)
    target[y, x] = patch[v, u]


def _overlap(
    outer: tuple[int, ...], inner: tuple[int, ...], corner: np.ndarray
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of the image and of the patch where they meet, the patch's corner lying at (y, x)."""
    target, patch = [], []
    for axis in (0, 1):
        at = int(corner[axis])
        start, stop = max(at, 0), max(min(at + inner[axis], outer[axis]), 0)
        target.append(slice(start, max(start, stop)))
        patch.append(slice(start - at, max(start, stop) - at))
    return (target[0], target[1]), (patch[0], patch[1])


@dataclass(frozen=True, eq=False)
class _Finish:
    """What a camera does to the whole image: blur, noise, JPEG. One draw for all frames of a clip."""

    blur: float
    grain: np.ndarray
    quality: int

    @classmethod
    def draw(cls, rng: np.random.Generator, size: int) -> _Finish:
        grain = rng.standard_normal((size, size, 1)).astype(np.float32) * np.float32(rng.uniform(0, 1.5))
        return cls(float(rng.uniform(0.3, 0.9)), grain, int(rng.integers(65, 91)))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        image = Image.fromarray(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8))
        soft = np.asarray(image.filter(ImageFilter.GaussianBlur(self.blur)), np.float32)
        image = Image.fromarray(np.rint(np.clip(soft + self.grain, 0, 255)).astype(np.uint8))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=self.quality)
        return np.asarray(Image.open(buffer))
