"""AudioSet's classes, and which of ImageNet's look like what makes their sound.

`weights/audioset_imagenet.csv` is hand-made knowledge, learned from nothing: one row for each of the 521
classes that YAMNet scores (Gemmeke et al. 2017; the order is YAMNet's class map), with the classes of
ImageNet-1k (0..999 in the usual order) that are the thing that sounds, look like it or sit on it, and why.
ImageNet has almost no people: what they wear stands for them. A row without classes says why: an acoustic
property has no place in a picture.
"""

from __future__ import annotations

import csv
import hashlib
from functools import cache
from pathlib import Path

import numpy as np

from moca_avs.encoders.lite_networks import IMAGENET_CLASSES

TABLE = Path(__file__).parents[1] / "weights" / "audioset_imagenet.csv"


@cache
def _rows() -> tuple[dict[str, str], ...]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


@cache
def audioset_labels() -> tuple[str, ...]:
    """The 521 display names ("Speech", "Bark", ...) in YAMNet's order."""
    return tuple(row["name"] for row in _rows())


@cache
def imagenet_table() -> np.ndarray:
    """Which ImageNet classes go with which sound: float32 [521, 1000] of 0 and 1, read-only."""
    table = np.zeros((len(_rows()), IMAGENET_CLASSES), np.float32)
    for row, sound in zip(table, _rows(), strict=True):
        row[[int(index) for index in sound["imagenet"].split()]] = 1
    table.flags.writeable = False
    return table


@cache
def table_hash() -> str:
    """SHA-256 of which classes go with which sound; reasons may be reworded."""
    lines = [f"{row['mid']} {row['imagenet']}" for row in _rows()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
