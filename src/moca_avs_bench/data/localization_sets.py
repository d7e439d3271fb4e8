"""Sound source localization tests in their official layouts: VGG-SS, VGGSound-Single, Flickr-SoundNet.

* VGG-SS and VGGSound-Single: ``vggss.json``, a list of ``{"file", "class", "bbox": [[x0, y0, x1, y1], ...]}``
  with corners as shares of the image; ``frames/<file>.jpg``, ``audio/<file>.wav``.
* Flickr-SoundNet: ``Annotations/<id>.xml``, in each ``<bbox>`` an annotator's name and then xmin, ymin, xmax,
  ymax in 1/256 of the image's sides; ``frames/<id>.jpg``, ``audio/<id>.wav``.

One image belongs to the middle of its sound. Images are squashed to 224 x 224 (LVS crops them though its
boxes refer to the whole image); those of the offline benchmark "stamps" keep their size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from moca_avs.clip import Clip
from moca_avs.data.base import Sample
from moca_avs.errors import DataError, MediaError, UsageError
from moca_avs.io.audio import read_audio
from moca_avs.io.image import read_image
from moca_avs_bench.data.transforms import SIDE, resize_square
from moca_avs_bench.metrics.localization import boxes_map, consensus_map, nearest
from moca_avs_bench.stamps.manifest import read_manifest

FOLDERS = {"vggss": "VGG-SS", "vggsound-single": "VGG-SS", "flickr": "Flickr-SoundNet"}
TABLE, ANNOTATIONS = "vggss.json", "Annotations"
OFFICIAL = {"vggss": 5158, "vggsound-single": 5158, "flickr": 250}
"""Images of the official tests."""


@dataclass(frozen=True)
class Entry:
    """One image.

    Attributes:
        id: unique within the set; its files' stem.
        category: class name; "" in Flickr-SoundNet, which has none.
        boxes: xyxy as shares of the image; () in Flickr-SoundNet, whose files are read when asked for.
    """

    id: str
    category: str = ""
    boxes: tuple[tuple[float, ...], ...] = field(default=(), repr=False)

    @property
    def files(self) -> list[str]:
        """Frame and sound, relative to the set's folder."""
        return [f"frames/{self.id}.jpg", f"audio/{self.id}.wav"]


def find_root(name: str, root: str | Path) -> Path:
    """The folder that holds a set's boxes: `root` itself, or the official folder inside it.

    Raises:
        UsageError: for an unknown set.
        DataError: where they are in neither place.
    """
    if name not in FOLDERS:
        raise UsageError(f"dataset must be one of {', '.join(FOLDERS)}, found {name!r}")
    wanted = ANNOTATIONS if name == "flickr" else TABLE
    for place in (Path(root) / FOLDERS[name], Path(root)):
        if (place / wanted).exists():
            return place
    raise DataError(
        f"no {wanted} in {root} or {Path(root) / FOLDERS[name]}; expected {FOLDERS[name]} there, with "
        "frames/ and audio/ beside it"
    )


