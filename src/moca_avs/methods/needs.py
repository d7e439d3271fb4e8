"""Which weights a preset and method need, by their names in `moca_avs.hub.catalog`; imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moca_avs.cues import SEMANTIC, check_cues
from moca_avs.methods.config import BaselineConfig, MocaConfig
from moca_avs.proposals import check_proposer

if TYPE_CHECKING:
    from moca_avs.methods.source import MethodChoice

ENCODERS: dict[str, tuple[str, ...]] = {
    "lite": ("efficientnet-lite0", "yamnet"),
    "lite-soundnet": ("efficientnet-lite0", "soundnet8"),
    "imagebind": ("imagebind",),
    "languagebind": ("languagebind-image", "languagebind-audio"),
}
PAIRED_BY_DINO = ("imagebind", "languagebind")
PROPOSERS: dict[str, tuple[str, ...]] = {
    "saliency": ("u2netp",),
    "openworld-sam": ("grounding-dino", "sam"),
    "owl-sam": ("owlv2", "sam"),
    "sam-grid": ("sam",),
}
PARTS: dict[str, tuple[str, ...]] = {
    "yamnet": ("yamnet",),
    "ast": ("ast",),
    "grounding-dino": ("grounding-dino",),
    "proposals": ("u2netp",),
    "openworld": ("grounding-dino",),
    "owlv2": ("owlv2",),
    "sam": ("sam",),
}
"""Tagger, grounder, detector or segmenter."""
ON_LITE: dict[str, tuple[str, ...]] = {"soundnet": ("soundnet8",), "class-maps": (), "audioset-maps": ()}
"""Taggers and grounders that use the networks of `lite`, whichever the encoder -> what they need besides."""
CUES: dict[str, tuple[str, ...]] = {"objectness": ("u2netp",)}


def known_encoder(name: str) -> bool:
    """Whether it is known what an encoder needs: it is one of ours."""
    return name in ENCODERS


def encoder_weights(encoder: str, pairing: str = "encoder") -> list[str]:
    """What an encoder needs, and what training needs with this pairing of its images.

    Args:
        encoder: a key of `moca_avs.encoders.ENCODERS`; nothing is known of registered ones.
        pairing: of `moca_avs.training.config.TrainConfig`; a model named otherwise than "dino" is left out.
    """
    paired = pairing == "dino" or (pairing == "auto" and encoder in PAIRED_BY_DINO)
    return [*ENCODERS.get(encoder, ()), *(["dino"] if paired else ())]


def needed_weights(choice: MethodChoice) -> list[str]:
    """Names of all weights that the method asks for, each once; nothing is known of registered parts."""
    config, encoder = choice.config, ENCODERS.get(choice.encoder, ())
    # Whoever wants `lite`'s networks is first given the encoder, which may be one of them.
    lite = encoder if choice.encoder.startswith("lite") else (*encoder, *ENCODERS["lite"])
    needed: list[str] = []

    def part(*names: str) -> None:
        for name in names:
            needed.extend((*lite, *ON_LITE[name]) if name in ON_LITE else PARTS.get(name, ()))

    if choice.name != "at-gdino-sam":
        needed += encoder
    if isinstance(config, MocaConfig) and choice.name in ("moca", "frozen"):
        _add_moca(needed, config, lite)
    elif isinstance(config, BaselineConfig):
        if choice.name == "at-gdino-sam":
            part(config.tagger, config.grounder, config.segmenter)
        elif choice.name == "owod-bind":
            part(config.detector, config.segmenter)
        elif choice.name == "sam-bind":
            needed += _proposals(config.proposals)
    if config.classes is not None:
        part(config.tagger, config.grounder)
    return list(dict.fromkeys(needed))


def _add_moca(needed: list[str], config: MocaConfig, lite: tuple[str, ...]) -> None:
    cues = check_cues(config.cues)
    if cues != [SEMANTIC] or config.refine != "none":
        needed += _proposals(config.proposals)
    for cue in cues:
        needed += (*lite, "yamnet") if cue == "tags" else CUES.get(cue, ())


def _proposals(names: str) -> list[str]:
    return [weights for name in check_proposer(names) for weights in PROPOSERS.get(name, ())]
