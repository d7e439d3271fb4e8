"""AVSBench-object: single-source (S4) and multi-source (MS3) clips in their official layout.

Five frames of five seconds: frame i (from 1) is shown at (i - 1) + 0.9375 s, its mask stands for the sound of
second i. Masks are read as gray and cut at 127. Where a ``manifest/<split>.jsonl`` lies beside the official
files (the offline benchmark "stamps"), samples also carry their objects, tier and swapped sound.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from moca_avs.clip import Clip
from moca_avs.data.base import Sample, SceneObject
from moca_avs.errors import DataError, MediaError, UsageError
from moca_avs.io.audio import read_audio
from moca_avs.io.image import read_image
from moca_avs.utils.files import parse_json
from moca_avs_bench.data.layout import LAYOUTS, Entry, find_root, read_entries

SECONDS = 5
SHOWN_AT = 0.9375
"""Where in its second each frame of a clip was taken, in seconds."""


def read_manifest(base: Path, split: str) -> dict[str, dict[str, Any]]:
    """Clip -> line of the offline benchmark's manifest; empty where there is none (the real data).

    Raises:
        DataError: where it is damaged.
    """
    path = base / "manifest" / f"{split}.jsonl"
    if not path.is_file():
        return {}
    try:
        lines = [parse_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = {line["id"]: line for line in lines}
        for line in found.values():
            heard_classes(line)
            line["tier"]
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged ({error!r}); make the benchmark again (moca data stamps)"
        ) from error


def heard_classes(line: dict[str, Any]) -> str:
    """Class(es) heard in a clip, joined by "+"; "" where nothing is."""
    return "+".join(dict.fromkeys(o["category"] for o in line["objects"] if any(o["sounding"])))


class TableSet:
    """One split of a dataset; with `load` an `EvaluationSet`. Subclasses read the truth.

    Args:
        name: a key of `LAYOUTS`.
        root: the download, or its folder of this set.
        split: "train", "val" or "test".
        tier: "A", "B" or "C" of the offline benchmark; None takes all.

    Raises:
        UsageError: for a set that isn't one of this class.
        DataError: where the table is missing or damaged, or has no entry of this split and tier.
    """

    names: tuple[str, ...] = ()

    def __init__(self, name: str, root: str | Path, split: str = "test", tier: str | None = None) -> None:
        self.check(name)
        self.name, self.split, self.tier = name, split, tier
        self.layout, self.base = LAYOUTS[name], find_root(name, root)
        self._title, thing = (name, "image") if self.layout.images else (f"{name} {split}", "clip")
        self._missing = f"{self._title} has no {thing}"
        self.manifest = read_manifest(self.layout.manifest(self.base), split)
        self.entries = {
            entry.id: entry
            for entry in read_entries(name, self.base)
            if entry.split == split
            and (tier is None or self.manifest.get(entry.name, {}).get("tier") == tier)
        }
        if not self.entries:
            what = thing if self.layout.images else f"clip of split {split!r}"
            of_tier = f" of tier {tier}" if tier is not None else ""
            raise DataError(f"{self.base / self.layout.table} lists no {what}{of_tier}")

    @classmethod
    def check(cls, name: str) -> None:
        """Raises UsageError for a set that isn't one of this class."""
        if name not in cls.names:
            raise UsageError(f"dataset must be one of {', '.join(cls.names)}, found {name!r}")

    @property
    def ids(self) -> list[str]:
        """The clips or images, in the table's order."""
        return list(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def categories(self) -> dict[str, str]:
        """Id -> class(es) heard, joined by "+"; "" where the dataset doesn't say."""
        return {name: self._category(entry) for name, entry in self.entries.items()}

    def _category(self, entry: Entry) -> str:
        line = self.manifest.get(entry.name)
        return entry.category if line is None else heard_classes(line)

    def _entry(self, sample_id: str) -> Entry:
        if sample_id not in self.entries:
            raise UsageError(f"{self._missing} {sample_id!r}")
        return self.entries[sample_id]

    def _read(self, reader: Callable[[Path], Any], path: str) -> Any:
        """A file of this set, or a DataError that names it."""
        try:
            return reader(self.base / path)
        except MediaError as error:
            raise DataError(f"{self._title}: {error}") from error

    def _clip(self, frames: np.ndarray, audio_path: str) -> Clip:
        """Frames of a clip, taken at 0.9375 s of each second, with the sound of their seconds."""
        sound, rate = self._read(read_audio, audio_path)
        seconds = np.arange(len(frames), dtype=np.float64)
        return Clip(
            frames, seconds + SHOWN_AT, sound, rate, str(self.base / audio_path), sound_times=seconds + 0.5
        )

    def _sample(self, entry: Entry, frames: np.ndarray, masks: np.ndarray, **more: Any) -> Sample:
        """A clip with its truth, and what the offline benchmark's manifest says of it."""
        clip = self._clip(frames, self.layout.path(self.layout.audio, entry))
        line = self.manifest.get(entry.name)
        if line is None:
            return Sample(entry.id, clip, masks, self._category(entry), entry.video, **more)
        try:
            return self._composite(entry, clip, masks, line, **more)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"the manifest's line of {entry.name} is damaged ({error!r}); make the benchmark again"
            ) from error

    def _composite(
        self, entry: Entry, clip: Clip, masks: np.ndarray, line: dict[str, Any], **more: Any
    ) -> Sample:
        """A clip of the offline benchmark."""
        frames, category = clip.frames, self._category(entry)
        count, objects, swap = len(masks), [], None
        for item in line["objects"]:
            if "masks" not in item:
                raise DataError(
                    f"the manifest has no object masks for {line['id']}; only val and test clips have them"
                )
            sounding = np.array(item["sounding"][:count], bool)
            stacked = self._read(read_image, item["masks"])[..., 0] > 127  # frame below frame
            shown = stacked.reshape(len(item["sounding"]), -1, stacked.shape[1])[:count]
            source = item["sound_group"] if sounding.any() else ""
            objects.append(SceneObject(shown, sounding, item["category"], item["cutout"], source))
        if line["swap"] is not None:
            heard = np.array(line["swap"]["sounding"][:count], bool)[:, None, None]
            mask = objects[line["swap"]["object"]].mask
            swap = self._clip(frames, line["swap"]["audio"]), mask & heard
        return Sample(
            entry.id, clip, masks, category, line["cluster"], line["tier"], tuple(objects), swap, **more
        )


