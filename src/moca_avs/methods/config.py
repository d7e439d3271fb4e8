"""Every choice of inference, as data; nothing here is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from moca_avs.cues import SEMANTIC, check_cues
from moca_avs.errors import UsageError
from moca_avs.io.audio import SilenceConfig
from moca_avs.proposals import check_proposer
from moca_avs.utils.settings import Range, Settings, Share

Seconds = Annotated[float, Range(0.02, 600)]
Cosine = Annotated[float, Range(-1, 1)]
BoundedCount = Annotated[int, Range(1, 100_000)]


@dataclass(frozen=True)
class MethodConfig(Settings):
    """What every method shares: the window of sound, the silence gate, the copy of the frame worked on.

    Raises:
        UsageError: on a value that does not exist or is out of range.
    """

    window: Seconds = 2.0
    """Seconds of sound, centered on the frame, that the encoder hears."""
    gate_window: Seconds = 1.0
    """Seconds of sound, centered on the frame, that decide whether it is silent."""
    silence_level: float = -60.0
    """dBFS; a gate window whose loudest 50 ms are below is silent."""
    silence_margin: float = SilenceConfig.margin
    """dB by which they must stand out from the recording's noise floor."""
    silence_ceiling: float = SilenceConfig.ceiling
    """dBFS; a noise floor above this is not room noise and does not count."""
    working_side: BoundedCount = 384
    """Pixels on the longer side of the copy on which masks are chosen."""
    batch: BoundedCount = 8
    """Frames that go through the networks at once."""
    tagger: str = "ast"
    """Names the sound (at-gdino-sam, and every method where `classes` is given): a key of
    `moca_avs.methods.factory.TAGGERS`."""
    grounder: str = "grounding-dino"
    """Finds what the tags name, a key of `GROUNDERS` there."""
    classes: str | None = None
    """AVSS: the dataset's label2idx.json; masks get classes. None: they get none."""

    @property
    def silence(self) -> SilenceConfig:
        """The gate's part of it."""
        return SilenceConfig(
            absolute=self.silence_level, margin=self.silence_margin, ceiling=self.silence_ceiling
        )


@dataclass(frozen=True)
class MocaConfig(MethodConfig):
    """How `Moca` goes from features to masks. Defaults follow the paper; a preset may set others.

    Raises:
        UsageError: on a value that does not exist or is out of range.
    """

    cues: str = SEMANTIC
    """What the masks rest on: "semantic" alone (the paper), or cues of `moca_avs.cues` joined by "+" (a tuple
    will do), which are then fused; the settings from `masks` to `area_power` count for the first only."""
    unsure: Share = 0.0
    """With several cues: probability that the mask is right, below which a frame is left empty ("unsure")."""
    smoothing: Annotated[float, Range(0, 1)] = 0.5
    """With several cues: weight of what the frames right before and after say, within the shot and 3 seconds,
    against 1 of the frame itself; 0: each frame stands alone."""
    max_aspect: Annotated[float, Range(1, 1000)] = 2.0
    """With several cues: frames that are wider or taller than this are not squashed to a square, but seen in
    several squares side by side."""
    similarity: Cosine = -1.0
    """Mean cosine with the sound inside the mask, below which a frame is left empty; -1 lets all pass."""

    masks: Literal["clusters", "heat"] = "clusters"
    """Coarse mask: the sounding cluster (the paper), or the hottest share of the image."""
    clusters: BoundedCount = 8
    """K of k-means (the paper does not give it)."""
    cluster_space: Literal["joint", "trunk"] = "joint"
    """Features clustered: in the joint space, or the image trunk's own."""
    upsample: BoundedCount = 4
    """Factor of bilinear upsampling before clustering."""
    starts: BoundedCount = 4
    """Independent starts of k-means per frame."""
    seed: int = 0
    """Of k-means."""
    sounding: Literal["best", "threshold"] = "best"
    """The cluster with the highest mean cosine, or all above `sounding_threshold`."""
    sounding_threshold: float = 0.2
    """Mean cosine with the sound."""
    heat_share: Share = 0.10
    """Share of the image that `masks="heat"` takes."""

    refine: Literal["mpm", "best", "heat", "none"] = "mpm"
    """The paper's proposal matching; the one proposal nearest the mask; the one with the most heat; none."""
    proposals: str = "saliency"
    """Where proposals come from: names of `moca_avs.proposals.PROPOSERS`, joined by "+"."""
    match_iou: Share = 0.5
    """`refine="mpm"`: proposals that overlap the mask more than this form the mask together."""
    when_unmatched: Literal["cluster", "empty"] = "cluster"
    """`refine="mpm"` without a match: keep the coarse mask, or leave the frame empty (the paper's text)."""
    best_iou: Share = 0.3
    """`refine="best"`: least overlap with the coarse mask, which is kept otherwise."""
    max_sources: BoundedCount = 1
    """`refine="mpm"` and `"best"`: the coarse mask's so many largest connected parts are matched each by
    itself; 1 matches the whole mask (the paper)."""
    source_share: Share = 0.25
    """With `max_sources` above 1: least share of the coarse mask's area that makes a part count."""
    area_power: float = 0.5
    """`refine="heat"`: power of a proposal's share of the image that multiplies its contrast."""

    def __post_init__(self) -> None:
        if isinstance(self.cues, tuple | list):
            object.__setattr__(self, "cues", "+".join(map(str, self.cues)))
        super().__post_init__()
        check_proposer(self.proposals)
        check_cues(self.cues)


