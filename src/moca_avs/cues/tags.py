"""Names of the sound, found in the image: YAMNet's tags, a table to ImageNet's classes, the classes' maps.

The table (`moca_avs.encoders.audioset`) is hand-made knowledge: no pair of image and sound is learned from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from moca_avs.clip import Clip
from moca_avs.encoders.audioset import imagenet_table
from moca_avs.model.evidence import shipped_fusion
from moca_avs.utils.profiler import record

if TYPE_CHECKING:
    from moca_avs.encoders.audio_tagging import Tagger

TEMPERATURE = 2.0
"""Of the softmax over ImageNet's classes: at 1 a position speaks for one breed of dog and no other."""
FLOOR = 0.01
"""Probability below which a group of classes is not seen: the logarithm shall not count noise."""


def tag_heat(scores: np.ndarray, logits: np.ndarray, generic: np.ndarray) -> np.ndarray:
    """How much more a position looks like what this sound names than like what sounds name in general.

    ``log((own + FLOOR) / (usual + FLOOR))``: `own` is the probability of the named classes at the position, each
    tag weighted by its score; `usual` the same for the `generic` scores. Without `usual` a position is hot that
    looks like much that can sound (people's clothing, for example), whatever is heard.

    Args:
        scores: float [521] in [0, 1], YAMNet's.
        logits: float [1000, h, w], ImageNet's at every position.
        generic: float [521], mean scores of sounds in general.

    Returns:
        float32 [h, w]; 0 everywhere where no tag has a score.
    """
    scaled = logits.astype(np.float32) / TEMPERATURE
    probability = np.exp(scaled - scaled.max(0))
    probability /= probability.sum(0)
    if not scores.any():
        return np.zeros(logits.shape[1:], np.float32)
    weights = np.stack([scores / scores.sum(), generic / generic.sum()]).astype(np.float32) @ imagenet_table()
    own, usual = np.tensordot(weights, probability, 1)
    return np.log((own + FLOOR) / (usual + FLOOR))


class TagCue:
    """The cue of tags: `tag_heat` of the sound around a frame.

    Args:
        tagger: names the sound: its labels are AudioSet's 521.
        class_logits: frame uint8 [H, W, 3] -> ImageNet's logits at every position, float [1000, h, w].
        window: seconds of sound, centered on the frame.
        generic: float [521], mean scores of sounds in general; None takes those that ship.
    """

    def __init__(
        self,
        tagger: Tagger,
        class_logits: Callable[[np.ndarray], np.ndarray],
        window: float,
        generic: np.ndarray | None = None,
    ) -> None:
        self.tagger, self.class_logits, self.window = tagger, class_logits, window
        self.generic = shipped_fusion()[1] if generic is None else generic
        self.settings = {"name": "tags", "tagger": tagger.settings}

    def __call__(self, clip: Clip, index: int) -> np.ndarray | None:
        """float32 [h, w], see `tag_heat`; None where no sound is."""
        sound = clip.window(index, self.window)
        if not sound.size:
            return None
        with record("tags"):
            scores = self.tagger(sound, clip.sample_rate)
        return tag_heat(scores, self.class_logits(clip.frames[index]), self.generic)
