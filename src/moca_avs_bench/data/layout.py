"""Where each dataset keeps its table and its files: one `TableLayout` per dataset, and readers of all tables.

* S4, MS3 (AVSBench-object) and AVSS (AVSBench-semantic): a CSV table with headings.
* VGG-SS, VGGSound-Single: ``vggss.json``, a list of ``{"file", "class", "bbox": [[x0, y0, x1, y1], ...]}``
  with corners as shares of the image. Flickr-SoundNet: ``Annotations/<id>.xml``.
* VGGSound: ``vggsound.csv`` has no heading and the columns YouTube id, start second, label (which may hold
  commas), "train" or "test". Clips are files ``<id>_<start:06d>.mp4`` anywhere below the table's folder.
  About a fifth of the official list no longer exists: missing files are counted and listed, never fatal.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from moca_avs.errors import DataError
from moca_avs.utils.files import parse_json

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Entry:
    """One clip or image of a table.

    Attributes:
        id: unique within its split.
        name: of its files or its folder.
        split: "train", "val" or "test".
        category: class name(s) as the table gives them; "" where it doesn't.
        label: AVSS: "v1s", "v1m" or "v2"; "" elsewhere.
        video: AVSS: the video it was cut from; elsewhere its name.
        boxes: VGG-SS: xyxy as shares of the image; Flickr-SoundNet's are read when asked for.
    """

    id: str
    name: str
    split: str
    category: str = ""
    label: str = ""
    video: str = ""
    boxes: tuple[tuple[float, ...], ...] = field(default=(), repr=False)

    @property
    def group(self) -> str:
        """What it is counted under: its split, with the label where it has one ("test v2")."""
        return f"{self.split} {self.label}".rstrip()


@dataclass(frozen=True)
class TableLayout:
    """One dataset on disk. Paths are relative to the folder of the table.

    In a path ``{name}``, ``{split}``, ``{category}`` and ``{label}`` stand for the entry's, ``{i}`` for the
    number of a frame.

    Attributes:
        folder: of this dataset inside the download.
        table: what lists the entries, a file or a folder.
        expected: how an error goes on that says what should be there.
        official: group -> entries of the official release; {} where that is not an exact number.
        read: path of the table -> its entries; raises DataError where it is damaged.
        frame: path of a frame, or of the whole clip where `anywhere`.
        mask: path of a frame's truth, "" where there is none.
        audio: path of the sound, "" where `frame` is a video.
        seconds: label -> number of frames, one a second.
        first: number of the first frame.
        first_only: labels whose training clips have a mask for their first frame only.
        images: whether an entry is one image with its sound (a localization test).
        anywhere: whether `frame` may lie in any folder below the table's.
        note: what is known of the official release beyond `official`.
    """

    folder: str
    table: str
    expected: str
    official: dict[str, int]
    read: Callable[[Path], list[Entry]]
    frame: str
    mask: str = ""
    audio: str = ""
    seconds: Mapping[str, int] = field(default_factory=lambda: {"": 5})
    first: int = 1
    first_only: tuple[str, ...] = ()
    images: bool = False
    anywhere: bool = False
    note: str = ""

    @property
    def groups(self) -> tuple[str, ...]:
        """What entries are counted under."""
        return tuple(self.official) or ("train", "test")

    def path(self, template: str, entry: Entry, i: int = 0) -> str:
        """The path that a template (`frame`, `mask`, `audio`) means for an entry and a frame's number."""
        return template.format(
            name=entry.name, split=entry.split, category=entry.category, label=entry.label, i=i
        )

    def numbers(self, entry: Entry) -> range:
        """Numbers of all its frames."""
        return range(self.first, self.first + self.seconds[entry.label])

    def annotated(self, entry: Entry) -> range:
        """Numbers of the frames that have masks."""
        return self.numbers(entry)[: 1 if entry.split == "train" and entry.label in self.first_only else None]

    def manifest(self, base: Path) -> Path:
        """The folder beside whose files the offline benchmark "stamps" keeps its manifest."""
        return base.parent / "Single-source" if self.images else base

    def is_composite(self, base: Path) -> bool:
        """Whether the data are the offline benchmark's."""
        return (self.manifest(base) / "manifest").is_dir()


# --- tables ---------------------------------------------------------------------------------------------


