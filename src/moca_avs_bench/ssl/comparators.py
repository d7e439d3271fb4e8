"""The comparators: two networks into one space of unit vectors, and a loss between them.

* LVS (Chen et al., "Localizing Visual Sounds the Hard Way", CVPR 2021; facts of the public code);
* EZ-VSL (Mo & Morgado, "Localizing Visual Sounds the Easy Way", ECCV 2022; facts of stoneMo/EZ-VSL);
* Mix-and-Localize (Hu, Chen & Owens, CVPR 2022; facts of hxixixh/mix-and-localize).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moca_avs_bench.ssl.backbone import FEATURES, ResNet18, log_spectrogram, spread_norms, start

POSITIVE, NEGATIVE, SOFTNESS = 0.65, 0.4, 0.03  # cosines: what sounds, what does not, and how sharply
LVS_TEMPERATURE = 0.07
EZ_VSL_TEMPERATURE = 0.03
EZ_VSL_WIDTH = 512
WALK_TEMPERATURE = 0.07
MIX_AND_LOCALIZE_WIDTH = 128
SOURCES = 2
REVISION = 2
"""Raised when equal configs and data come to train to other weights."""


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's material, one row a clip.

    Attributes:
        images: float32 [B, 3, S, S], normalized.
        sounds: float32 [B, N] at 16 kHz, the images' own.
        others: float32 [B, N], sounds of other moments of the same clips (where a clip has only one, that);
            None for systems that mix nothing.
    """

    images: Tensor
    sounds: Tensor
    others: Tensor | None = None

    def to(self, device: str) -> Batch:
        """The same on another device."""
        others = None if self.others is None else self.others.to(device)
        return Batch(self.images.to(device), self.sounds.to(device), others)


