"""AVSBench-object: single-source (S4) and multi-source (MS3) clips in their official layout.

Five frames of five seconds: frame i (from 1) is shown at (i - 1) + 0.9375 s, its mask stands for the sound of
second i. Masks are read as gray and cut at 127. Where a ``manifest/<split>.jsonl`` lies beside the official
files (the offline benchmark "stamps"), samples also carry their objects, tier and swapped sound.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from moca_avs.clip import Clip
from moca_avs.data.base import Sample
from moca_avs.errors import DataError, MediaError, UsageError
from moca_avs.io.audio import read_audio
from moca_avs.io.image import read_image
from moca_avs_bench.stamps.manifest import heard_classes, read_manifest, scene_objects, swapped

SECONDS = 5
SHOWN_AT = 0.9375
"""Where in its second each frame was taken, in seconds."""

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Entry:
    """One row of a meta table.

    Attributes:
        name: of the clip, unique within its split.
        category: class name, "" in MS3.
        split: "train", "val" or "test".
    """

    name: str
    category: str
    split: str


@dataclass(frozen=True)
class Layout:
    """Where one of the two sets keeps its files; all paths are relative to `folder`.

    Attributes:
        folder: inside the download.
        table: the meta table.
        official: number of clips per split.
        frame: (entry, i from 1) -> path.
        mask: (entry, i from 1) -> path.
        sound: entry -> path.
        first_only: whether training clips have a mask for their first frame only.
    """

    folder: str
    table: str
    official: dict[str, int]
    frame: Callable[[Entry, int], str]
    mask: Callable[[Entry, int], str]
    sound: Callable[[Entry], str]
    first_only: bool

    def annotated(self, split: str) -> range:
        """Numbers (from 1) of the frames that have masks."""
        return range(1, 2 if self.first_only and split == "train" else SECONDS + 1)


LAYOUTS: dict[str, Layout] = {
    "s4": Layout(
        folder="Single-source",
        table="s4_meta_data.csv",
        official={"train": 3452, "val": 740, "test": 740},
        frame=lambda e, i: f"s4_data/visual_frames/{e.split}/{e.category}/{e.name}/{e.name}_{i}.png",
        mask=lambda e, i: f"s4_data/gt_masks/{e.split}/{e.category}/{e.name}/{e.name}_{i}.png",
        sound=lambda e: f"s4_data/audio_wav/{e.split}/{e.category}/{e.name}.wav",
        first_only=True,
    ),
    "ms3": Layout(
        folder="Multi-sources",
        table="ms3_meta_data.csv",
        official={"train": 296, "val": 64, "test": 64},
        frame=lambda e, i: f"ms3_data/visual_frames/{e.name}/{e.name}.mp4_{i}.png",
        mask=lambda e, i: f"ms3_data/gt_masks/{e.split}/{e.name}/{e.name}_{i}.png",
        sound=lambda e: f"ms3_data/audio_wav/{e.split}/{e.name}.wav",
        first_only=False,
    ),
}


def find_root(name: str, root: str | Path) -> Path:
    """The folder that holds a set's table: `root` itself, or the official folder inside it.

    Raises:
        UsageError: for an unknown set.
        DataError: where the table is in neither place.
    """
    if name not in LAYOUTS:
        raise UsageError(f"dataset must be one of {', '.join(LAYOUTS)}, found {name!r}")
    layout = LAYOUTS[name]
    for place in (Path(root) / layout.folder, Path(root)):
        if (place / layout.table).is_file():
            return place
    raise DataError(
        f"no {layout.table} in {root} or {Path(root) / layout.folder}; expected AVSBench's {name.upper()} "
        "there. Ask its authors for the data, or use the offline benchmark (`moca data stamps`)"
    )


def read_entries(name: str, base: Path) -> list[Entry]:
    """All rows of a set's table: the first column is the name; `category` and `split` go by their headings.

    Raises:
        DataError: on a table without these columns or with an unknown split.
    """
    path = base / LAYOUTS[name].table
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wanted = {"split", "category"} if name == "s4" else {"split"}
    if not rows or not wanted <= set(rows[0]):
        raise DataError(
            f"{path} must have rows and the columns {', '.join(sorted(wanted))}; get the file again"
        )
    entries = [Entry(next(iter(row.values())), row.get("category") or "", row["split"]) for row in rows]
    strange = sorted({entry.split for entry in entries} - set(SPLITS))
    if strange:
        raise DataError(f"{path} names the splits {', '.join(strange)}; expected {', '.join(SPLITS)}")
    return entries


def expected_files(name: str, base: Path) -> Iterator[tuple[str, list[str]]]:
    """For each clip its split and all files it should have, relative to `base`."""
    layout = LAYOUTS[name]
    for entry in read_entries(name, base):
        frames = [layout.frame(entry, i) for i in range(1, SECONDS + 1)]
        masks = [layout.mask(entry, i) for i in layout.annotated(entry.split)]
        yield entry.split, [*frames, *masks, layout.sound(entry)]


class AVSBenchSet:
    """One split of S4 or MS3 (an `EvaluationSet`).

    Args:
        name: "s4" or "ms3".
        root: the download, or its folder of this set.
        split: "train", "val" or "test"; of S4's training clips only the first frame is given.
        tier: "A", "B" or "C" of the offline benchmark; None takes all.

    Raises:
        DataError: where the table is missing, or has no clip of this split and tier.
    """

    def __init__(self, name: str, root: str | Path, split: str = "test", tier: str | None = None) -> None:
        self.name, self.split, self.tier = name, split, tier
        self.base = find_root(name, root)
        self.layout = LAYOUTS[name]
        self._manifest = read_manifest(self.base, split)
        entries = [entry for entry in read_entries(name, self.base) if entry.split == split]
        if tier is not None:
            entries = [e for e in entries if self._manifest.get(e.name, {}).get("tier") == tier]
        self._entries = {entry.name: entry for entry in entries}
        if not entries:
            of_tier = f" of tier {tier}" if tier is not None else ""
            raise DataError(f"{self.base / self.layout.table} lists no clip of split {split!r}{of_tier}")

    @property
    def ids(self) -> list[str]:
        """Names of the clips, in the table's order."""
        return list(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def categories(self) -> dict[str, str]:
        """Name -> class(es) heard, joined by "+"; "" where MS3 doesn't say."""
        return {name: self._category(entry) for name, entry in self._entries.items()}

    def load(self, sample_id: str) -> Sample:
        """Read one clip.

        Raises:
            UsageError: for a name that isn't in the split.
            DataError: naming a file that is missing, broken, or of another size than its frame.
        """
        if sample_id not in self._entries:
            raise UsageError(f"{self.name} {self.split} has no clip {sample_id!r}")
        entry = self._entries[sample_id]
        numbers = self.layout.annotated(self.split)
        frames = np.stack([self._read(read_image, self.layout.frame(entry, i)) for i in numbers])
        masks = np.stack([self._mask(self.layout.mask(entry, i), frames.shape[1:3]) for i in numbers])
        clip = self._clip(frames, self.layout.sound(entry))
        line = self._manifest.get(sample_id)
        if line is None:
            return Sample(sample_id, clip, masks, entry.category, sample_id)
        objects = scene_objects(line, len(numbers), lambda path: self._read(read_image, path))
        return Sample(
            sample_id,
            clip,
            masks,
            self._category(entry),
            line["cluster"],
            line["tier"],
            objects,
            swapped(line, lambda path: self._clip(frames, path), objects),
        )

    def _category(self, entry: Entry) -> str:
        line = self._manifest.get(entry.name)
        if line is None:
            return entry.category
        return heard_classes(line)

    def _clip(self, frames: np.ndarray, sound_path: str) -> Clip:
        sound, rate = self._read(read_audio, sound_path)
        seconds = np.arange(len(frames), dtype=np.float64)
        return Clip(
            frames, seconds + SHOWN_AT, sound, rate, str(self.base / sound_path), sound_times=seconds + 0.5
        )

    def _mask(self, path: str, shape: tuple[int, ...]) -> np.ndarray:
        gray = self._read(read_image, path) @ np.array([0.299, 0.587, 0.114])
        if gray.shape != shape:
            raise DataError(
                f"{self.base / path} is {gray.shape[1]}x{gray.shape[0]}, its frame {shape[1]}x{shape[0]}; "
                "a mask must have its frame's size: get both again"
            )
        return gray > 127

    def _read(self, reader: Callable[[Path], Any], path: str) -> Any:
        """A file of this set, or a DataError that names it."""
        try:
            return reader(self.base / path)
        except MediaError as error:
            raise DataError(f"{self.name} {self.split}: {error}") from error


class AVSBenchTraining:
    """Every frame of a split with its own sound (a `TrainingSet`). Opens no mask, no class, no manifest.

    Args:
        name: "s4" or "ms3".
        root: the download, or its folder of this set.
        split: usually "train".
        window: seconds of sound around the middle of each frame's second.

    Raises:
        DataError: where the table is missing or has no clip of this split.
    """

    def __init__(self, name: str, root: str | Path, split: str = "train", window: float = 2.0) -> None:
        self.base = find_root(name, root)
        self.layout, self.window = LAYOUTS[name], window
        self._entries = [entry for entry in read_entries(name, self.base) if entry.split == split]
        if not self._entries:
            raise DataError(f"{self.base / self.layout.table} lists no clip of split {split!r}")
        self._sound = lru_cache(maxsize=64)(self._read_sound)

    def __len__(self) -> int:
        return len(self._entries) * SECONDS

    def frame(self, index: int) -> np.ndarray:
        """Frame `index`: uint8 [H, W, 3]. Raises DataError naming a missing or broken file."""
        entry, second = self._place(index)
        path = self.base / self.layout.frame(entry, second + 1)
        try:
            return read_image(path)
        except MediaError as error:
            raise DataError(str(error)) from error

    def sound(self, index: int) -> tuple[np.ndarray, int]:
        """(float32 [N], Hz): `window` seconds around the middle of the frame's second, cut at the ends."""
        entry, second = self._place(index)
        sound, rate = self._sound(entry)
        start, stop = (round((second + 0.5 + side * self.window / 2) * rate) for side in (-1, 1))
        return sound[max(start, 0) : stop], rate

    def clip_id(self, index: int) -> str:
        """Name of the clip the frame is from."""
        return self._place(index)[0].name

    def fingerprint(self) -> str:
        """SHA-256 over window, names and sizes of all files that are read."""
        digest = hashlib.sha256(f"{self.window}".encode())
        for entry in self._entries:
            paths = [self.layout.frame(entry, i + 1) for i in range(SECONDS)] + [self.layout.sound(entry)]
            for path in paths:
                file = self.base / path
                digest.update(f"{path}:{file.stat().st_size if file.is_file() else -1}\n".encode())
        return digest.hexdigest()

    def _place(self, index: int) -> tuple[Entry, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return self._entries[index // SECONDS], index % SECONDS

    def _read_sound(self, entry: Entry) -> tuple[np.ndarray, int]:
        try:
            return read_audio(self.base / self.layout.sound(entry))
        except MediaError as error:
            raise DataError(str(error)) from error
