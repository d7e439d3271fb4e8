"""Systems the paper compares with, trained by us on the same data: EZ-VSL, LVS, Mix-and-Localize.

Both networks start at random, unless ``ComparatorConfig.backbone`` names a torchvision ResNet-18 file for the
image: ImageNet's weights can't be had offline. All that differs from the authors' code stands in
docs/paper_to_code.md, "Comparators".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from moca_avs.errors import UsageError
from moca_avs.methods.config import MethodConfig
from moca_avs.proposals import check_proposer
from moca_avs.utils.settings import Count, NonNegative, Range, Seed, Settings, Share

STRIDE = 32
"""Pixels: images have a multiple of it per side."""


@dataclass(frozen=True)
class ComparatorConfig(Settings):
    """How to train a comparator; on a CPU equal configs, data and machine give bit-equal weights.

    Raises:
        UsageError: on a value outside its range or of another type.
    """

    group: ClassVar[str] = "comparator settings"

    steps: Count = 10_000
    """Optimizer steps."""
    batch: Annotated[int, Range(2)] | None = None
    """Clips per step, at most as many as there are; None is the system's own (128)."""
    lr: NonNegative | None = None
    """Adam's learning rate, constant; None is the system's own."""
    image_size: Count = 224
    """Pixels per side."""
    seconds: Annotated[float, Range(0.05)] = 2.0
    """Of sound; shorter ones are repeated. The authors' 3 s (EZ-VSL) and more don't fit the windows of 2 s
    that every method here hears."""
    augment: bool = True
    """Random crops out of images a tenth larger, and random mirroring (the public training scripts')."""
    seed: Seed = 0
    """Draws the start and the batches; >= 0."""
    backbone: str | None = None
    """A torchvision ResNet-18 state dict that the image network starts from; None starts at random."""
    checkpoint_every: Count = 500
    """Steps between states that `resume` goes on from."""
    log_every: Count = 1
    """Steps between lines of log.jsonl."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size % STRIDE:
            raise UsageError(f"image_size must be a multiple of {STRIDE}, found {self.image_size}")


@dataclass(frozen=True)
class HeatConfig(MethodConfig):
    """How a comparator's heat map becomes a mask. Their authors name no mask: they stop at the map.

    Raises:
        UsageError: on a value that does not exist or is out of range.
    """

    masks: Literal["half", "share"] = "half"
    """The coarse mask: where the heat, stretched to 0..1 over the image, is above one half; or the hottest
    `heat_share` of the image."""
    heat_share: Share = 0.10
    """Share of the image that `masks="share"` takes."""
    refine: Literal["none", "mpm"] = "none"
    """None, or the paper's proposal matching (Table 3: "+ MPM")."""
    proposals: str = "saliency"
    """Where proposals come from: names of `moca_avs.proposals.PROPOSERS`, joined by "+"."""
    match_iou: Share = 0.5
    """`refine="mpm"`: proposals that overlap the mask more than this form the mask together."""
    when_unmatched: Literal["cluster", "empty"] = "cluster"
    """`refine="mpm"` without a match: keep the coarse mask, or leave the frame empty."""
    object_map: Literal["none", "lite", "resnet18"] = "none"
    """EZ-VSL only: what is mixed into its heat at test (the authors' object-guided localization): nothing;
    lite's image network; or the ResNet-18 of `object_weights`. Such a map hears nothing."""
    object_weights: str | None = None
    """`object_map="resnet18"`: a torchvision ResNet-18 state dict (the authors' is ImageNet's)."""
    object_share: Share = 0.6
    """Weight of the object map; the heat has the rest (.4)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_proposer(self.proposals)
        if (self.object_map == "resnet18") != (self.object_weights is not None):
            raise UsageError(
                'object_map="resnet18" and object_weights=FILE go together; give both or neither'
            )
        if self.classes is not None:
            raise UsageError("comparators name no classes; leave `classes` out")


COMPARATORS: dict[str, str] = {
    "ez-vsl": "EZ-VSL (Mo & Morgado 2022): contrast of the best position with the sound",
    "lvs": "LVS (Chen et al. 2021): contrast with hard negatives out of the same image",
    "mix-and-localize": "Mix-and-Localize (Hu et al. 2022): random walk from a mixture's sounds to images",
}
"""Name -> what it is."""