class Comparator(nn.Module, ABC):
    """A sound source localizer of two ResNet-18 (image, one-channel spectrogram)."""

    name: ClassVar[str]
    lr: ClassVar[float]
    batch: ClassVar[int] = 128
    mixed: ClassVar[int] = 1
    """Clips whose sounds are mixed; a batch is a multiple of it."""
    last_stride: ClassVar[int] = 2
    """Of both networks' last stage."""

    def __init__(self) -> None:
        super().__init__()
        self.image_net = ResNet18(3, self.last_stride)
        self.sound_net = ResNet18(1, self.last_stride)

    @property
    def stride(self) -> int:
        """Pixels between positions of the map."""
        return 16 * self.last_stride

    @abstractmethod
    def image_map(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> unit vectors [B, C, S / stride, S / stride]."""

    @abstractmethod
    def sound_vectors(self, sounds: Tensor) -> Tensor:
        """[B, N] at 16 kHz -> unit vectors [B, K, C], one for each source that the system tells apart."""

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """The training loss, a scalar."""

    def pooled_sound(self, sounds: Tensor) -> Tensor:
        """[B, N] -> [B, 512], the highest value of each channel over frequency and time."""
        return self.sound_net(log_spectrogram(sounds)).amax((2, 3))


def unit(vectors: Tensor) -> Tensor:
    """Vectors along dimension 1 at length 1."""
    return F.normalize(vectors, dim=1)


def cosine_heat(images: Tensor, sounds: Tensor) -> Tensor:
    """Cosine of every position with the sound; of several sources, with the nearest.

    Args:
        images: unit vectors [B, C, h, w].
        sounds: unit vectors [B, K, C].

    Returns:
        [B, h, w] in [-1, 1].
    """
    return torch.einsum("bchw,bkc->bkhw", images, sounds).amax(1).clamp(-1, 1)


class Lvs(Comparator):
    """Positions unlike the sound are negatives out of the same image: 14 x 14 positions of 512 numbers.

    The facts give no optimizer; Adam at 1e-4, as EZ-VSL.
    """

    name = "lvs"
    lr = 1e-4
    last_stride = 1

    def __init__(self) -> None:
        super().__init__()
        spread_norms(self)

    def image_map(self, images: Tensor) -> Tensor:
        """See `Comparator`."""
        return unit(self.image_net(images))

    def sound_vectors(self, sounds: Tensor) -> Tensor:
        """See `Comparator`; one source."""
        return unit(self.pooled_sound(sounds))[:, None]

    def loss(self, batch: Batch) -> Tensor:
        """See `lvs_loss`."""
        return lvs_loss(self.image_map(batch.images), self.sound_vectors(batch.sounds)[:, 0])


def lvs_loss(images: Tensor, sounds: Tensor) -> Tensor:
    """Contrast of an image's sounding positions with other sounds and with its own other positions.

    With the cosines A: positive weights sigmoid((A - .65) / .03), negative ones 1 - sigmoid((A - .4) / .03);
    every similarity is a mean of cosines under such weights. (The public code weakens the diagonal among the
    negatives by a factor of -99; here it is left out.)

    Args:
        images: unit vectors [B, C, h, w].
        sounds: unit vectors [B, C].

    Returns:
        A scalar.
    """
    cosine = torch.einsum("ichw,sc->ishw", images, sounds).flatten(2)  # [image, sound, position]
    sounding = _mean(cosine, torch.sigmoid((cosine - POSITIVE) / SOFTNESS))
    own = cosine.diagonal().T
    silent = _mean(own, torch.sigmoid((NEGATIVE - own) / SOFTNESS))
    size = len(cosine)
    others = sounding[~torch.eye(size, dtype=torch.bool, device=cosine.device)].view(size, size - 1)
    logits = torch.cat([sounding.diagonal()[:, None], others, silent[:, None]], 1) / LVS_TEMPERATURE
    return F.cross_entropy(logits, torch.zeros(size, dtype=torch.long, device=logits.device))


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over the last dimension."""
    return (values * weights).sum(-1) / weights.sum(-1)


class EzVsl(Comparator):
    """An image answers to a sound as its best position does: 7 x 7 positions of 512 numbers."""

    name = "ez-vsl"
    lr = 1e-4

    def __init__(self) -> None:
        super().__init__()
        self.image_head = nn.Conv2d(FEATURES, EZ_VSL_WIDTH, 1)
        self.sound_head = nn.Linear(FEATURES, EZ_VSL_WIDTH)
        start(self.image_head)
        start(self.sound_head)
        spread_norms(self.sound_net)

    def image_map(self, images: Tensor) -> Tensor:
        """See `Comparator`."""
        return unit(self.image_head(self.image_net(images)))

    def sound_vectors(self, sounds: Tensor) -> Tensor:
        """See `Comparator`; one source."""
        return unit(self.sound_head(self.pooled_sound(sounds)))[:, None]

    def loss(self, batch: Batch) -> Tensor:
        """See `ez_vsl_loss`."""
        return ez_vsl_loss(self.image_map(batch.images), self.sound_vectors(batch.sounds)[:, 0])


def ez_vsl_loss(images: Tensor, sounds: Tensor, temperature: float = EZ_VSL_TEMPERATURE) -> Tensor:
    """InfoNCE both ways, added, on the highest cosine over positions (the paper's equation 3).

    Args:
        images: unit vectors [B, C, h, w].
        sounds: unit vectors [B, C].
        temperature: divides the cosines.

    Returns:
        A scalar; 2 log B where nothing is told apart.
    """
    score = torch.einsum("ichw,sc->ishw", images, sounds).amax((2, 3)) / temperature
    own = torch.arange(len(score), device=score.device)
    return F.cross_entropy(score, own) + F.cross_entropy(score.T, own)


class MixAndLocalize(Comparator):
    """Sounds told apart in a mixture walk to the images and must come back: 14 x 14 positions of 128.

    Two clips' sounds are averaged. The walk starts at the sources heard in a mixture of other moments of the
    two clips and ends at those of the mixture of the images' own moments. At test the sound is no mixture
    of ours: a position's heat is that of the nearer of the two sources.

    The loss can't know which source belongs to which image (`walk_loss` is the same for images in any
    order), so a run from a random start may settle on the reverse, each sound at the *other* image's
    object, and then scores below chance. The authors start from ImageNet (``ComparatorConfig.backbone``).
    """

    name = "mix-and-localize"
    lr = 1e-4  # its script is given 1e-3 and divides by ten for Adam
    mixed = SOURCES
    last_stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.image_head = nn.Sequential(
            nn.Conv2d(FEATURES, MIX_AND_LOCALIZE_WIDTH, 1),
            nn.ReLU(),
            nn.Conv2d(MIX_AND_LOCALIZE_WIDTH, MIX_AND_LOCALIZE_WIDTH, 1),
        )
        self.sound_heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(FEATURES, MIX_AND_LOCALIZE_WIDTH),
                nn.ReLU(),
                nn.Linear(MIX_AND_LOCALIZE_WIDTH, MIX_AND_LOCALIZE_WIDTH),
            )
            for _ in range(SOURCES)
        )

    def image_map(self, images: Tensor) -> Tensor:
        """See `Comparator`."""
        return unit(self.image_head(self.image_net(images)))

    def sound_vectors(self, sounds: Tensor) -> Tensor:
        """See `Comparator`; two sources."""
        pooled = self.pooled_sound(sounds)
        return torch.stack([unit(head(pooled)) for head in self.sound_heads], 1)

    def loss(self, batch: Batch) -> Tensor:
        """See `walk_loss`."""
        others = batch.sounds if batch.others is None else batch.others
        mixtures = [sounds.unflatten(0, (-1, SOURCES)).mean(1) for sounds in (others, batch.sounds)]
        first, last = self.sound_vectors(torch.cat(mixtures)).chunk(2)
        return walk_loss(self.image_map(batch.images).unflatten(0, (-1, SOURCES)), first, last)


def walk_loss(images: Tensor, first: Tensor, last: Tensor, temperature: float = WALK_TEMPERATURE) -> Tensor:
    """Minus the log probability that a walk sound -> image -> sound ends at the source it began with.

    A step's probabilities are a softmax over the highest cosine of an image's positions with a sound. Which
    source is whose is left open: only the diagonal of the whole walk counts.

    Args:
        images: unit vectors [G, k, C, h, w], the images of k clips mixed.
        first: unit vectors [G, k, C], the k sources told apart in a mixture of them.
        last: the same of another mixture.
        temperature: divides the cosines.

    Returns:
        A scalar; log k where nothing is told apart.
    """
    there = torch.einsum("gsc,gichw->gsihw", first, images).amax((3, 4)) / temperature
    back = torch.einsum("gichw,gsc->gishw", images, last).amax((3, 4)) / temperature
    # log of sum over images i of p(i | s) p(s | i), without leaving logarithms
    steps = there.log_softmax(2) + back.log_softmax(2).transpose(1, 2)
    return -steps.logsumexp(2).mean()
