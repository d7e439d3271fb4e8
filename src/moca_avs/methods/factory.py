"""Puts methods together out of their parts, by name; nothing is built that isn't used.

From a name to a method: presets, run folders, published folders, Hub ids.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from moca_avs.encoders import ENCODERS, build_encoder
from moca_avs.encoders.audio_tagging import Tagger
from moca_avs.encoders.base import AudioVisualEncoder
from moca_avs.errors import UsageError, WeightsError
from moca_avs.hub.huggingface import ModelSources
from moca_avs.methods import METHODS
from moca_avs.methods.at_gdino_sam import AtGdinoSam
from moca_avs.methods.base import MaskClassifier, Method
from moca_avs.methods.bind import OwodBind, SamBind
from moca_avs.methods.config import BaselineConfig, MethodConfig, MocaConfig
from moca_avs.methods.frozen import Frozen
from moca_avs.methods.moca import Moca
from moca_avs.model.adapter import ADAPTERS, read_adapter_config
from moca_avs.proposals import build_proposer
from moca_avs.proposals.base import BoxDetector, BoxSegmenter, CachedProposer, Proposer
from moca_avs.proposals.grounding_dino import Grounder
from moca_avs.utils.device import choose_device

if TYPE_CHECKING:
    from moca_avs.encoders.lite import LiteEncoder

HEAT_GRID = 16  # positions per side of ImageBind's map, for the one baseline that has no encoder

P = TypeVar("P")


@dataclass
class MethodParts:
    """What a method can be made of; each is built when first asked for, and once.

    Attributes:
        encoder_name: a key of `moca_avs.encoders.ENCODERS`.
        device: to compute on.
        options: the encoder's own.
        adapters: file of trained adapters; None where there are none.
        sources: where foundation models come from.
        wrap_proposer: see `moca_avs.proposals.build_proposer`.
    """

    encoder_name: str
    device: str = "cpu"
    options: dict[str, Any] = field(default_factory=dict)
    adapters: Path | None = None
    sources: ModelSources = field(default_factory=ModelSources)
    wrap_proposer: Callable[[Proposer], Proposer] | None = None
    _proposers: dict[str, Proposer] = field(default_factory=dict)

    @cached_property
    def encoder(self) -> AudioVisualEncoder:
        """The audio-visual encoder."""
        return build_encoder(self.encoder_name, self.device, self.sources, **self.options)

    @cached_property
    def lite(self) -> LiteEncoder:
        """`lite`'s networks, whichever encoder the method itself uses."""
        from moca_avs.encoders.lite import LiteEncoder

        return self.encoder if isinstance(self.encoder, LiteEncoder) else LiteEncoder().to(self.device)

    def proposer(self, name: str) -> Proposer:
        """Mask proposals by name; they remember the last frames, so that several parts can share one."""
        if name not in self._proposers:
            built = build_proposer(name, self.sources, self.device, self.wrap_proposer)
            self._proposers[name] = CachedProposer(built)
        return self._proposers[name]


def build_method(method: str, config: MethodConfig, parts: MethodParts) -> Method:
    """Put a method together.

    Args:
        method: a key of `CONFIGS`.
        config: of that method's class.
        parts: what it is made of.

    Raises:
        UsageError: for a part that does not exist.
        WeightsError: for weights that are missing or damaged.
    """
    if isinstance(config, BaselineConfig):
        return BASELINES[method](config, parts)
    if not isinstance(config, MocaConfig):
        raise UsageError(f"{method!r} can't be configured by a {type(config).__name__}")
    proposer = None if config.refine == "none" else parts.proposer(config.proposals)
    if method == "frozen" or parts.adapters is None:
        return Frozen(parts.encoder, proposer, config, _mask_classifier(config, parts))
    from moca_avs.model.adapter import load_adapters

    adapters = load_adapters(parts.adapters, parts.encoder).to(parts.device)
    return Moca(parts.encoder, adapters, proposer, config, classifier=_mask_classifier(config, parts))


# --- the baselines --------------------------------------------------------------------------------------


def _at_gdino_sam(config: BaselineConfig, parts: MethodParts) -> Method:
    tagger = _part(TAGGERS, "tagger", config.tagger, parts)
    grounder = _part(GROUNDERS, "grounder", config.grounder, parts)
    segmenter = _part(SEGMENTERS, "segmenter", config.segmenter, parts)
    grid = parts.lite.grid if config.grounder == "class-maps" else HEAT_GRID
    return AtGdinoSam(tagger, grounder, segmenter, config, grid, _mask_classifier(config, parts))


