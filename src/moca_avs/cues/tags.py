"""Where an image shows what the sound's tags name: AudioSet scores, a table to ImageNet classes, class maps.

The table (`moca_avs.encoders.audioset`) is hand-made knowledge; nothing here is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from moca_avs.clip import Clip
from moca_avs.encoders.audioset import imagenet_table
from moca_avs.errors import UsageError

if TYPE_CHECKING:
    from moca_avs.encoders.audio_tagging import Tagger

TEMPERATURE = 4.0
"""Of the softmax over the 1000 classes: 3 to 6 do nearly as well."""
PRIOR_SHARE = 0.5
"""How much of the map of "any sound" is subtracted: .25 to .75 do nearly as well."""


def tag_heat(
    scores: np.ndarray,
    logits: np.ndarray,
    temperature: float = TEMPERATURE,
    prior_share: float = PRIOR_SHARE,
) -> np.ndarray:
    """How much more likely than by chance each position shows what is heard.

    A tag's map is the mean, over its ImageNet classes, of the softmax at that position, divided by the mean
    over all 1000 classes (its *lift*: 1 is chance). The heat is the sum of tag score times lift, less
    `prior_share` of what the same total score would give if spread evenly over all tags that have classes.

    The plain sum of tag score times softmax fails for two reasons, and worst for vehicles and machines, whose
    tags are general or uncertain ("Vehicle" scores more than "Car"; a saw is "Frog" as much as "Sawing").
    A tag of many classes outweighs one of few: 70 classes of vehicles, 328 of animals hold a fourteenth and a
    third of the probability wherever nothing is recognized. And at temperature 1 a class counts only where
    the network is sure of it, which it seldom is of a part of a bus or of a saw.

    Measured on composites of stamps' training side (280 scenes of two objects, 560 sounds; vehicles with
    machines, instruments, animals counted alike): AUC of the sounding object's pixels; *listens*, the AUC
    lost with the other sound; *which*, the sounding object is the hotter one; *both*, for both sounds.

    | rule | AUC | listens | which | both | vehicles: AUC | which |
    |---|---|---|---|---|---|---|
    | sum of tag score times softmax | .67 | .36 | .79 | .61 | .61 | .71 |
    | lift, temperature 4 | .79 | .42 | .84 | .69 | .76 | .82 |
    | less half of any sound's (this) | .77 | .45 | .85 | .74 | .73 | .81 |
    | less half of the mean scores of these sounds | .78 | .47 | .88 | .78 | .79 | .89 |
    | mean logit of a tag's classes | .79 | .33 | .82 | .66 | .75 | .80 |
    | log of the mean exponential of its logits | .90 | .13 | .78 | .59 | .89 | .69 |

    On 280 scenes drawn anew from the same media, on which nothing was chosen, in the same order: the sum .66,
    .32, .77, .56, .58, .66; this .76, .40, .83, .69, .71, .80.

    The fourth rule knows what this world holds, which a user's video does not follow. The last finds whatever
    stands out and hardly listens. The classes' mean over backgrounds, powers of the scores and the
    strongest tags alone change nothing.

    Args:
        scores: of AudioSet's 521 classes, in [0, 1] (`moca_avs.encoders.audioset.audioset_labels`).
        logits: of ImageNet's classes at every position, float [1000, h, w].
        temperature: the logits are divided by it, above 0.
        prior_share: in [0, 1].

    Returns:
        float32 [h, w], the hotter the likelier; 0 everywhere if no tag with classes scores. Its unit is tag
        score times lift: maps of one sound can be compared between frames.

    Raises:
        UsageError: for other shapes.
    """
    table = imagenet_table()
    if scores.shape != table.shape[:1] or logits.ndim != 3 or logits.shape[0] != table.shape[1]:
        raise UsageError(
            f"expected scores [{table.shape[0]}] and logits [{table.shape[1]}, h, w], "
            f"found {list(scores.shape)} and {list(logits.shape)}"
        )
    sizes = table.sum(1)
    heard = np.where(sizes > 0, scores, 0)
    heard = heard - prior_share * heard.sum() * (sizes > 0) / (sizes > 0).sum()
    weights = (heard / np.maximum(sizes, 1)) @ table  # of the classes
    scaled = np.asarray(logits, np.float32) / temperature
    likely = np.exp(scaled - scaled.max(0))
    return (np.tensordot(weights, likely, 1) / likely.mean(0)).astype(np.float32)


class TagCue:
    """The cue of tags: `tag_heat` of the sound around a frame.

    Args:
        tagger: names the sound: its labels are AudioSet's 521.
        class_logits: frame uint8 [H, W, 3] -> ImageNet's logits at every position, float [1000, h, w].
        window: seconds of sound, centered on the frame.
    """

    def __init__(
        self, tagger: Tagger, class_logits: Callable[[np.ndarray], np.ndarray], window: float
    ) -> None:
        self.tagger, self.class_logits, self.window = tagger, class_logits, window
        self.settings = {"name": "tags", "tagger": tagger.settings}

    def __call__(self, clip: Clip, index: int) -> np.ndarray | None:
        """float32 [h, w], see `tag_heat`; None where no sound is."""
        sound = clip.window(index, self.window)
        if not sound.size:
            return None
        scores = self.tagger(sound, clip.sample_rate)
        return tag_heat(scores, self.class_logits(clip.frames[index]))
