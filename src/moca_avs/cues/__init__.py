"""What tells which pixels sound, one cue a function: ``(clip, index) -> map [h, w]``. Beyond the paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from moca_avs.clip import Clip
from moca_avs.utils.registry import Registry

if TYPE_CHECKING:
    from moca_avs.methods.config import MocaConfig
    from moca_avs.methods.factory import MethodParts

Cue = Callable[[Clip, int], "np.ndarray | None"]
"""A clip and the index of a frame -> float32 [h, w] over that frame on any grid, larger where something more
likely sounds; None where the cue has nothing to say (a still image does not move)."""

SEMANTIC = "semantic"
"""Cosine of the image features with the sound's embedding: the paper's own cue, which the method computes
itself, because adapters may enhance the features with the sound."""
HEARING = (SEMANTIC, "tags", "synchrony")
"""The cues that listen. The others guess what people film: a method of those alone is the null."""


def _tags(parts: MethodParts, config: MocaConfig) -> Cue:
    from moca_avs.cues.tags import TagCue

    return TagCue(
        parts.tagger("yamnet"), lambda frame: parts.class_logits(frame, config.max_aspect), config.window
    )


def _synchrony(parts: MethodParts, config: MocaConfig) -> Cue:
    from moca_avs.cues.motion import synchrony

    return synchrony


def _motion(parts: MethodParts, config: MocaConfig) -> Cue:
    from moca_avs.cues.motion import motion

    return motion


def _objectness(parts: MethodParts, config: MocaConfig) -> Cue:
    from moca_avs.proposals.masks import downscale
    from moca_avs.proposals.saliency import shipped_saliency

    network = shipped_saliency()

    def objectness(clip: Clip, index: int) -> np.ndarray:
        """U2-Netp's salient objects, float32 [320, 320] in [0, 1]. It does not hear."""
        return network.saliency(downscale(clip.frames[index], config.working_side))

    return objectness


def _center(parts: MethodParts, config: MocaConfig) -> Cue:
    def center(clip: Clip, index: int) -> np.ndarray:
        """How near to the middle: float32 [24, 24] in [-.5, 1]. No evidence; off unless asked for."""
        side = np.linspace(-1, 1, 24, dtype=np.float32)
        return 1 - np.hypot(side[:, None], side)

    return center


CUES: Registry[Callable[[MethodParts, MocaConfig], Cue]] = Registry("cue", "moca_avs.cues")
"""Name -> builder (parts, config); names are joined with "+" in `MocaConfig.cues`."""
CUES.update(
    {
        "tags": _tags,
        "synchrony": _synchrony,
        "motion": _motion,
        "objectness": _objectness,
        "center": _center,
    }
)


def check_cues(names: str) -> list[str]:
    """The cues that a setting joins, in its order; builds and imports nothing.

    Raises:
        UsageError: for an unknown name, or one given twice.
    """
    return CUES.split(names, "cues", also=(SEMANTIC,))