def _owod_bind(config: BaselineConfig, parts: MethodParts) -> Method:
    detector = _part(DETECTORS, "detector", config.detector, parts)
    segmenter = _part(SEGMENTERS, "segmenter", config.segmenter, parts)
    return OwodBind(parts.encoder, detector, segmenter, config, _mask_classifier(config, parts))


def _sam_bind(config: BaselineConfig, parts: MethodParts) -> Method:
    return SamBind(parts.encoder, parts.proposer(config.proposals), config, _mask_classifier(config, parts))


BASELINES: dict[str, Callable[[BaselineConfig, MethodParts], Method]] = {
    "at-gdino-sam": _at_gdino_sam,
    "owod-bind": _owod_bind,
    "sam-bind": _sam_bind,
}
CONFIGS: dict[str, type[MethodConfig]] = {
    "moca": MocaConfig,
    "frozen": MocaConfig,
    **dict.fromkeys(BASELINES, BaselineConfig),
}
"""Method -> the class that configures it."""


# --- their parts ----------------------------------------------------------------------------------------


def _soundnet(parts: MethodParts) -> Tagger:
    from moca_avs.encoders.audio_tagging import SoundNetTagger

    return SoundNetTagger(parts.lite)


def _ast(parts: MethodParts) -> Tagger:
    from moca_avs.encoders.audio_tagging import AstTagger

    return AstTagger(parts.sources, parts.device)


def _class_maps(parts: MethodParts) -> Grounder:
    from moca_avs.proposals.lite import ClassMapGrounder

    return ClassMapGrounder(parts.lite)


def _grounding_dino(parts: MethodParts) -> Grounder:
    from moca_avs.proposals.grounding_dino import GroundingDino

    return GroundingDino(parts.sources, parts.device)


def _proposal_boxes(parts: MethodParts) -> BoxDetector:
    from moca_avs.proposals.lite import ProposalBoxes
    from moca_avs.proposals.saliency import SaliencyProposer

    return ProposalBoxes(parts.proposer(OFFLINE), SaliencyProposer().saliency)


def _openworld(parts: MethodParts) -> BoxDetector:
    from moca_avs.proposals.grounding_dino import GroundingDino
    from moca_avs.proposals.open_world import OpenWorldText

    # The method's own threshold decides; the grounder's must not be stricter.
    return OpenWorldText(GroundingDino(parts.sources, parts.device, box_threshold=0.1))


def _owlv2(parts: MethodParts) -> BoxDetector:
    from moca_avs.proposals.open_world import OwlObjectness

    return OwlObjectness(parts.sources, parts.device)


def _proposal_segmenter(parts: MethodParts) -> BoxSegmenter:
    from moca_avs.proposals.lite import ProposalSegmenter

    return ProposalSegmenter(parts.proposer(OFFLINE))


def _sam(parts: MethodParts) -> BoxSegmenter:
    from moca_avs.proposals.sam import SamSegmenter

    return SamSegmenter(parts.sources, parts.device)


OFFLINE = "saliency+superpixels"
"""Proposals behind `lite`'s stand-ins."""
TAGGERS: dict[str, Callable[[MethodParts], Tagger]] = {"soundnet": _soundnet, "ast": _ast}
GROUNDERS: dict[str, Callable[[MethodParts], Grounder]] = {
    "class-maps": _class_maps,
    "grounding-dino": _grounding_dino,
}
DETECTORS: dict[str, Callable[[MethodParts], BoxDetector]] = {
    "proposals": _proposal_boxes,
    "openworld": _openworld,
    "owlv2": _owlv2,
}
SEGMENTERS: dict[str, Callable[[MethodParts], BoxSegmenter]] = {"proposals": _proposal_segmenter, "sam": _sam}


def _part(builders: dict[str, Callable[[MethodParts], P]], role: str, name: str, parts: MethodParts) -> P:
    if name not in builders:
        raise UsageError(f"{role} must be one of {', '.join(builders)}, found {name!r}")
    return builders[name](parts)


def _mask_classifier(config: MethodConfig, parts: MethodParts) -> MaskClassifier | None:
    """Names classes with the tagger and the grounder, where a list of classes is given."""
    if config.classes is None:
        return None
    from moca_avs.methods.mask_classes import TagClassifier, read_classes

    tagger = _part(TAGGERS, "tagger", config.tagger, parts)
    return TagClassifier(
        tagger, _part(GROUNDERS, "grounder", config.grounder, parts), read_classes(config.classes)
    )


logger = logging.getLogger(__name__)

