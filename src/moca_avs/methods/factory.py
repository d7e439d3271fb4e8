"""What methods are built of, each part made when first asked for, and how they are put together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from moca_avs.cues import CUES, SEMANTIC, check_cues
from moca_avs.encoders import build_encoder
from moca_avs.errors import UsageError, did_you_mean
from moca_avs.hub.huggingface import ModelSources
from moca_avs.methods.config import BaselineConfig, MethodConfig, MocaConfig
from moca_avs.proposals import build_proposer
from moca_avs.utils.device import choose_device
from moca_avs.utils.frame_cache import FrameCache
from moca_avs.utils.registry import Registry

if TYPE_CHECKING:  # names of parts are checked before torch is imported
    from torch import Tensor

    from moca_avs.encoders.audio_tagging import Tagger
    from moca_avs.encoders.base import AudioVisualEncoder
    from moca_avs.encoders.lite import LiteEncoder
    from moca_avs.methods.base import MaskClassifier, Method
    from moca_avs.methods.source import MethodChoice
    from moca_avs.proposals.base import BoxDetector, BoxSegmenter, Proposer
    from moca_avs.proposals.detectors import Grounder

P = TypeVar("P")
logger = logging.getLogger(__name__)

HEAT_GRID = 16  # positions per side of ImageBind's map, for the one baseline that has no encoder
OFFLINE = "saliency+superpixels"
"""Proposals behind `lite`'s stand-ins."""
MAP_GROUNDERS = ("class-maps", "audioset-maps")


def build_method(
    choice: MethodChoice,
    device: str = "auto",
    wrap_proposer: Callable[[Proposer], Proposer] | None = None,
) -> Method:
    """The method that was chosen (`moca_avs.methods.choose_method`); arguments as in `moca_avs.load`."""
    chosen, why = choose_device(device)
    logger.info("device %s: %s", chosen, why)
    if choice.adapters is not None:
        logger.info("adapters from %s", choice.adapters)
    parts = MethodParts(
        choice.encoder, chosen, dict(choice.options), choice.adapters, choice.sources, wrap_proposer
    )
    return choice.entry.build(choice.config, parts)


def check_names(config: MethodConfig) -> None:
    """See that the parts a config names exist; builds and imports none.

    Raises:
        UsageError: for an unknown name.
    """
    registries: tuple[Registry[Any], ...] = (TAGGERS, GROUNDERS, DETECTORS, SEGMENTERS)
    for registry in registries:
        name = getattr(config, registry.kind, None)
        if name is not None:
            _part(registry, name)


# --- the parts of methods -------------------------------------------------------------------------------


@dataclass
class MethodParts:
    """What a method can be made of; each is built when first asked for, and once.

    Attributes:
        encoder_name: a key of `moca_avs.encoders.ENCODERS`.
        device: to compute on.
        options: the encoder's own.
        adapters: file of trained adapters; None where there are none.
        sources: where foundation models come from.
        wrap_proposer: put around each proposer that is built (a cache on disk, for example).
        states: of `lite`'s image network after its last block, for the last frames.
    """

    encoder_name: str
    device: str = "cpu"
    options: dict[str, Any] = field(default_factory=dict)
    adapters: Path | None = None
    sources: ModelSources = field(default_factory=ModelSources)
    wrap_proposer: Callable[[Proposer], Proposer] | None = None
    states: FrameCache[Tensor] = field(default_factory=FrameCache)
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

    def class_logits(self, frame: np.ndarray, max_aspect: float) -> np.ndarray:
        """ImageNet's logits by `lite`'s image network: uint8 [H, W, 3] -> float32 [1000, h, w].

        Wider and taller frames than `max_aspect` are seen in tiles. States of the last frames are kept.
        """
        import torch

        from moca_avs.encoders.preprocessing import square_tiles
        from moca_avs.methods.base import prepare_frames

        lite = self.lite
        tiles, axis = square_tiles(frame, max_aspect)
        with torch.inference_mode():
            states = self.states.batch(
                tiles,
                lambda new: [lite.image_state(prepare_frames(lite, [tiles[index]])) for index in new],
            )
            maps = [lite.logit_map(state)[0].cpu().numpy() for state in states]
        return np.concatenate(maps, axis + 1)

    def proposer(self, name: str) -> Proposer:
        """Mask proposals by name; they keep those of the last frames, so that several parts can share one."""
        from moca_avs.proposals.base import CachedProposer

        if name not in self._proposers:
            built = build_proposer(name, self.sources, self.device, wrap=self.wrap_proposer)
            self._proposers[name] = CachedProposer(built)
        return self._proposers[name]

    def tagger(self, name: str) -> Tagger:
        """Names sounds; a key of `TAGGERS`."""
        return _part(TAGGERS, name)(self)

    def grounder(self, name: str) -> Grounder:
        """Finds what a tag names; a key of `GROUNDERS`."""
        return _part(GROUNDERS, name)(self)

    def detector(self, name: str) -> BoxDetector:
        """Finds boxes around anything; a key of `DETECTORS`."""
        return _part(DETECTORS, name)(self)

    def segmenter(self, name: str) -> BoxSegmenter:
        """Boxes to masks; a key of `SEGMENTERS`."""
        return _part(SEGMENTERS, name)(self)

    def classifier(self, config: MethodConfig) -> MaskClassifier | None:
        """Names the classes of masks with the tagger and the grounder, where a list of classes is given."""
        if config.classes is None:
            return None
        from moca_avs.methods.mask_classes import TagClassifier, read_classes

        tagger, grounder = self.tagger(config.tagger), self.grounder(config.grounder)
        return TagClassifier(tagger, grounder, read_classes(config.classes))