def read_entries(name: str, base: Path) -> list[Entry]:
    """All images of a set: in the table's order, or by the names of the XML files.

    Raises:
        DataError: on a table that is damaged or has an image twice, or a folder without XML files.
    """
    if name == "flickr":
        entries = [Entry(path.stem) for path in sorted((base / ANNOTATIONS).glob("*.xml"))]
        if not entries:
            raise DataError(f"{base / ANNOTATIONS} should hold an XML file per image; it has none")
        return entries
    path = base / TABLE
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        entries = [Entry(str(row["file"]), str(row["class"]), _boxes(row["bbox"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f'{path} should be a list of {{"file", "class", "bbox"}}: {error!r}') from error
    if not entries or len({entry.id for entry in entries}) < len(entries):
        raise DataError(f"{path} has no entry, or the same file twice; get it again")
    return entries


def expected_files(name: str, base: Path) -> Iterator[tuple[str, list[str]]]:
    """For each image its group ("test") and the files it should have, relative to `base`."""
    for entry in read_entries(name, base):
        yield "test", entry.files


def is_composite(base: Path) -> bool:
    """Whether a VGG-SS folder belongs to the offline benchmark "stamps"."""
    return (base.parent / "stamps.json").is_file()


class LocalizationSet:
    """A localization test (an `EvaluationSet`); each sample is one image with its sound.

    Args:
        name: "vggss", "vggsound-single" or "flickr".
        root: the download, or its folder of this set.
        split: "test", the only one.
        tier: "A", "B" or "C" of the offline benchmark; None takes all.

    Attributes:
        side: pixels per side that images are squashed to; None on the offline benchmark.

    Raises:
        UsageError: for another split.
        DataError: where the boxes are missing or damaged, or there is no image of this tier.
    """

    kind = "localization"

    def __init__(self, name: str, root: str | Path, split: str = "test", tier: str | None = None) -> None:
        if split != "test":
            raise UsageError(f"{name} is a test and has no split {split!r}; choose test")
        self.name, self.split, self.tier, self.base = name, split, tier, find_root(name, root)
        composite = is_composite(self.base)
        self.side = None if composite else SIDE
        self._manifest = read_manifest(self.base.parent / "Single-source", split) if composite else {}
        entries = read_entries(name, self.base)
        if tier is not None:
            entries = [entry for entry in entries if self._known(entry.id, "tier") == tier]
            if not entries:
                raise DataError(f"{self.base} has no image of tier {tier}")
        self._entries = {entry.id: entry for entry in entries}

    @property
    def ids(self) -> list[str]:
        """The images, in the order of `read_entries`."""
        return list(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def categories(self) -> dict[str, str]:
        """Id -> class; "" in Flickr-SoundNet."""
        return {name: entry.category for name, entry in self._entries.items()}

    def load(self, sample_id: str) -> Sample:
        """Read one image, its sound and its ground-truth map.

        Raises:
            UsageError: for a name that isn't in the set.
            DataError: naming a file that is missing or broken.
        """
        if sample_id not in self._entries:
            raise UsageError(f"{self.name} has no image {sample_id!r}")
        entry = self._entries[sample_id]
        frame_path, sound_path = entry.files
        frame = self._read(read_image, frame_path)
        if self.side is not None:
            frame = resize_square(frame, self.side)
        sound, rate = self._read(read_audio, sound_path)
        middle = np.array([len(sound) / rate / 2])
        truth = self._truth(entry)
        return Sample(
            sample_id,
            Clip(frame[None], middle, sound, rate, str(self.base / frame_path)),
            nearest(truth > 0, *frame.shape[:2])[None],
            entry.category,
            self._known(sample_id, "cluster") or sample_id,
            self._known(sample_id, "tier"),
            consensus=truth,
        )

    def _truth(self, entry: Entry) -> np.ndarray:
        if self.name == "flickr":
            return consensus_map(read_annotation(self.base / ANNOTATIONS / f"{entry.id}.xml"))
        return boxes_map(np.array(entry.boxes).reshape(-1, 4))

    def _known(self, sample_id: str, key: str) -> str:
        """What the offline benchmark's manifest says; "" on the real data."""
        return str(self._manifest.get(sample_id, {}).get(key, ""))

    def _read(self, reader: Callable[[Path], Any], path: str) -> Any:
        """A file of this set, or a DataError that names it."""
        try:
            return reader(self.base / path)
        except MediaError as error:
            raise DataError(f"{self.name}: {error}") from error


def read_annotation(path: Path) -> np.ndarray:
    """Boxes of all annotators of a Flickr-SoundNet image: int64 [P, 4], xyxy in 1/256 of its sides.

    The first child of each ``<bbox>`` is the annotator and is skipped.

    Raises:
        DataError: on a file that is missing, no XML, or has a box without four numbers.
    """
    try:
        tree = ElementTree.parse(path)
        boxes = [[int(float(child.text or "")) for child in list(box)[1:5]] for box in tree.iter("bbox")]
    except (OSError, ElementTree.ParseError, ValueError, OverflowError) as error:
        raise DataError(f"{path} should be an XML file of boxes: {error}; get it again") from error
    if any(len(box) != 4 for box in boxes):
        raise DataError(f"{path} has a box without xmin, ymin, xmax, ymax; get it again")
    return np.array(boxes, np.int64).reshape(-1, 4)


def _boxes(rows: list[list[float]]) -> tuple[tuple[float, ...], ...]:
    """Raises ValueError where a box is not four finite numbers."""
    boxes = tuple(tuple(float(value) for value in row) for row in rows)
    if not all(len(box) == 4 and all(map(math.isfinite, box)) for box in boxes):
        raise ValueError(f"a box needs four finite numbers, found {rows}")
    return boxes