CONFIG = "config.json"
ENCODER_OPTIONS = ("image_size", "dilate")
_SHIPPED = Path(__file__).resolve().parent.parent / "weights"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class MethodSource:
    """What a name stands for.

    Attributes:
        encoder: its name.
        adapters: the file; None where there are none.
        configs: contents of config.json files, the weaker first.
    """

    encoder: str
    adapters: Path | None
    configs: tuple[dict[str, Any], ...]


def load_method(
    name: str,
    method: str,
    device: str,
    settings: dict[str, Any],
    sources: ModelSources,
    wrap_proposer: Callable[[Proposer], Proposer] | None = None,
) -> Method:
    """See `moca_avs.methods.load`; `wrap_proposer`: see `moca_avs.proposals.build_proposer`."""
    if method not in METHODS:
        raise UsageError(f"unknown method {method!r}; there are: {', '.join(METHODS)}")
    source = find_source(name)
    if method == "moca" and source.adapters is None:
        raise WeightsError(
            f"no trained adapters ship with the preset {name!r}; train some (moca train) and give the run's "
            "folder, or use the method 'frozen', which needs none"
        )
    options, config = _configured(source, method, settings)
    chosen, why = choose_device(device)
    logger.info("device %s: %s", chosen, why)
    if method == "moca":
        logger.info("adapters from %s", source.adapters)
    parts = MethodParts(source.encoder, chosen, options, source.adapters, sources, wrap_proposer)
    return build_method(method, config, parts)


def find_source(name: str) -> MethodSource:
    """What is meant by a preset, a folder or a Hub id.

    Raises:
        UsageError: if it is none of them.
        WeightsError: if a folder holds no adapters, or the Hub can't be reached.
    """
    if name in ENCODERS:
        adapters = _SHIPPED / name / ADAPTERS
        return MethodSource(name, adapters if adapters.is_file() else None, (_read_config(_SHIPPED / name),))
    if Path(name).is_dir():
        return _folder(Path(name))
    if _HUB_ID.fullmatch(name):
        return _folder(_from_hub(name))
    raise UsageError(
        f"{name!r} is no preset ({', '.join(ENCODERS)}), no folder, and no Hub id like owner/name"
    )


def _folder(folder: Path) -> MethodSource:
    """A run's folder (its newest whole step), one of its steps, or a published folder."""
    file = _newest_adapters(folder)
    if file is None:
        raise WeightsError(
            f"{folder} holds no {ADAPTERS} and no steps/*/{ADAPTERS}; give a folder that training wrote"
        )
    encoder = read_adapter_config(file)["encoder"]
    return MethodSource(encoder, file, (_read_config(_SHIPPED / encoder), _read_config(folder)))


def _newest_adapters(folder: Path) -> Path | None:
    if (folder / ADAPTERS).is_file():
        return folder / ADAPTERS
    steps = [file for file in folder.glob(f"steps/*/{ADAPTERS}") if file.parent.name.isdecimal()]
    return max(steps, key=lambda file: int(file.parent.name), default=None)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=[ADAPTERS, CONFIG]))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"{name!r} is no folder here and could not be fetched from the Hub ({reason}); "
            f"download its {ADAPTERS} and {CONFIG} by hand into a folder and give that"
        ) from error


def _read_config(folder: Path) -> dict[str, Any]:
    """A folder's ``config.json``; {} without one.

    Its parts are "encoder" (options), "all" (what all methods share), "method" (`MocaConfig`) and "baseline"
    (`BaselineConfig`).
    """
    file = folder / CONFIG
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        return {part: dict(config.get(part, {})) for part in ("encoder", "all", "method", "baseline")}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise WeightsError(f"{file} is not a config that moca-avs wrote: {error}") from error


def _configured(
    source: MethodSource, method: str, settings: dict[str, Any]
) -> tuple[dict[str, Any], MethodConfig]:
    """Encoder options and method config: files first, the caller's settings over them."""
    kind = CONFIGS[method]
    known = {field.name for field in fields(kind)} | set(ENCODER_OPTIONS)
    unknown = sorted(set(settings) - known)
    if unknown:
        raise UsageError(f"unknown settings {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    options: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for config in source.configs:
        stored = config.get("encoder", {})
        options |= {key: stored[key] for key in ENCODER_OPTIONS if key in stored}
        values |= config.get("all", {}) | config.get("baseline" if method in BASELINES else "method", {})
    options |= {key: value for key, value in settings.items() if key in ENCODER_OPTIONS}
    values |= {key: value for key, value in settings.items() if key not in ENCODER_OPTIONS}
    return options, kind.from_dict(values)
