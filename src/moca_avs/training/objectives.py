"""The training objectives: one short function each, found by name in `OBJECTIVES`.

An objective gets a `Batch`: rows of the training set, and the methods `enhanced_features` (of images with
sounds), `cost` (of matching two feature maps) and `audio_similarity` (of feature maps with sounds).
It returns the loss and what to log.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from moca_avs.encoders.base import AudioVisualEncoder
from moca_avs.errors import UsageError
from moca_avs.model.adapter import AdapterSet
from moca_avs.model.fusion import from_prefix
from moca_avs.model.losses import infonce_loss, triplet_loss
from moca_avs.model.matching import audio_weights, matching_cost, pool_cost
from moca_avs.training.config import TrainConfig
from moca_avs.training.features import PrecomputedFeatures
from moca_avs.training.precision import Precision
from moca_avs.utils.registry import Registry


@dataclass(frozen=True)
class Batch:
    """One step's material.

    Attributes:
        encoder: frozen.
        adapters: what learns.
        precomputed: the features of every row that training can't change.
        config: of the run.
        anchors: int64 [B], rows of the training set.
        positives: int64 [B], a visual neighbour of each anchor.
        negatives: int64 [B], a row far from each anchor.
        generator: for whatever else the objective draws; seeded by (seed, step).
        precision: the arithmetic of the blocks and adapters; costs and losses never sink below float32.
        mismatched: adapters get the negative's sound instead of the anchor's, and the other way round; what
            is asked stays. For the log: a loss that this does not raise was not lowered by listening.
        moving: float32 [B, h, w], where each anchor moves with its sound (`training.moving`); only
            "synchrony" has it.
    """

    encoder: AudioVisualEncoder
    adapters: AdapterSet
    precomputed: PrecomputedFeatures
    config: TrainConfig
    anchors: Tensor
    positives: Tensor
    negatives: Tensor
    generator: torch.Generator
    precision: Precision = field(default_factory=Precision)
    mismatched: bool = False
    moving: Tensor | None = None

    def enhanced_features(self, images: Tensor, sounds: Tensor) -> Tensor:
        """Features of images as sounds change them; one pass is cheaper than several.

        Args:
            images: int64 [R], whose images.
            sounds: int64 [R], whose sounds (of any rows; of anchors and negatives if `mismatched`).

        Returns:
            float32 [R, C, h, w] in the run's feature space, with gradients to the adapters.
        """
        if self.mismatched:
            own = torch.cat([self.anchors, self.negatives])
            other = torch.cat([self.negatives, self.anchors])
            sounds = other[(sounds[:, None] == own).int().argmax(1)]
        image_rows, image_places = images.unique(return_inverse=True)
        sound_rows, sound_places = sounds.unique(return_inverse=True)
        prefixes = self.precomputed.images(image_rows)
        prefixes = prefixes[image_places.to(prefixes.device)]
        if prefixes.ndim == 4:  # a convolutional state: a step in this layout takes 2/3 of the time
            prefixes = prefixes.contiguous(memory_format=torch.channels_last)
        heard = self.precomputed.sounds(sound_rows)
        with self.precision.autocast():
            fused = self.precision.ready(from_prefix)(
                self.encoder,
                self.adapters,
                prefixes,
                heard.index(sound_places.to(heard.embedding.device)),
                self.adapters.first_block,
                self.config.feature_space,
                self.precision.checkpoint,
            )
        return fused.to(self.precision.wide)

    def cost(self, f: Tensor, g: Tensor, sounds: Tensor) -> Tensor:
        """Matching cost of two maps [B, C, h, w], as the run's settings say: [B].

        Args:
            f: the map whose every position looks for its like.
            g: the map searched.
            sounds: int64 [B], the sounds in `f` (they weight its positions where the config says so).
        """
        c = self.config
        if c.aggregation == "pool":
            return pool_cost(f, g, ssd_weight=c.ssd, ncc_weight=c.ncc, ncc=c.ncc_form)
        heard = self.precomputed.sounds(sounds).embedding if c.weighting == "audio" else None
        return self.precision.ready(matching_cost)(
            f,
            g,
            window=c.window,
            max_disparity=c.max_disparity,
            ssd_weight=c.ssd,
            ncc_weight=c.ncc,
            ncc=c.ncc_form,
            weights=None if heard is None else audio_weights(f, heard),
        )

    def audio_similarity(self, f: Tensor, sounds: Tensor) -> Tensor:
        """Soft maximum over positions of the cosine with the sound's embedding: [R], in [-1, 1].

        Args:
            f: [R, E, h, w] in the joint space.
            sounds: int64 [R], rows whose sounds are asked for.
        """
        heard = self.precomputed.sounds(sounds).embedding
        cosine = functional.cosine_similarity(f, heard[:, :, None, None], dim=1).flatten(1)
        return POOLING_TEMPERATURE * (
            torch.logsumexp(cosine / POOLING_TEMPERATURE, 1) - math.log(cosine.shape[1])
        )


Objective = Callable[[Batch], tuple[Tensor, dict[str, Tensor]]]
"""Returns the loss, a scalar and a mean over the anchors, and what to log: such scalars by name."""

POOLING_TEMPERATURE = 0.07
"""Of the soft maximum over positions, in units of a cosine."""
TEMPERATURE = 0.07
"""Of the contrast between images, and between sounds."""


def triplet(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """C(f(x, s), f(x+, s)) below C(f(x, s), f(x-, s)): the anchor's sound goes to all three images.

    Equation 4 of the paper. Nothing in it rewards using the sound, since all three images get the same one.
    """
    images = torch.cat([batch.anchors, batch.positives, batch.negatives])
    anchor, positive, negative = batch.enhanced_features(images, batch.anchors.repeat(3)).chunk(3)
    return _triplet(batch, anchor, positive, negative)


def audio_swap_triplet(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """C(f(x, s), f(x+, s)) below C(f(x, s), f(x, s')): the same image with a mismatched sound.

    The other sound s' is the negative's own: its image is none of the anchor's neighbours, so neither is
    its clip.
    """
    images = torch.cat([batch.anchors, batch.positives, batch.anchors])
    sounds = torch.cat([batch.anchors, batch.anchors, batch.negatives])
    anchor, positive, other = batch.enhanced_features(images, sounds).chunk(3)
    return _triplet(batch, anchor, positive, other)


def _triplet(
    batch: Batch, anchor: Tensor, positive: Tensor, negative: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """`triplet_loss` of three maps [B, C, h, w], and what to log: mean costs, share of active triplets."""
    near, far = batch.cost(anchor, positive, batch.anchors), batch.cost(anchor, negative, batch.anchors)
    active = (near - far + batch.config.margin > 0).float().mean()
    stats = {"positive": near.mean(), "negative": far.mean(), "active": active}
    return triplet_loss(near, far, batch.config.margin), stats


def infonce(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Every sound finds its own image, and every image its own sound, among those of the batch.

    Beyond the paper: InfoNCE, both ways, over ``similarity(f(x_j, s_i), s_i)`` for all pairs of the batch, so
    each image is also seen with mismatched sounds, by the adapters and by the question asked.
    """
    size = len(batch.anchors)
    images, sounds = batch.anchors.repeat(size), batch.anchors.repeat_interleave(size)
    features = batch.enhanced_features(images, sounds)
    score = batch.audio_similarity(features, sounds).view(size, size) / TEMPERATURE
    own = torch.arange(size, device=score.device)
    return infonce_loss(score), {"right": (score.argmax(1) == own).float().mean()}


def synchrony(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Positions that move with the sound answer it; with a sound of another time the same positions don't.

    Beyond the paper: a logistic loss on the difference of two mean cosines over those positions, of
    ``f(x, s)`` with s and of ``f(x, s')`` with s', the negative's sound: that of another frame of the clip,
    or of another clip where it has none. An anchor without such positions adds log 2 and teaches nothing.
    """
    weights = batch.moving
    if weights is None:
        raise UsageError('objective="synchrony" needs Batch.moving: the positions that move with the sound')
    images = batch.anchors.repeat(2)
    sounds = torch.cat([batch.anchors, batch.negatives])
    heard = batch.precomputed.sounds(sounds).embedding[:, :, None, None]
    cosine = functional.cosine_similarity(batch.enhanced_features(images, sounds), heard, dim=1)
    own, other = (cosine * weights.repeat(2, 1, 1).to(cosine)).sum((1, 2)).chunk(2)
    loss = functional.softplus((other - own) / TEMPERATURE).mean()
    return loss, {"right": (own > other).float().mean()}


OBJECTIVES: Registry[Objective] = Registry("objective")
OBJECTIVES.update(
    {
        "triplet": triplet,
        "audio_swap_triplet": audio_swap_triplet,
        "infonce": infonce,
        "synchrony": synchrony,
    }
)
COUPLED = frozenset({"infonce"})
"""Objectives that compare anchors with each other: processes that see a part of the batch can't."""


def training_loss(batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The loss of the run's objective, a scalar, and what to log of it.

    Raises:
        UsageError: if the objective does not exist.
    """
    objective = batch.config.objective
    if objective not in OBJECTIVES:
        raise UsageError(f"objective must be one of {', '.join(OBJECTIVES)}; found {objective!r}")
    loss, stats = OBJECTIVES[objective](batch)
    return loss, {name: float(value.detach()) for name, value in stats.items()}
