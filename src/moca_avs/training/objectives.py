"""What the adapters are asked to learn: one short function per objective, found by name in `OBJECTIVES`.

An objective sees a `Batch` (rows of the training set and two verbs: `fuse` pictures with sounds, `cost` of
matching two feature maps) and returns the two costs of its triplet; the hinge is common to all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from moca_avs.adapter import AdapterSet
from moca_avs.encoders.base import AudioVisualEncoder
from moca_avs.errors import UsageError
from moca_avs.fusion import from_prefix
from moca_avs.matching import audio_weights, matching_cost, pool_cost
from moca_avs.training.cache import States
from moca_avs.training.config import TrainConfig


@dataclass(frozen=True)
class Batch:
    """One step's material.

    Attributes:
        encoder: frozen.
        adapters: what learns.
        states: the constant states of every row.
        config: of the run.
        anchors: int64 [B], rows of the training set.
        positives: int64 [B], a visual neighbour of each anchor.
        negatives: int64 [B], a row far from each anchor.
        generator: for whatever else the objective draws; seeded by (seed, step).
    """

    encoder: AudioVisualEncoder
    adapters: AdapterSet
    states: States
    config: TrainConfig
    anchors: Tensor
    positives: Tensor
    negatives: Tensor
    generator: torch.Generator

    def fuse(self, images: Tensor, sounds: Tensor) -> Tensor:
        """Features of pictures as sounds change them; one pass is cheaper than several.

        Args:
            images: int64 [R], whose pictures.
            sounds: int64 [R], whose sounds (of any rows).

        Returns:
            float32 [R, C, h, w] in the run's feature space, with gradients to the adapters.
        """
        image_rows, image_places = images.unique(return_inverse=True)
        sound_rows, sound_places = sounds.unique(return_inverse=True)
        pictures = self.states.images(image_rows)
        pictures = pictures[image_places.to(pictures.device)]
        if pictures.ndim == 4:  # a convolutional state: a step in this layout takes 2/3 of the time
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        heard = self.states.sounds(sound_rows)
        return from_prefix(
            self.encoder,
            self.adapters,
            pictures,
            heard.index(sound_places.to(heard.embedding.device)),
            self.adapters.first_block,
            self.config.feature_space,
        )

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
        heard = self.states.sounds(sounds).embedding if c.weighting == "audio" else None
        return matching_cost(
            f,
            g,
            window=c.window,
            max_disparity=c.max_disparity,
            ssd_weight=c.ssd,
            ncc_weight=c.ncc,
            ncc=c.ncc_form,
            weights=None if heard is None else audio_weights(f, heard),
        )


Objective = Callable[[Batch], tuple[Tensor, Tensor]]
"""Returns what shall fall and what shall stay a margin above it: costs [B] and [B]."""


def paper(batch: Batch) -> tuple[Tensor, Tensor]:
    """C(f(x, s), f(x+, s)) below C(f(x, s), f(x-, s)): the anchor's sound goes to all three pictures."""
    pictures = torch.cat([batch.anchors, batch.positives, batch.negatives])
    anchor, positive, negative = batch.fuse(pictures, batch.anchors.repeat(3)).chunk(3)
    return batch.cost(anchor, positive, batch.anchors), batch.cost(anchor, negative, batch.anchors)


def listening(batch: Batch) -> tuple[Tensor, Tensor]:
    """C(f(x, s), f(x+, s)) below C(f(x, s), f(x, s')): the same picture with a mismatched sound.

    The other sound s' is the negative's own: its picture is none of the anchor's neighbours, so neither is
    its clip.
    """
    pictures = torch.cat([batch.anchors, batch.positives, batch.anchors])
    sounds = torch.cat([batch.anchors, batch.anchors, batch.negatives])
    anchor, positive, mismatched = batch.fuse(pictures, sounds).chunk(3)
    return batch.cost(anchor, positive, batch.anchors), batch.cost(anchor, mismatched, batch.anchors)


OBJECTIVES: dict[str, Objective] = {"paper": paper, "listening": listening}


def triplet_loss(batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Mean hinge of the run's objective (paper equation 4): a scalar and what to log of it.

    Returns:
        The loss, and "positive", "negative" (mean costs) and "active" (share of triplets inside the margin).

    Raises:
        UsageError: if the objective does not exist.
    """
    config = batch.config
    if config.objective not in OBJECTIVES:
        raise UsageError(f"objective must be one of {', '.join(OBJECTIVES)}; found {config.objective!r}")
    positive, negative = OBJECTIVES[config.objective](batch)
    hinge = (positive - negative + config.margin).relu()
    stats = {"positive": positive.mean(), "negative": negative.mean(), "active": (hinge > 0).float().mean()}
    return hinge.mean(), {name: float(value.detach()) for name, value in stats.items()}