def _rows(path: Path, columns: tuple[str, ...], **known: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a CSV file with headings; `known` names all values that a column may have."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} must be a CSV file in UTF-8: {error}; get the file again") from error
    if any(None in row or None in row.values() for row in rows):
        raise DataError(f"{path} has rows of more or fewer columns than its heading; get the file again")
    if not rows or not set(columns) <= set(rows[0]):
        raise DataError(f"{path} must have rows and the columns {', '.join(columns)}; get the file again")
    for column, values in known.items():
        strange = sorted({str(row[column]) for row in rows} - set(values))
        if strange:
            raise DataError(f"{path} has {column}s named {', '.join(strange)}; expected {', '.join(values)}")
    return rows


def _read_avsbench(columns: tuple[str, ...], path: Path) -> list[Entry]:
    """The first column is the name; MS3 doesn't say what is heard."""
    rows = [(next(iter(row.values())), row) for row in _rows(path, columns, split=SPLITS)]
    return [Entry(name, name, row["split"], row.get("category") or "", video=name) for name, row in rows]


def _read_avss(path: Path) -> list[Entry]:
    """An id is `uid`, or ``<label>/<uid>`` where two rows of a split share it."""
    rows = _rows(path, ("vid", "uid", "a_obj", "split", "label"), split=SPLITS, label=tuple(AVSS_SECONDS))
    times = Counter((row["split"], row["uid"]) for row in rows)
    entries = [
        Entry(
            row["uid"] if times[row["split"], row["uid"]] == 1 else f"{row['label']}/{row['uid']}",
            row["uid"],
            row["split"],
            row["a_obj"],
            row["label"],
            row["vid"],
        )
        for row in rows
    ]
    if len({(entry.split, entry.id) for entry in entries}) < len(entries):
        raise DataError(f"{path} has a clip twice (same uid and label); get the file again")
    return entries


