"""Systems the paper compares with, trained by us on the same data: EZ-VSL, LVS, Mix-and-Localize.

None of them starts from ImageNet as its authors' does: those weights can't be had offline, so both networks
start at random unless ``ComparatorConfig.backbone`` names a torchvision ResNet-18 file.
"""

from __future__ import annotations

COMPARATORS: dict[str, str] = {
    "ez-vsl": "EZ-VSL (Mo & Morgado 2022): contrast of the best position with the sound",
    "lvs": "LVS (Chen et al. 2021): contrast with hard negatives out of the same image",
    "mix-and-localize": "Mix-and-Localize (Hu et al. 2022): random walk from a mixture's sounds to images",
}
"""Name -> what it is."""
