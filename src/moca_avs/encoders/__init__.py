"""Frozen audio-visual encoders by name."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moca_avs.errors import UsageError
from moca_avs.hub.catalog import PRETRAINED_MODELS
from moca_avs.hub.huggingface import ModelSources
from moca_avs.utils.registry import Registry

if TYPE_CHECKING:
    from moca_avs.encoders.base import AudioVisualEncoder

logger = logging.getLogger(__name__)


def _lite(image_size: int = 384, dilate: bool = False, binding: Any = "shipped") -> AudioVisualEncoder:
    from moca_avs.encoders.lite import LiteEncoder

    return LiteEncoder(image_size, dilate, binding)


def _lite_soundnet(
    image_size: int = 384, dilate: bool = False, binding: Any = "shipped"
) -> AudioVisualEncoder:
    from moca_avs.encoders.lite import LiteEncoder

    return LiteEncoder(image_size, dilate, binding, trunk="soundnet")


def _imagebind(sources: ModelSources, image_size: int = 224) -> AudioVisualEncoder:
    from moca_avs.encoders.imagebind import ImageBindEncoder, find_weights

    file = find_weights(sources)
    _tell("imagebind")
    return ImageBindEncoder.load(file, image_size)


def _languagebind(sources: ModelSources, image_size: int = 224) -> AudioVisualEncoder:
    from moca_avs.encoders.languagebind import LanguageBindEncoder, find_towers

    return LanguageBindEncoder(*find_towers(sources), image_size)


ENCODERS: Registry[Callable[..., AudioVisualEncoder]] = Registry("encoder", "moca_avs.encoders")
"""Name -> builder; `register_encoder` adds one. A builder that takes `sources` is given them."""

PRESET_CONFIGS: dict[str, dict[str, Any]] = {}
"""Registered encoder -> its preset, in the layout of ``weights/*/config.json``."""


def register_encoder(
    name: str,
    build: Callable[..., AudioVisualEncoder],
    preset: dict[str, Any] | None = None,
    *,
    replace: bool = False,
) -> None:
    """Add an encoder, which is a preset of that name too: `load`, training and the command line know it.

    Args:
        name: how it is asked for.
        build: options -> an `moca_avs.encoders.base.AudioVisualEncoder`; its keywords are the encoder's
            options (``image_size``, ...), and where it has one called `sources` it is given a
            `moca_avs.hub.huggingface.ModelSources`.
        preset: settings of the methods with this encoder, by part: "encoder" (options), "all" (what all
            methods share), "method" (`MocaConfig`), "baseline" (`BaselineConfig`).
        replace: allow a name that is taken already.

    Raises:
        UsageError: for a name that is taken.
    """
    ENCODERS.register(name, build, replace=replace)
    PRESET_CONFIGS[name] = preset or {}


def list_presets() -> tuple[str, ...]:
    """Names of all presets, registered encoders included."""
    return tuple(ENCODERS)


ENCODERS.update(
    {
        "lite": _lite,
        "imagebind": _imagebind,
        "languagebind": _languagebind,
        "lite-soundnet": _lite_soundnet,
    }
)

_told: set[str] = set()


def build_encoder(
    name: str, device: str = "cpu", sources: ModelSources | None = None, **options: Any
) -> AudioVisualEncoder:
    """Build an encoder and move it to a device.

    Args:
        name: a key of `ENCODERS`.
        device: "cpu", "cuda", "cuda:1", "mps", ...
        sources: where foundation models come from (`lite` and `lite-soundnet` need none); None is the Hub.
        options: the encoder's own. `lite` and `lite-soundnet`: image_size, dilate, binding; the others:
            image_size.

    Raises:
        UsageError: for an unknown name or option.
        WeightsError: if weights are missing and can't be fetched.
    """
    build = ENCODERS.find(name)
    taken = inspect.signature(build).parameters
    unknown = sorted(set(options) - (set(taken) - {"sources"}))
    if unknown:
        own = ", ".join(option for option in taken if option != "sources")
        raise UsageError(f"the encoder {name!r} has no option {', '.join(unknown)}; it has: {own}")
    if "sources" in taken:
        options["sources"] = sources or ModelSources()
    encoder: AudioVisualEncoder = build(**options).to(device)
    return encoder


def _tell(foundation: str) -> None:
    """Say a foundation model's note (its license) once per process; a warning, so it reaches stderr."""
    if foundation not in _told:
        _told.add(foundation)
        logger.warning("moca: note: %s", PRETRAINED_MODELS[foundation].note)
