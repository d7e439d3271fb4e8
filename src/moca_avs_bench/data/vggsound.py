"""VGGSound as a training set: one frame from the middle of each clip, with its own sound. No label is used.

``vggsound.csv`` has no heading and the columns YouTube id, start second, label (which may hold commas),
"train" or "test". Clips are files ``<id>_<start:06d>.mp4`` anywhere below the table's folder. About a fifth
of the official list no longer exists: missing files are counted and listed, never fatal, never replaced.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from moca_avs.data.folder import DecodedVideos, Pairs, framed
from moca_avs.errors import DataError

FOLDER, TABLE = "VGGSound", "vggsound.csv"
OFFICIAL = "about 199,500 clips of 309 classes, a fifth of which no longer exist"
SPLITS = ("train", "test")
SIDE = 256
"""Pixels per side of the kept frames: 200,000 of them take 39 GB."""

_FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One row of the table.

    Attributes:
        video: YouTube id.
        start: second in that video.
        split: "train" or "test".
    """

    video: str
    start: int
    split: str

    @property
    def file(self) -> str:
        """Name of its clip."""
        return f"{self.video}_{self.start:06d}.mp4"


def find_root(root: str | Path) -> Path:
    """The folder that holds ``vggsound.csv``: `root` itself, or ``VGGSound`` inside it.

    Raises:
        DataError: where the table is in neither place.
    """
    for place in (Path(root), Path(root) / FOLDER):
        if (place / TABLE).is_file():
            return place
    raise DataError(
        f"no {TABLE} in {root} or {Path(root) / FOLDER}; expected VGGSound's table there, its clips "
        "<id>_<start:06d>.mp4 in the same folder or below it"
    )


def read_entries(base: Path) -> list[Entry]:
    """All rows of the table, in its order.

    Raises:
        DataError: on a row that is not id, second, label, "train" or "test".
    """
    path = base / TABLE
    entries = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if len(row) != 4 or not row[1].isdecimal() or row[3] not in SPLITS:
                raise DataError(
                    f"line {number} of {path} should be id,second,label,train|test (a label with commas in "
                    f"quotes), found {','.join(row)!r}"
                )
            entries.append(Entry(row[0], int(row[1]), row[3]))
    if not entries:
        raise DataError(f"{path} is empty; get it again")
    return entries


def clip_files(base: Path) -> dict[str, Path]:
    """Name -> place of every clip below a folder; of equal names the first place by name."""
    return {path.name: path for path in sorted(base.rglob("*.mp4"), reverse=True)}


def expected_files(base: Path) -> Iterator[tuple[str, list[str]]]:
    """For each clip its split and its file, relative to `base`, where it lies or should lie."""
    found = clip_files(base)
    for entry in read_entries(base):
        place = found.get(entry.file)
        yield entry.split, [entry.file if place is None else place.relative_to(base).as_posix()]


class VGGSoundTraining(DecodedVideos):
    """The middle frame of every training clip, with the sound around it (a `TrainingSet`).

    Decoded once into the cache, under a hash over the settings and each clip's path and size.

    Args:
        root: folder of ``vggsound.csv``, or the one above it.
        side: of the kept frames, in pixels.
        window: seconds of sound kept around each frame.
        progress: whether to show a bar while decoding.

    Attributes:
        missing: names of the table's training clips that have no file.
        skipped: (path, why) of clips that could not be read, and one entry that counts the missing ones.

    Raises:
        DataError: where the table is missing or damaged, or no training clip can be used.
    """

    def __init__(
        self, root: str | Path, side: int = SIDE, window: float = 2.0, progress: bool = False
    ) -> None:
        base = find_root(root)
        names = [entry.file for entry in read_entries(base) if entry.split == "train"]
        found = clip_files(base)
        paths = [found[name] for name in names if name in found]
        self.missing = tuple(name for name in names if name not in found)
        if not paths:
            raise DataError(f"none of {len(names)} training clips has a file below {base}, like {names[:1]}")

        def read(path: Path) -> Pairs:
            return _middle(path, side, window)

        super().__init__(base, paths, _identity(base, paths, side, window), side, read, progress)
        if self.missing:
            first = ", ".join(self.missing[:3])
            why = f"{len(self.missing)} of {len(names)} training clips have no file, such as {first}"
            self.skipped = (*self.skipped, (TABLE, f"{why}; `moca data check vggsound --all` lists them"))


def _middle(path: Path, side: int, window: float) -> Pairs:
    """The pair in the middle of a clip."""
    from moca_avs.io.frames import probe
    from moca_avs.io.video import read_clip

    middle = (probe(path).duration or 0.0) / 2
    clip = read_clip(path, fps=1.0, start=middle, end=middle + 0.5, margin=window)
    return framed([clip], side, window)


def _identity(base: Path, paths: list[Path], side: int, window: float) -> str:
    settings = json.dumps([_FORMAT, "vggsound", side, window])
    digest = hashlib.sha256(settings.encode())
    for path in paths:
        digest.update(f"\0{path.relative_to(base).as_posix()}\0{path.stat().st_size}".encode())
    return digest.hexdigest()
