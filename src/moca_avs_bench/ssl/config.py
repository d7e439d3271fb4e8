"""Every choice of a comparator: how it is trained, and how its heat becomes a mask."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from moca_avs.errors import UsageError
from moca_avs.methods.config import MethodConfig
from moca_avs.proposals import check_proposer

STRIDE = 32
"""Pixels: images have a multiple of it per side."""


@dataclass(frozen=True)
class ComparatorConfig:
    """How to train a comparator; on a CPU equal configs, data and machine give bit-equal weights.

    Raises:
        UsageError: on a value outside its range or of another type.
    """

    steps: int = 10_000
    """Optimizer steps."""
    batch: int | None = None
    """Clips per step, at most as many as there are; None is the system's own (128)."""
    lr: float | None = None
    """Adam's learning rate, constant; None is the system's own."""
    image_size: int = 224
    """Pixels per side."""
    seconds: float = 2.0
    """Of sound; shorter ones are repeated. The authors' 3 s (EZ-VSL) and more don't fit the windows of 2 s
    that every method here hears."""
    augment: bool = True
    """Random crops out of images a tenth larger, and random mirroring (the public training scripts')."""
    seed: int = 0
    """Draws the start and the batches; >= 0."""
    backbone: str | None = None
    """A torchvision ResNet-18 state dict that the image network starts from; None starts at random."""
    checkpoint_every: int = 500
    """Steps between states that `resume` goes on from."""
    log_every: int = 1
    """Steps between lines of log.jsonl."""

    def __post_init__(self) -> None:
        for name in ("steps", "image_size", "checkpoint_every", "log_every"):
            self._at_least(name, 1, int)
        self._at_least("seed", 0, int)
        self._at_least("seconds", 0.05, int | float)
        if self.batch is not None:
            self._at_least("batch", 2, int)
        if self.lr is not None:
            self._at_least("lr", 0, int | float)
        if self.image_size % STRIDE:
            raise UsageError(f"image_size must be a multiple of {STRIDE}, found {self.image_size}")
        if not isinstance(self.augment, bool):
            raise UsageError(f"augment must be true or false, found {self.augment!r}")

    def _at_least(self, name: str, lowest: float, kind: Any) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, kind) or not lowest <= value < math.inf:
            what = "whole number" if kind is int else "finite number"
            raise UsageError(f"{name} must be a {what} of at least {lowest}, found {value!r}")

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ComparatorConfig:
        """The inverse of `to_dict`. Raises UsageError on a name that is no field."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise UsageError(f"unknown comparator settings {', '.join(unknown)}; from a newer moca-avs?")
        return cls(**values)


@dataclass(frozen=True)
class HeatConfig(MethodConfig):
    """How a comparator's heat map becomes a mask. Their authors name no mask: they stop at the map.

    Raises:
        UsageError: on a value that does not exist or is out of range.
    """

    masks: Literal["half", "share"] = "half"
    """The coarse mask: where the heat, stretched to 0..1 over the image, is above one half; or the hottest
    `heat_share` of the image."""
    heat_share: float = 0.10
    """Share of the image that `masks="share"` takes."""
    refine: Literal["none", "mpm"] = "none"
    """None, or the paper's proposal matching (Table 3: "+ MPM")."""
    proposals: str = "saliency"
    """Where proposals come from: names of `moca_avs.proposals.PROPOSERS`, joined by "+"."""
    match_iou: float = 0.5
    """`refine="mpm"`: proposals that overlap the mask more than this form the mask together."""
    when_unmatched: Literal["cluster", "empty"] = "cluster"
    """`refine="mpm"` without a match: keep the coarse mask, or leave the frame empty."""
    object_map: Literal["none", "lite", "resnet18"] = "none"
    """EZ-VSL only: what is mixed into its heat at test (the authors' object-guided localization): nothing;
    lite's image network; or the ResNet-18 of `object_weights`. Such a map hears nothing."""
    object_weights: str | None = None
    """`object_map="resnet18"`: a torchvision ResNet-18 state dict (the authors' is ImageNet's)."""
    object_share: float = 0.6
    """Weight of the object map; the heat has the rest (.4)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("heat_share", "match_iou", "object_share"):
            self._within(name, 0.0, 1.0)
        check_proposer(self.proposals)
        self._one_of("masks", ("half", "share"))
        self._one_of("refine", ("none", "mpm"))
        self._one_of("when_unmatched", ("cluster", "empty"))
        self._one_of("object_map", ("none", "lite", "resnet18"))
        if (self.object_map == "resnet18") != (self.object_weights is not None):
            raise UsageError(
                'object_map="resnet18" and object_weights=FILE go together; give both or neither'
            )
        if self.classes is not None:
            raise UsageError("comparators name no classes; leave `classes` out")
