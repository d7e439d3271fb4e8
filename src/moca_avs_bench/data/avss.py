"""AVSBench-semantic (AVSS) in its official layout: a class index for each pixel.

``metadata.csv`` has a row per clip; ``<label>/<uid>/`` holds ``frames/0.jpg`` ... (from 0, original size),
``audio.wav`` and ``labels_semantic/0.png`` ... `label` is v1s (5 s), v1m (5 s) or v2 (10 s); of v1s training
clips only the first frame is labeled. The real data are squashed to 224 x 224 (bilinear frames, nearest
labels), as the public script evaluates them; the offline benchmark "stamps" keeps its size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from moca_avs.data.base import Sample
from moca_avs.errors import DataError
from moca_avs.io.image import read_image, read_indices
from moca_avs.utils.files import parse_json
from moca_avs_bench.data.avsbench import TableSet
from moca_avs_bench.data.layout import Entry

SIDE = 224
"""Pixels per side at which AVSS and the localization sets are evaluated (aspect squashed)."""
CLASSES = "label2idx.json"


def read_classes(base: Path) -> tuple[str, ...]:
    """Names of the classes in the order of their indices (``label2idx.json``), background first.

    Raises:
        DataError: where the file is missing, damaged, or its indices are not 0, 1, 2, ... below 256.
    """
    path = base / CLASSES
    try:
        indices = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} should map class names to indices: {error}; get the file again") from error
    found = [str(index) for index in indices.values()] if isinstance(indices, dict) else []
    if not 0 < len(found) <= 256 or set(found) != {str(index) for index in range(len(found))}:
        raise DataError(f"{path} should map class names to the indices 0, 1, 2, ...; get the file again")
    return tuple(sorted(indices, key=lambda name: int(indices[name])))


class AVSSSet(TableSet):
    """One split of AVSS (an `EvaluationSet`); of v1s training clips only the first frame is given.

    Args:
        root: the download, or its folder of this set.
        split: "train", "val" or "test".
        tier: "A", "B" or "C" of the offline benchmark; None takes all.

    Attributes:
        classes: names of the classes; a pixel's label is an index into them.
        class_table: the file that says so, ``label2idx.json``.
        side: pixels per side that everything is squashed to; None on the offline benchmark.

    Raises:
        DataError: where a table is missing or damaged, or has no clip of this split and tier.
    """

    names, kind = ("avss",), "semantic"

    def __init__(self, root: str | Path, split: str = "test", tier: str | None = None) -> None:
        super().__init__("avss", root, split, tier)
        self.classes, self.class_table = read_classes(self.base), self.base / CLASSES
        self.side = None if self.manifest else SIDE

    def load(self, sample_id: str) -> Sample:
        """Read one clip: frames at (i + 0.9375) s, each with the sound of its second.

        Raises:
            UsageError: for a name that isn't in the split.
            DataError: naming a file that is missing, broken, of another size, or with an unknown class.
        """
        entry = self._entry(sample_id)
        pairs = [self._pair(entry, i) for i in self.layout.annotated(entry)]
        sizes = sorted({frame.shape[:2] for frame, _ in pairs})
        if len(sizes) > 1:
            folder = f"{entry.label}/{entry.name}"
            raise DataError(f"the frames of {self.base / folder} have several sizes: {sizes}")
        frames, labels = (np.stack(images) for images in zip(*pairs, strict=True))
        return self._sample(entry, frames, labels > 0, labels=labels, classes=self.classes)

    def _category(self, entry: Entry) -> str:
        if entry.name in self.manifest:
            return super()._category(entry)
        return "+".join(split_names(entry.category, self.classes))

    def _pair(self, entry: Entry, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame and labels, squashed."""
        path = self.layout.path(self.layout.mask, entry, index)
        frame = self._read(read_image, self.layout.path(self.layout.frame, entry, index))
        labels = self._read(read_indices, path)
        if labels.shape != frame.shape[:2]:
            raise DataError(
                f"{self.base / path} is {labels.shape[1]}x{labels.shape[0]}, its frame "
                f"{frame.shape[1]}x{frame.shape[0]}; labels must have their frame's size: get both again"
            )
        if labels.max() >= len(self.classes):
            raise DataError(
                f"{self.base / path} holds class {labels.max()}, {CLASSES} ends at {len(self.classes) - 1}"
            )
        if self.side is None:
            return frame, labels
        return resize_square(frame, self.side), resize_square(labels, self.side)


def resize_square(image: np.ndarray, side: int) -> np.ndarray:
    """An image of any size squashed to a square: a frame bilinearly, labels each by the nearest.

    Args:
        image: uint8 [H, W, 3], or labels uint8 [H, W].
        side: in pixels.

    Returns:
        uint8 [side, side, 3] or [side, side].
    """
    if image.shape[:2] == (side, side):
        return image
    how = Image.Resampling.BILINEAR if image.ndim == 3 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(image).resize((side, side), how))


def split_names(joined: str, classes: tuple[str, ...]) -> list[str]:
    """Class names out of names joined by "_", longest first; a part that is no class stands for itself.

    Names may hold "_" themselves: ``man_electric_guitar`` is "man" and "electric_guitar".
    """
    parts, names = joined.split("_"), []
    while parts:
        lengths = (n for n in range(len(parts), 0, -1) if "_".join(parts[:n]) in classes)
        taken = next(lengths, 1)
        names.append("_".join(parts[:taken]))
        parts = parts[taken:]
    return [name for name in dict.fromkeys(names) if name]
