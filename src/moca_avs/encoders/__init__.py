"""Frozen audio-visual encoders by name."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moca_avs.errors import UsageError
from moca_avs.hub.huggingface import ModelSources
from moca_avs.hub.registry import PRETRAINED_MODELS

if TYPE_CHECKING:
    from moca_avs.encoders.base import AudioVisualEncoder

logger = logging.getLogger(__name__)


def _lite(image_size: int = 384, dilate: bool = False, binding: Any = "shipped") -> AudioVisualEncoder:
    from moca_avs.encoders.lite import LiteEncoder

    return LiteEncoder(image_size, dilate, binding)


def _imagebind(sources: ModelSources, image_size: int = 224) -> AudioVisualEncoder:
    from moca_avs.encoders.imagebind import ImageBindEncoder, find_weights

    file = find_weights(sources)
    _tell("imagebind")
    return ImageBindEncoder.load(file, image_size)


def _languagebind(sources: ModelSources, image_size: int = 224) -> AudioVisualEncoder:
    from moca_avs.encoders.languagebind import LanguageBindEncoder, find_towers

    return LanguageBindEncoder(*find_towers(sources), image_size)


ENCODERS: dict[str, Callable[..., AudioVisualEncoder]] = {
    "lite": _lite,
    "imagebind": _imagebind,
    "languagebind": _languagebind,
}
"""Name -> builder; a new encoder is one file and one line here. One that takes `sources` is given them."""

_told: set[str] = set()


def build_encoder(
    name: str, device: str = "cpu", sources: ModelSources | None = None, **options: Any
) -> AudioVisualEncoder:
    """Build an encoder and move it to a device.

    Args:
        name: a key of `ENCODERS`.
        device: "cpu", "cuda", "cuda:1", "mps", ...
        sources: where foundation models come from (`lite` needs none); None is the Hub.
        options: the encoder's own. `lite`: image_size, dilate, binding; the others: image_size.

    Raises:
        UsageError: for an unknown name or option.
        WeightsError: if weights are missing and can't be fetched.
    """
    if name not in ENCODERS:
        raise UsageError(f"unknown encoder {name!r}; there are: {', '.join(sorted(ENCODERS))}")
    taken = inspect.signature(ENCODERS[name]).parameters
    unknown = sorted(set(options) - (set(taken) - {"sources"}))
    if unknown:
        own = ", ".join(option for option in taken if option != "sources")
        raise UsageError(f"the encoder {name!r} has no option {', '.join(unknown)}; it has: {own}")
    if "sources" in taken:
        options["sources"] = sources or ModelSources()
    encoder: AudioVisualEncoder = ENCODERS[name](**options).to(device)
    return encoder


def _tell(foundation: str) -> None:
    """Say a foundation model's note (its license) once per process; a warning, so it reaches stderr."""
    if foundation not in _told:
        _told.add(foundation)
        logger.warning("moca: note: %s", PRETRAINED_MODELS[foundation].note)