def _part(parts: Registry[Callable[[MethodParts], P]], name: str) -> Callable[[MethodParts], P]:
    if name not in parts:
        raise UsageError(
            f"{parts.kind} must be one of {', '.join(parts)}, found {name!r}{did_you_mean(name, parts)}"
        )
    return parts[name]


def _soundnet(parts: MethodParts) -> Tagger:
    from moca_avs.encoders.audio_tagging import SoundNetTagger

    return SoundNetTagger(parts.lite)


def _yamnet(parts: MethodParts) -> Tagger:
    from moca_avs.encoders.audio_tagging import YamnetTagger

    return YamnetTagger(parts.device)


def _ast(parts: MethodParts) -> Tagger:
    from moca_avs.encoders.audio_tagging import AstTagger

    return AstTagger(parts.sources, parts.device)


def _offline_maps(parts: MethodParts, name: str) -> Grounder:
    from moca_avs.proposals.offline import AudiosetMapGrounder, ClassMapGrounder

    return AudiosetMapGrounder(parts.lite) if name == "audioset-maps" else ClassMapGrounder(parts.lite)


def _grounding_dino(parts: MethodParts) -> Grounder:
    from moca_avs.proposals.detectors import GroundingDino

    return GroundingDino(parts.sources, parts.device)


def _proposal_boxes(parts: MethodParts) -> BoxDetector:
    from moca_avs.proposals.offline import ProposalBoxes
    from moca_avs.proposals.saliency import shipped_saliency

    return ProposalBoxes(parts.proposer(OFFLINE), shipped_saliency().saliency)


def _openworld(parts: MethodParts) -> BoxDetector:
    from moca_avs.proposals.detectors import GroundingDino, OpenWorldText

    # The method's own threshold decides; the grounder's must not be stricter.
    return OpenWorldText(GroundingDino(parts.sources, parts.device, box_threshold=0.1))


def _owlv2(parts: MethodParts) -> BoxDetector:
    from moca_avs.proposals.detectors import OwlObjectness

    return OwlObjectness(parts.sources, parts.device)


def _proposal_segmenter(parts: MethodParts) -> BoxSegmenter:
    from moca_avs.proposals.offline import ProposalSegmenter

    return ProposalSegmenter(parts.proposer(OFFLINE))


def _sam(parts: MethodParts) -> BoxSegmenter:
    from moca_avs.proposals.sam import SamSegmenter

    return SamSegmenter(parts.sources, parts.device)


TAGGERS: Registry[Callable[[MethodParts], Tagger]] = Registry("tagger")
GROUNDERS: Registry[Callable[[MethodParts], Grounder]] = Registry("grounder")
DETECTORS: Registry[Callable[[MethodParts], BoxDetector]] = Registry("detector")
SEGMENTERS: Registry[Callable[[MethodParts], BoxSegmenter]] = Registry("segmenter")
TAGGERS.update({"yamnet": _yamnet, "soundnet": _soundnet, "ast": _ast})
GROUNDERS.update({"grounding-dino": _grounding_dino})
GROUNDERS.update({name: partial(_offline_maps, name=name) for name in MAP_GROUNDERS})
DETECTORS.update({"proposals": _proposal_boxes, "openworld": _openworld, "owlv2": _owlv2})
SEGMENTERS.update({"proposals": _proposal_segmenter, "sam": _sam})


# --- our own methods ------------------------------------------------------------------------------------


def _moca(config: MocaConfig, parts: MethodParts) -> Method:
    """`moca` where there are adapters, else `frozen`."""
    from moca_avs.methods.moca import Moca
    from moca_avs.model.adapter import load_adapters

    adapters = None
    if parts.adapters is not None:
        adapters = load_adapters(parts.adapters, parts.encoder).to(parts.device)
    names = check_cues(config.cues)
    fused = names != [SEMANTIC]
    proposer = None if config.refine == "none" and not fused else parts.proposer(config.proposals)
    shared = adapters is None and "tags" in names and parts.encoder is parts.lite
    given = (parts.encoder, adapters, proposer, config, parts.classifier(config))
    prefixes = parts.states if shared else None
    if not fused:
        return Moca(*given, prefixes=prefixes)
    from moca_avs.methods.evidence_moca import EvidenceMoca

    cues = {name: CUES[name](parts, config) for name in names if name != SEMANTIC}
    return EvidenceMoca(*given, prefixes=prefixes, cues=cues)


def _at_gdino_sam(config: BaselineConfig, parts: MethodParts) -> Method:
    from moca_avs.methods.baselines import AtGdinoSam

    tagger, grounder = parts.tagger(config.tagger), parts.grounder(config.grounder)
    segmenter = parts.segmenter(config.segmenter)
    grid = parts.lite.grid if config.grounder in MAP_GROUNDERS else HEAT_GRID
    return AtGdinoSam(tagger, grounder, segmenter, config, grid, parts.classifier(config))


def _owod_bind(config: BaselineConfig, parts: MethodParts) -> Method:
    from moca_avs.methods.baselines import OwodBind

    detector, segmenter = parts.detector(config.detector), parts.segmenter(config.segmenter)
    return OwodBind(parts.encoder, detector, segmenter, config, parts.classifier(config))


def _sam_bind(config: BaselineConfig, parts: MethodParts) -> Method:
    from moca_avs.methods.baselines import SamBind

    return SamBind(parts.encoder, parts.proposer(config.proposals), config, parts.classifier(config))


BUILDERS: dict[str, Callable[[Any, MethodParts], Method]] = {
    "moca": _moca,
    "frozen": _moca,
    "at-gdino-sam": _at_gdino_sam,
    "owod-bind": _owod_bind,
    "sam-bind": _sam_bind,
}