class AVSBenchSet(TableSet):
    """One split of S4 or MS3 (an `EvaluationSet`); see `layout.TableSet`.

    Of S4's training clips only the first frame is given.
    """

    names = ("s4", "ms3")

    def load(self, sample_id: str) -> Sample:
        """Read one clip.

        Raises:
            UsageError: for a name that isn't in the split.
            DataError: naming a file that is missing, broken, or of another size than its frame.
        """
        entry, layout = self._entry(sample_id), self.layout
        numbers = layout.annotated(entry)
        frames = np.stack([self._read(read_image, layout.path(layout.frame, entry, i)) for i in numbers])
        masks = np.stack([self._mask(layout.path(layout.mask, entry, i), frames.shape[1:3]) for i in numbers])
        return self._sample(entry, frames, masks)

    def _mask(self, path: str, shape: tuple[int, ...]) -> np.ndarray:
        gray = self._read(read_image, path) @ np.array([0.299, 0.587, 0.114])
        if gray.shape != shape:
            raise DataError(
                f"{self.base / path} is {gray.shape[1]}x{gray.shape[0]}, its frame {shape[1]}x{shape[0]}; "
                "a mask must have its frame's size: get both again"
            )
        return gray > 127


class AVSBenchTraining:
    """Every frame of a split with its own sound (a `TrainingSet`). Opens no mask, no class, no manifest.

    Args:
        name: "s4" or "ms3".
        root: the download, or its folder of this set.
        split: usually "train".
        window: seconds of sound around the middle of each frame's second.

    Raises:
        UsageError: for another set.
        DataError: where the table is missing or has no clip of this split.
    """

    def __init__(self, name: str, root: str | Path, split: str = "train", window: float = 2.0) -> None:
        AVSBenchSet.check(name)
        self.base, self.layout, self.window = find_root(name, root), LAYOUTS[name], window
        self._entries = [entry for entry in read_entries(name, self.base) if entry.split == split]
        if not self._entries:
            raise DataError(f"{self.base / self.layout.table} lists no clip of split {split!r}")
        self._sound = lru_cache(maxsize=64)(lambda path: self._read(read_audio, path))

    def __len__(self) -> int:
        return len(self._entries) * SECONDS

    def frame(self, index: int) -> np.ndarray:
        """Frame `index`: uint8 [H, W, 3]. Raises DataError naming a missing or broken file."""
        entry, second = self._place(index)
        image: np.ndarray = self._read(read_image, self.layout.path(self.layout.frame, entry, second + 1))
        return image

    def sound(self, index: int) -> tuple[np.ndarray, int]:
        """(float32 [N], Hz): `window` seconds around the middle of the frame's second, cut at the ends."""
        entry, second = self._place(index)
        sound, rate = self._sound(self.layout.path(self.layout.audio, entry))
        start, stop = (round((second + 0.5 + side * self.window / 2) * rate) for side in (-1, 1))
        return sound[max(start, 0) : stop], rate

    def clip_id(self, index: int) -> str:
        """Name of the clip the frame is from."""
        return self._place(index)[0].name

    def fingerprint(self) -> str:
        """SHA-256 over window, names and sizes of all files that are read."""
        digest, layout = hashlib.sha256(f"{self.window}".encode()), self.layout
        for entry in self._entries:
            frames = [layout.path(layout.frame, entry, i) for i in layout.numbers(entry)]
            for path in (*frames, layout.path(layout.audio, entry)):
                file = self.base / path
                digest.update(f"{path}:{file.stat().st_size if file.is_file() else -1}\n".encode())
        return digest.hexdigest()

    def _place(self, index: int) -> tuple[Entry, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return self._entries[index // SECONDS], index % SECONDS

    def _read(self, reader: Callable[[Path], Any], path: str) -> Any:
        try:
            return reader(self.base / path)
        except MediaError as error:
            raise DataError(str(error)) from error