def _read_vggss(path: Path) -> list[Entry]:
    def boxes(rows: list[list[float]]) -> tuple[tuple[float, ...], ...]:
        found = tuple(tuple(float(value) for value in row) for row in rows)
        if not all(len(box) == 4 and all(map(math.isfinite, box)) for box in found):
            raise ValueError(f"a box needs four finite numbers, found {rows}")
        return found

    try:
        rows = parse_json(path.read_text(encoding="utf-8"))
        listed = [(str(row["file"]), str(row["class"]), boxes(row["bbox"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f'{path} should be a list of {{"file", "class", "bbox"}}: {error!r}') from error
    if not listed or len({name for name, _, _ in listed}) < len(listed):
        raise DataError(f"{path} has no entry, or the same file twice; get it again")
    return [Entry(name, name, "test", kind, video=name, boxes=where) for name, kind, where in listed]


def _read_flickr(path: Path) -> list[Entry]:
    names = [file.stem for file in sorted(path.glob("*.xml"))]
    if not names:
        raise DataError(f"{path} should hold an XML file per image; it has none")
    return [Entry(name, name, "test", video=name) for name in names]


def _read_vggsound(path: Path) -> list[Entry]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} must be a CSV file in UTF-8: {error}; get the file again") from error
    entries = []
    for number, row in enumerate(rows, 1):
        if len(row) != 4 or not re.fullmatch("[0-9]{1,9}", row[1]) or row[3] not in ("train", "test"):
            raise DataError(
                f"line {number} of {path} should be id,second,label,train|test (a label with commas in "
                f"quotes), found {','.join(row)!r}"
            )
        name = f"{row[0]}_{int(row[1]):06d}"
        entries.append(Entry(name, name, row[3], video=row[0]))
    if not entries:
        raise DataError(f"{path} is empty; get it again")
    return entries


# --- datasets -------------------------------------------------------------------------------------------

AVSS_SECONDS = {"v1s": 5, "v1m": 5, "v2": 10}
_ASK = "there. Ask its authors for the data, or use the offline benchmark (`moca data stamps`)"
_S4 = {"train": 3452, "val": 740, "test": 740}
_MS3 = {"train": 296, "val": 64, "test": 64}
_AVSS = {"v1s": _S4, "v1m": _MS3, "v2": {"train": 4750, "val": 500, "test": 750}}  # 8,498 / 1,304 / 1,554
_IMAGES: dict[str, Any] = {
    "frame": "frames/{name}.jpg",
    "audio": "audio/{name}.wav",
    "seconds": {"": 1},
    "images": True,
}
_VGGSS = TableLayout(
    folder="VGG-SS",
    table="vggss.json",
    expected="VGG-SS there, with frames/ and audio/ beside it",
    official={"test": 5158},
    read=_read_vggss,
    **_IMAGES,
)

LAYOUTS: dict[str, TableLayout] = {
    "s4": TableLayout(
        folder="Single-source",
        table="s4_meta_data.csv",
        expected=f"AVSBench's S4 {_ASK}",
        official=_S4,
        read=partial(_read_avsbench, ("category", "split")),
        frame="s4_data/visual_frames/{split}/{category}/{name}/{name}_{i}.png",
        mask="s4_data/gt_masks/{split}/{category}/{name}/{name}_{i}.png",
        audio="s4_data/audio_wav/{split}/{category}/{name}.wav",
        first_only=("",),
    ),
    "ms3": TableLayout(
        folder="Multi-sources",
        table="ms3_meta_data.csv",
        expected=f"AVSBench's MS3 {_ASK}",
        official=_MS3,
        read=partial(_read_avsbench, ("split",)),
        frame="ms3_data/visual_frames/{name}/{name}.mp4_{i}.png",
        mask="ms3_data/gt_masks/{split}/{name}/{name}_{i}.png",
        audio="ms3_data/audio_wav/{split}/{name}.wav",
    ),
    "avss": TableLayout(
        folder="AVSBench-semantic",
        table="metadata.csv",
        expected=f"AVSBench-semantic {_ASK}",
        official={f"{split} {label}": _AVSS[label][split] for split in SPLITS for label in _AVSS},
        read=_read_avss,
        frame="{label}/{name}/frames/{i}.jpg",
        mask="{label}/{name}/labels_semantic/{i}.png",
        audio="{label}/{name}/audio.wav",
        seconds=AVSS_SECONDS,
        first=0,
        first_only=("v1s",),
        note="71 classes",
    ),
    "vggsound": TableLayout(
        folder="VGGSound",
        table="vggsound.csv",
        expected="VGGSound's table there, its clips <id>_<start:06d>.mp4 in the same folder or below it",
        official={},
        read=_read_vggsound,
        frame="{name}.mp4",
        seconds={"": 1},
        anywhere=True,
        note="about 199,500 clips of 309 classes, a fifth of which no longer exist",
    ),
    "vggss": _VGGSS,
    "vggsound-single": _VGGSS,
    "flickr": TableLayout(
        folder="Flickr-SoundNet",
        table="Annotations",
        expected="Flickr-SoundNet there, with frames/ and audio/ beside it",
        official={"test": 250},
        read=_read_flickr,
        **_IMAGES,
    ),
}


def find_root(name: str, root: str | Path) -> Path:
    """The folder that holds a dataset's table: the official folder inside `root`, or `root` itself.

    Raises:
        DataError: where the table is in neither place.
    """
    layout = LAYOUTS[name]
    for place in (Path(root) / layout.folder, Path(root)):
        if (place / layout.table).exists():
            return place
    raise DataError(
        f"no {layout.table} in {root} or {Path(root) / layout.folder}; expected {layout.expected}"
    )


def read_entries(name: str, base: Path) -> list[Entry]:
    """All entries of a dataset, in the table's order (Flickr-SoundNet: by the names of the XML files).

    Raises:
        DataError: where the table is damaged.
    """
    return LAYOUTS[name].read(base / LAYOUTS[name].table)


def clip_files(base: Path) -> dict[str, Path]:
    """Name -> place of every ``.mp4`` below a folder; of equal names the first place by name."""
    return {path.name: path for path in sorted(base.rglob("*.mp4"), reverse=True)}


def expected_files(name: str, base: Path) -> Iterator[tuple[str, list[str]]]:
    """For each entry its group and all files it should have, relative to `base`.

    Files that may lie in any folder are given where they lie, or directly in `base` where they are missing.
    """
    layout = LAYOUTS[name]
    found = clip_files(base) if layout.anywhere else {}
    for entry in read_entries(name, base):
        frames = [layout.path(layout.frame, entry, i) for i in layout.numbers(entry)]
        masks = [layout.path(layout.mask, entry, i) for i in layout.annotated(entry) if layout.mask]
        audio = [layout.path(layout.audio, entry)] * bool(layout.audio)
        frames = [found[path].relative_to(base).as_posix() if path in found else path for path in frames]
        yield entry.group, [*frames, *masks, *audio]
