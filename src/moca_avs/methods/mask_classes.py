"""AVSS: which class is each part of a mask? Tags of the sound, mapped to a dataset's classes by a table.

The paper says only that SAM-BIND gives its labels. Here (facts: the paper's supplement, section 8) masks are
separate objects when their IoU is below 0.3, and each gets the class of the tag that is likely for the sound
*and* found where the object is: tag probability times how well a box that the grounder draws for the tag fits
the object. Where the grounder finds no tag in any object, the likeliest tag decides alone.

``semantics_table.json`` says which tags stand for which class: AudioSet's names (for AST) and ImageNet's
indices (for SoundNet). It knows AVSBench-semantic's 70 classes and those of the offline benchmark; a class
list it does not know is matched by its names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from moca_avs.encoders.audio_tagging import Tagger
from moca_avs.errors import DataError
from moca_avs.proposals.boxes import bounding_boxes, box_iou
from moca_avs.proposals.detectors import Grounder
from moca_avs.proposals.masks import pairwise_iou
from moca_avs.utils.files import parse_json

TABLE = Path(__file__).with_name("semantics_table.json")
SEPARATE_IOU = 0.3
"""The paper's: masks that overlap less are separate objects."""
CANDIDATES = 5


class TagClassifier:
    """Names the parts of a mask (a `moca_avs.methods.base.MaskClassifier`).

    Args:
        tagger: names sounds.
        grounder: finds tags in an image; takes the tagger's own labels.
        classes: class name -> index, 1..255; the background (0) may be among them.
        candidates: likeliest tags that are looked for, among those that stand for a class.
        separate_iou: parts that overlap at least as much are one object.
    """

    def __init__(
        self,
        tagger: Tagger,
        grounder: Grounder,
        classes: Mapping[str, int],
        candidates: int = CANDIDATES,
        separate_iou: float = SEPARATE_IOU,
    ) -> None:
        self.tagger, self.grounder = tagger, grounder
        self.candidates, self.separate_iou = candidates, separate_iou
        self.meaning = tag_classes(tagger.labels, classes)
        self.settings: dict[str, Any] = {
            "name": "tags",
            "tagger": tagger.settings,
            "grounder": grounder.settings,
            "classes": dict(classes),
            "candidates": candidates,
            "separate_iou": separate_iou,
        }

    def __call__(
        self, frame: np.ndarray, parts: np.ndarray, sound: np.ndarray, sample_rate: int
    ) -> np.ndarray:
        """Class indices of a frame.

        Args:
            frame: uint8 [H, W, 3].
            parts: bool [P, H, W].
            sound: float32 [N >= 1], mono.
            sample_rate: of the sound, in Hz.

        Returns:
            uint8 [H, W]; 0 outside the parts, and everywhere if no tag stands for a class. Where objects
            overlap the smaller one is on top.
        """
        labels = np.zeros(frame.shape[:2], np.uint8)
        meaning = self.meaning
        probabilities = np.where(meaning > 0, self.tagger(sound, sample_rate), -1.0)
        tags = [tag for tag in np.argsort(-probabilities, kind="stable")[: self.candidates] if meaning[tag]]
        if not tags:
            return labels
        objects = separate_objects(parts, self.separate_iou)
        fit = np.stack([self._fit(frame, objects, self.tagger.labels[tag]) for tag in tags], 1)
        scores = fit * probabilities[tags]
        best = np.where(scores.max(1) > 0, scores.argmax(1), 0)
        for index in np.argsort(-objects.sum((1, 2)), kind="stable"):
            labels[objects[index]] = meaning[tags[best[index]]]
        return labels

    def _fit(self, frame: np.ndarray, objects: np.ndarray, tag: str) -> np.ndarray:
        """How well a tag is found in each object, [P]: best box score times its IoU with the object's box."""
        boxes, scores = self.grounder(frame, [tag])
        if not len(boxes):
            return np.zeros(len(objects))
        best: np.ndarray = (box_iou(bounding_boxes(objects), boxes) * scores).max(1)
        return best


def separate_objects(parts: np.ndarray, min_iou: float = SEPARATE_IOU) -> np.ndarray:
    """Objects: parts (bool [P, H, W]) joined where their IoU is at least `min_iou`; empty ones left out."""
    from scipy.sparse.csgraph import connected_components

    parts = parts[parts.any((1, 2))]
    if not len(parts):
        return parts
    count, member = connected_components(pairwise_iou(parts, parts) >= min_iou, directed=False)
    return np.stack([parts[member == index].any(0) for index in range(count)])


def tag_classes(tags: Sequence[str], classes: Mapping[str, int]) -> np.ndarray:
    """What each tag stands for: the table's first class that is in the list, else the class of the same name.

    Args:
        tags: of a tagger; "imagenet 207" is ImageNet's class 207, anything else an AudioSet name.
        classes: name -> index; names are compared in lower case, "-" and "_" being spaces.

    Returns:
        int64 [len(tags)], class indices; 0 for a tag that stands for none.
    """
    index = {_plain(name): number for name, number in classes.items() if number}
    known: dict[str, int] = {}
    for name, stand_for in _table().items():
        if name in index:
            for tag in stand_for:
                known.setdefault(tag, index[name])
    names = ([tag, *tag.split(",")] for tag in tags)
    same = [next((index[_plain(name)] for name in n if _plain(name) in index), 0) for n in names]
    return np.array([known.get(tag, other) for tag, other in zip(tags, same, strict=True)], np.int64)


def read_classes(path: str | Path) -> dict[str, int]:
    """A dataset's ``label2idx.json``: class name -> index, 0..255.

    Raises:
        DataError: if it can't be read, or is no such table.
    """
    try:
        content: dict[str, int] = parse_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read ({error}); give the dataset's label2idx.json") from error
    good = isinstance(content, dict) and all(type(i) is int and 0 <= i <= 255 for i in content.values())
    if not good or not any(content.values()):
        raise DataError(f"{path} should map class names to indices 0..255; give the dataset's label2idx.json")
    return content


@lru_cache
def _table() -> dict[str, list[str]]:
    """Class -> tags, the special classes before the general ones."""
    content = parse_json(TABLE.read_text(encoding="utf-8"))
    table: dict[str, list[str]] = {name: list(tags) for name, tags in content["audioset"].items()}
    for name, indices in content["imagenet"].items():
        table.setdefault(name, []).extend(f"imagenet {index}" for index in _numbers(indices))
    return table


def _numbers(entries: Sequence[int | Sequence[int]]) -> list[int]:
    """Indices and [first, last] ranges as indices."""
    numbers: list[int] = []
    for entry in entries:
        numbers += [entry] if isinstance(entry, int) else range(entry[0], entry[1] + 1)
    return numbers


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]+", " ", name.strip().lower())
