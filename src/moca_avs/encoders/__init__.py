"""Frozen audio-visual encoders by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moca_avs.errors import UsageError

if TYPE_CHECKING:
    from moca_avs.encoders.base import AudioVisualEncoder


def _lite(**options: Any) -> AudioVisualEncoder:
    from moca_avs.encoders.lite import LiteEncoder

    return LiteEncoder(**options)


ENCODERS: dict[str, Callable[..., AudioVisualEncoder]] = {"lite": _lite}
"""Name -> builder; a new encoder is one file and one line here."""


def build_encoder(name: str, device: str = "cpu", **options: Any) -> AudioVisualEncoder:
    """Build an encoder and move it to a device.

    Args:
        name: a key of `ENCODERS`.
        device: "cpu", "cuda", "cuda:1", "mps", ...
        options: the encoder's own (`LiteEncoder`: image_size, dilate, binding).

    Raises:
        UsageError: for an unknown name.
        WeightsError: if weights are missing and can't be fetched.
    """
    if name not in ENCODERS:
        raise UsageError(f"unknown encoder {name!r}; there are: {', '.join(sorted(ENCODERS))}")
    encoder: AudioVisualEncoder = ENCODERS[name](**options).to(device)
    return encoder
