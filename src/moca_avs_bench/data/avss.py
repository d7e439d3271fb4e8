"""AVSBench-semantic (AVSS) in its official layout: a class index for each pixel.

``metadata.csv`` has a row per clip; ``<label>/<uid>/`` holds ``frames/0.jpg`` ... (from 0, original size),
``audio.wav`` and ``labels_semantic/0.png`` ... `label` is v1s (5 s), v1m (5 s) or v2 (10 s); of v1s training
clips only the first frame is labeled. The real data are squashed to 224 x 224 (bilinear frames, nearest
labels), as the public script evaluates them; the offline benchmark "stamps" keeps its size.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moca_avs.clip import Clip
from moca_avs.data.base import Sample
from moca_avs.errors import DataError, MediaError, UsageError
from moca_avs.io.audio import read_audio
from moca_avs.io.image import read_image, read_indices
from moca_avs_bench.data.avsbench import SHOWN_AT, SPLITS
from moca_avs_bench.data.transforms import SIDE, resize_square, resize_square_labels
from moca_avs_bench.stamps.manifest import Line, heard_classes, read_manifest, scene_objects, swapped

FOLDER, TABLE, CLASSES = "AVSBench-semantic", "metadata.csv", "label2idx.json"
SECONDS = {"v1s": 5, "v1m": 5, "v2": 10}
OFFICIAL = {
    "v1s": {"train": 3452, "val": 740, "test": 740},
    "v1m": {"train": 296, "val": 64, "test": 64},
    "v2": {"train": 4750, "val": 500, "test": 750},
}
"""Clips of the official release: 8,498 / 1,304 / 1,554 in all."""

_COLUMNS = ("vid", "uid", "a_obj", "split", "label")


@dataclass(frozen=True)
class Entry:
    """One row of ``metadata.csv``.

    Attributes:
        id: `uid`, or ``<label>/<uid>`` where two rows of a split share it.
        video: the video it was cut from.
        uid: its folder's name.
        heard: names of what is heard, joined by "_" (as the names themselves may be).
        split: "train", "val" or "test".
        label: "v1s", "v1m" or "v2".
    """

    id: str
    video: str
    uid: str
    heard: str
    split: str
    label: str

    @property
    def folder(self) -> str:
        """Inside the dataset."""
        return f"{self.label}/{self.uid}"

    @property
    def frames(self) -> range:
        """Numbers (from 0) of all its frames."""
        return range(SECONDS[self.label])

    @property
    def labeled(self) -> range:
        """Numbers (from 0) of the frames that have labels."""
        return range(1) if self.label == "v1s" and self.split == "train" else self.frames


def find_root(root: str | Path) -> Path:
    """The folder that holds ``metadata.csv``: `root` itself, or ``AVSBench-semantic`` inside it.

    Raises:
        DataError: where the table is in neither place.
    """
    for place in (Path(root) / FOLDER, Path(root)):
        if (place / TABLE).is_file():
            return place
    raise DataError(
        f"no {TABLE} in {root} or {Path(root) / FOLDER}; expected AVSBench-semantic there. Ask its authors "
        "for the data, or use the offline benchmark (`moca data stamps`)"
    )


def read_entries(base: Path) -> list[Entry]:
    """All rows of the table.

    Raises:
        DataError: on missing columns, an unknown split or label, or a row that is there twice.
    """
    path = base / TABLE
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not set(_COLUMNS) <= set(rows[0]):
        raise DataError(f"{path} must have rows and the columns {', '.join(_COLUMNS)}; get the file again")
    for column, known in (("split", SPLITS), ("label", tuple(SECONDS))):
        strange = sorted({str(row[column]) for row in rows} - set(known))
        if strange:
            raise DataError(f"{path} has {column}s named {', '.join(strange)}; expected {', '.join(known)}")
    times = Counter((row["split"], row["uid"]) for row in rows)
    entries = [
        Entry(
            row["uid"] if times[row["split"], row["uid"]] == 1 else f"{row['label']}/{row['uid']}",
            *(row[column] for column in _COLUMNS),
        )
        for row in rows
    ]
    if len({(entry.split, entry.id) for entry in entries}) < len(entries):
        raise DataError(f"{path} has a clip twice (same uid and label); get the file again")
    return entries


def read_classes(base: Path) -> tuple[str, ...]:
    """Names of the classes in the order of their indices (``label2idx.json``), background first.

    Raises:
        DataError: where the file is missing, damaged, or its indices are not 0, 1, 2, ... below 256.
    """
    path = base / CLASSES
    try:
        indices = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} should map class names to indices: {error}; get the file again") from error
    found = [str(index) for index in indices.values()] if isinstance(indices, dict) else []
    if not 0 < len(found) <= 256 or set(found) != {str(index) for index in range(len(found))}:
        raise DataError(f"{path} should map class names to the indices 0, 1, 2, ...; get the file again")
    return tuple(sorted(indices, key=lambda name: int(indices[name])))


def expected_files(base: Path) -> Iterator[tuple[str, list[str]]]:
    """For each clip its group ("test v2") and all files it should have, relative to `base`."""
    for entry in read_entries(base):
        frames = [f"{entry.folder}/frames/{i}.jpg" for i in entry.frames]
        labels = [f"{entry.folder}/labels_semantic/{i}.png" for i in entry.labeled]
        yield f"{entry.split} {entry.label}", [*frames, *labels, f"{entry.folder}/audio.wav"]


class AVSSSet:
    """One split of AVSS (an `EvaluationSet`).

    Args:
        root: the download, or its folder of this set.
        split: "train", "val" or "test"; of v1s training clips only the first frame is given.
        tier: "A", "B" or "C" of the offline benchmark; None takes all.

    Attributes:
        classes: names of the classes; a pixel's label is an index into them.
        class_table: the file that says so, ``label2idx.json``.
        side: pixels per side that everything is squashed to; None on the offline benchmark.

    Raises:
        DataError: where a table is missing or damaged, or has no clip of this split and tier.
    """

    name, kind = "avss", "semantic"

    def __init__(self, root: str | Path, split: str = "test", tier: str | None = None) -> None:
        self.split, self.tier, self.base = split, tier, find_root(root)
        self.classes, self.class_table = read_classes(self.base), self.base / CLASSES
        self._manifest = read_manifest(self.base, split)
        self.side = None if self._manifest else SIDE
        entries = [entry for entry in read_entries(self.base) if entry.split == split]
        if tier is not None:
            entries = [entry for entry in entries if self._line(entry).get("tier") == tier]
        self._entries = {entry.id: entry for entry in entries}
        if not entries:
            of_tier = f" of tier {tier}" if tier is not None else ""
            raise DataError(f"{self.base / TABLE} lists no clip of split {split!r}{of_tier}")

    @property
    def ids(self) -> list[str]:
        """The clips, in the table's order."""
        return list(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def categories(self) -> dict[str, str]:
        """Id -> class(es) heard, joined by "+"."""
        return {name: self._category(entry) for name, entry in self._entries.items()}

    def load(self, sample_id: str) -> Sample:
        """Read one clip: frames at (i + 0.9375) s, each with the sound of its second.

        Raises:
            UsageError: for a name that isn't in the split.
            DataError: naming a file that is missing, broken, of another size, or with an unknown class.
        """
        if sample_id not in self._entries:
            raise UsageError(f"avss {self.split} has no clip {sample_id!r}")
        entry = self._entries[sample_id]
        frames, labels = zip(*(self._pair(entry, i) for i in entry.labeled), strict=True)
        images, truth = self._stacked(entry, frames), np.stack(labels)
        clip = self._clip(images, f"{entry.folder}/audio.wav")
        line = self._line(entry)
        common: dict[str, Any] = {"labels": truth, "classes": self.classes}
        if not line:
            return Sample(sample_id, clip, truth > 0, self._category(entry), entry.video, **common)
        objects = scene_objects(line, len(truth), lambda path: self._read(read_image, path))
        swap = swapped(line, lambda path: self._clip(images, path), objects)
        return Sample(
            sample_id,
            clip,
            truth > 0,
            self._category(entry),
            line["cluster"],
            line["tier"],
            objects,
            swap,
            **common,
        )

    def _line(self, entry: Entry) -> Line:
        return self._manifest.get(entry.uid, {})

    def _category(self, entry: Entry) -> str:
        line = self._line(entry)
        return heard_classes(line) if line else "+".join(split_names(entry.heard, self.classes))

    def _pair(self, entry: Entry, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame and labels, squashed."""
        path = f"{entry.folder}/labels_semantic/{index}.png"
        frame = self._read(read_image, f"{entry.folder}/frames/{index}.jpg")
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
        return resize_square(frame, self.side), resize_square_labels(labels, self.side)

    def _stacked(self, entry: Entry, frames: tuple[np.ndarray, ...]) -> np.ndarray:
        sizes = sorted({frame.shape[:2] for frame in frames})
        if len(sizes) > 1:
            raise DataError(f"the frames of {self.base / entry.folder} have several sizes: {sizes}")
        return np.stack(frames)

    def _clip(self, frames: np.ndarray, sound_path: str) -> Clip:
        sound, rate = self._read(read_audio, sound_path)
        seconds = np.arange(len(frames), dtype=np.float64)
        return Clip(
            frames, seconds + SHOWN_AT, sound, rate, str(self.base / sound_path), sound_times=seconds + 0.5
        )

    def _read(self, reader: Callable[[Path], Any], path: str) -> Any:
        """A file of this set, or a DataError that names it."""
        try:
            return reader(self.base / path)
        except MediaError as error:
            raise DataError(f"avss {self.split}: {error}") from error


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
