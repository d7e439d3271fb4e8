"""Pixel matching aggregation (PMA): how well the pixels of one feature map find themselves in another.

Paper section 3.1, equations 1-3. Each pixel of ``f`` is compared, inside a small window, with every pixel of
the same row of ``g``; the cheapest disparity counts. Where the paper is silent:

- equation 1 adds a cost (SSD) and a similarity (NCC) and minimizes both; here NCC enters as ``1 - NCC``
  (``ncc="literal"`` is the text as printed);
- a plain sum of squares over a thousand channels dwarfs the margin; here every image is first divided by one
  number, the root mean square of its pixels' norms (``normalize="none"`` is the text as printed);
- a window position counts only where it lies inside both maps.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from moca_avs.errors import UsageError

NCC_FORMS = ("one_minus", "literal")
NORMALIZATIONS = ("image_rms", "none")


Cost = TypeVar("Cost", bound=Callable[..., Tensor])


def _old_keyword(function: Cost) -> Cost:
    """Accepts ``normalise=``, the keyword up to 0.1, for one release."""

    @wraps(function)
    def renamed(*args: Any, **keywords: Any) -> Tensor:
        if "normalise" in keywords:
            warnings.warn("normalise= is now normalize=", DeprecationWarning, stacklevel=2)
            keywords["normalize"] = keywords.pop("normalise")
        return function(*args, **keywords)

    return renamed  # type: ignore[return-value]


@_old_keyword
def matching_cost(
    f: Tensor,
    g: Tensor,
    *,
    window: int = 3,
    max_disparity: int | None = None,
    ssd_weight: float = 1.0,
    ncc_weight: float = 1.0,
    ncc: str = "one_minus",
    normalize: str = "image_rms",
    weights: Tensor | None = None,
) -> Tensor:
    """Mean over the pixels of `f` of the cheapest match in the same row of `g` (paper equation 1).

    Args:
        f: floating [B, C, h, w].
        g: the same shape.
        window: odd side of the comparison window, in positions.
        max_disparity: largest shift along the row, in positions; None searches the whole row.
        ssd_weight: lambda_ssd.
        ncc_weight: lambda_ncc.
        ncc: "one_minus" (a cost) or "literal" (the paper's equation 3 added as it stands).
        normalize: "image_rms" or "none".
        weights: [B, h, w], not negative, of the pixels of `f`; their scale does not matter. None: uniform.

    Returns:
        [B], at least float32.

    Raises:
        UsageError: on shapes that differ or settings that do not exist.
    """
    cost = matching_map(
        f,
        g,
        window=window,
        max_disparity=max_disparity,
        ssd_weight=ssd_weight,
        ncc_weight=ncc_weight,
        ncc=ncc,
        normalize=normalize,
    )
    if weights is None:
        return cost.mean((1, 2))
    if weights.shape != cost.shape:
        raise UsageError(f"weights must have shape {list(cost.shape)}, found {list(weights.shape)}")
    weights = weights.to(cost.dtype)
    return (weights * cost).sum((1, 2)) / weights.sum((1, 2))


@_old_keyword
def matching_map(
    f: Tensor,
    g: Tensor,
    *,
    window: int = 3,
    max_disparity: int | None = None,
    ssd_weight: float = 1.0,
    ncc_weight: float = 1.0,
    ncc: str = "one_minus",
    normalize: str = "image_rms",
) -> Tensor:
    """Cheapest cost of every pixel of `f`: [B, h, w]; arguments as in `matching_cost`."""
    _check(f, g, window, max_disparity, ncc, normalize)
    with torch.autocast(f.device.type, enabled=False):  # SSD is a difference of large sums: never in half
        f, g = _at_least_float32(f), _at_least_float32(g)
        cost = _cost_volume(f, g, window, ssd_weight, ncc_weight, ncc, normalize)
        if max_disparity is not None:
            place = torch.arange(f.shape[-1], device=f.device)
            cost = cost.masked_fill((place[:, None] - place).abs() > max_disparity, torch.inf)
        return cost.amin(-1)


@_old_keyword
def pool_cost(
    f: Tensor,
    g: Tensor,
    *,
    ssd_weight: float = 1.0,
    ncc_weight: float = 1.0,
    ncc: str = "one_minus",
    normalize: str = "image_rms",
) -> Tensor:
    """The ablation without PMA: pool both maps over their positions, then compare two vectors. [B]."""
    _check(f, g, 1, None, ncc, normalize)
    f, g = _at_least_float32(f), _at_least_float32(g)
    if normalize == "image_rms":
        f, g = (maps * _image_scale(maps.square().sum(1))[:, None] for maps in (f, g))
    pooled = [maps.mean((2, 3), keepdim=True) for maps in (f, g)]
    return matching_cost(
        *pooled, window=1, ssd_weight=ssd_weight, ncc_weight=ncc_weight, ncc=ncc, normalize="none"
    )


def audio_weights(f: Tensor, embedding: Tensor, temperature: float = 0.1) -> Tensor:
    """Pixel weights by similarity to the sound: softmax over positions of ``cos(f_ij, A) / temperature``.

    Args:
        f: [B, E, h, w] in the joint space.
        embedding: [B, E].
        temperature: of the softmax; small looks only at the best positions.

    Returns:
        [B, h, w], summing to 1 per image; detached, or the loss could fall by looking away.
    """
    cosine = F.cosine_similarity(f.detach(), embedding.detach()[:, :, None, None], dim=1)
    return (cosine / temperature).flatten(1).softmax(1).view_as(cosine)


def _cost_volume(
    f: Tensor, g: Tensor, window: int, ssd_weight: float, ncc_weight: float, ncc: str, normalize: str
) -> Tensor:
    """Cost of matching pixel (i, j) of f with pixel (i, k) of g: [B, h, w, w].

    SSD (equation 2) is the mean over the window of ||f - g||^2 = f.f + g.g - 2 f.g; NCC (equation 3) the
    window's sum of f.g over the root of its sums of f.f and g.g. Both thus follow from inner products alone,
    and the division by one number per image is left to those, which are C times fewer than the features.
    """
    rows_f, rows_g = (maps.permute(0, 2, 3, 1).contiguous() for maps in (f, g))  # [B, h, w, C]
    product = rows_f @ rows_g.transpose(2, 3)  # [B, h, w, w], f.g
    energy_f, energy_g = _energy(rows_f), _energy(rows_g)  # [B, h, w], f.f and g.g
    if normalize == "image_rms":
        scale_f, scale_g = _image_scale(energy_f), _image_scale(energy_g)
        product = product * (scale_f * scale_g)[..., None]
        energy_f, energy_g = energy_f * scale_f.square(), energy_g * scale_g.square()
    energy_f = energy_f[..., :, None].expand_as(product)
    energy_g = energy_g[..., None, :].expand_as(product)
    dot, ff, gg = (_box_sum(volume, window) for volume in (product, energy_f, energy_g))
    count = _box_sum(torch.ones_like(product[:1]), window)
    ssd = (ff + gg - 2 * dot) / count
    energy = ff * gg
    present = energy > torch.finfo(energy.dtype).tiny  # a window of zeros resembles nothing
    similarity = torch.where(present, dot * torch.where(present, energy, 1.0).rsqrt(), 0.0)
    return ssd_weight * ssd + ncc_weight * (1 - similarity if ncc == "one_minus" else similarity)


def _box_sum(volume: Tensor, window: int) -> Tensor:
    """Sum over the window, as in equations 2 and 3: [B, h, w, w] -> the same.

    ``volume[i + a, j + b, k + b]`` is summed over the window's offsets (a, b); outside counts as zero.
    """
    rows, width = volume.shape[1:3]
    reach = window // 2
    padded = F.pad(volume, (reach,) * 6)
    down = torch.stack([padded[:, a : a + rows] for a in range(window)]).sum(0)
    return torch.stack([down[:, :, b : b + width, b : b + width] for b in range(window)]).sum(0)


def _energy(rows: Tensor) -> Tensor:
    """The terms f.f and g.g of equations 2 and 3: squared length of every pixel, [..., C] -> [...]."""
    apply: Callable[[Tensor], Tensor] = _Energy.apply
    return apply(rows)


class _Energy(torch.autograd.Function):
    """`_energy` without a map of squares in memory, forward or backward."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        length: Tensor = torch.linalg.vector_norm(rows, dim=-1)
        return length.square()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        rows: Tensor = ctx.saved_tensors[0]
        return rows * (2 * grad)[..., None]


def _image_scale(energy: Tensor) -> Tensor:
    """One over the root mean square of an image's pixel norms, from their squares [B, h, w]: [B, 1, 1].

    1 where the image is all zero.
    """
    mean_square = energy.mean((1, 2))[:, None, None]
    present = mean_square > torch.finfo(energy.dtype).tiny
    return torch.where(present, mean_square, 1.0).rsqrt()


def _at_least_float32(maps: Tensor) -> Tensor:
    return maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps


def _check(f: Tensor, g: Tensor, window: int, max_disparity: int | None, ncc: str, normalize: str) -> None:
    if f.ndim != 4 or f.shape != g.shape or 0 in f.shape[1:]:
        raise UsageError(
            f"PMA compares two maps of one shape [B, C, h, w], found {list(f.shape)} and {list(g.shape)}"
        )
    if window < 1 or window % 2 == 0:
        raise UsageError(f"window must be odd and positive, found {window}")
    if max_disparity is not None and max_disparity < 0:
        raise UsageError(f"max_disparity must not be negative, found {max_disparity}")
    if ncc not in NCC_FORMS:
        raise UsageError(f"ncc must be one of {', '.join(NCC_FORMS)}, found {ncc!r}")
    if normalize not in NORMALIZATIONS:
        raise UsageError(f"normalize must be one of {', '.join(NORMALIZATIONS)}, found {normalize!r}")