@dataclass(frozen=True)
class BaselineConfig(MethodConfig):
    """The training-free baselines' choices (paper sections 4.1 and 4.2); a preset may set others.

    Raises:
        UsageError: on a value that does not exist or is out of range.
    """

    tag_threshold: Share = 0.5
    """The paper's tau_AT, at-gdino-sam: a tag counts above this."""
    tag_score: Literal["literal", "rescaled"] = "literal"
    """What is held against `tag_threshold`: the tag's probability, or its share of the likeliest tag's."""
    objectness: Share = 0.5
    """The paper's tau_BB, owod-bind: a box counts above this."""
    bind_threshold: Cosine = 0.7
    """The paper's tau_BIND, owod-bind and sam-bind: a region counts above this."""
    score: Literal["literal", "rescaled"] = "rescaled"
    """What is held against `bind_threshold`: the region's cosine with the sound (the paper's text; real
    image-sound cosines hardly reach .7), or that cosine stretched so that the frame's regions span 0..1."""
    crop_batch: BoundedCount = 16
    """Crops that go through the encoder at once."""

    detector: str = "openworld"
    """owod-bind: finds boxes around anything, a key of `moca_avs.methods.factory.DETECTORS`."""
    segmenter: str = "sam"
    """at-gdino-sam and owod-bind: boxes to masks, a key of `SEGMENTERS` there."""
    proposals: str = "sam-grid"
    """sam-bind: names of `moca_avs.proposals.PROPOSERS`, joined by "+"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_proposer(self.proposals)


CONFIG_PARTS = ("encoder", "all", "method", "baseline")
"""Parts of a ``config.json``: encoder's options, what all methods share, `MocaConfig`, `BaselineConfig`."""
ENCODER_OPTIONS = ("image_size", "dilate")

PAPER: dict[str, dict[str, Any]] = {
    "encoder": {"image_size": 224},
    "method": {
        "cues": SEMANTIC,
        "masks": "clusters",
        "sounding": "best",
        "refine": "mpm",
        "match_iou": 0.5,
        "max_sources": 1,
    },
    "baseline": {"tag_threshold": 0.5, "objectness": 0.5, "bind_threshold": 0.7},
}
"""The paper's inference, by part as in a preset's ``config.json``: images of 224 px (section 4.2), the
cluster that sounds, proposals that overlap it by IoU > .5 (section 3.1), the baselines' thresholds (4.2).
``load(..., config="paper")`` and ``--config paper`` put it before a preset's own choices."""


def check_parts(config: Mapping[str, Any]) -> None:
    """See that a config (of a preset, or a caller's) holds settings by part, as ``config.json`` does.

    Raises:
        UsageError: for an unknown part, a part that is no mapping, or an unknown option of the encoder.
    """
    for part, values in config.items():
        if part not in CONFIG_PARTS or not isinstance(values, Mapping):
            raise UsageError(
                f"a config by part holds settings under {', '.join(CONFIG_PARTS)}, found {part!r}: {values!r}"
            )
    unknown = sorted(set(config.get("encoder", {})) - set(ENCODER_OPTIONS))
    if unknown:
        raise UsageError(
            f"unknown options of the encoder {', '.join(unknown)}; there are: {', '.join(ENCODER_OPTIONS)}"
        )
