"""Any folder of videos with a ``manifest.csv`` that says where and when something sounds.

Columns (others are ignored; UTF-8, with a heading):

* ``file``: path of the video below the folder;
* ``time_s``: seconds, the frame that is looked at;
* ``sounding_boxes``: ``x0,y0,x1,y1`` as shares of the frame's width and height, several joined by ";";
* ``silent_boxes`` (may be missing or empty): the same, of what could be taken for the source and is not;
* ``kind`` or else ``what_sounds`` (may be missing): see `kind_of`.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moca_avs.clip import MOTION_SECONDS, Clip
from moca_avs.data.base import Sample, SceneObject
from moca_avs.errors import DataError, MediaError, UsageError
from moca_avs.io.audio import AudioWindows, is_silent, survey
from moca_avs.io.sound_track import NoAudioError
from moca_avs.io.video import read_clip
from moca_avs_bench.metrics.pointing import boxes_mask

GATE_WINDOW = 1.0
"""Seconds around ``time_s`` that must not be silent where a clip's sound is given to other frames."""
_JOINED = re.compile(r"[^\W_]+")


@dataclass(frozen=True, eq=False)
class ManifestEntry:
    """One line of a manifest.

    Attributes:
        id: the file's path without its suffix, unique.
        path: of the video.
        time: seconds.
        sounding: float64 [P, 4], xyxy as shares of the frame.
        silent: float64 [Q, 4].
        kind: of what sounds, parts joined by "+", "" where unknown (`kind_of`).
    """

    id: str
    path: Path
    time: float
    sounding: np.ndarray
    silent: np.ndarray
    kind: str

    def clip(self) -> Clip:
        """The frame at `time`, with sound and motion frames up to `MOTION_SECONDS` before and after it.

        Raises:
            MediaError: where the video is missing, can't be read, or has no frame at that time.
        """
        return read_clip(self.path, start=self.time, end=self.time + 0.01, margin=MOTION_SECONDS)

    def audible(self) -> bool:
        """Whether the second around `time` passes the silence gate; decodes the sound alone.

        Raises:
            MediaError: where the file is missing or damaged.
        """
        try:
            floor, windows = survey(self.path).noise_floor, AudioWindows(self.path)
        except NoAudioError:
            return False
        try:
            window, _ = windows.between(self.time - GATE_WINDOW / 2, self.time + GATE_WINDOW / 2)
        finally:
            windows.close()
        return not is_silent(window, windows.rate, floor)


def read_manifest(root: str | Path, boxes: bool = True) -> list[ManifestEntry]:
    """The lines of ``manifest.csv``, in its order; opens no video.

    Args:
        root: folder of ``manifest.csv``.
        boxes: whether each line must have a box of what sounds.

    Raises:
        DataError: naming the line and the column that is missing or makes no sense.
    """
    path = Path(root) / "manifest.csv"
    if not path.is_file():
        raise DataError(f"{path} is not there; expected a manifest of videos (docs/reference/results.md)")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), list(reader.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} must be a CSV file in UTF-8: {error}") from error
    needed = ("file", "time_s", *(["sounding_boxes"] if boxes else []))
    if not rows or not set(needed) <= set(columns):
        raise DataError(
            f"{path} must have the columns {', '.join(needed)} and a line for each video; found the columns "
            f"{', '.join(columns) or 'none'} and {len(rows)} lines"
        )
    entries: dict[str, ManifestEntry] = {}
    for number, row in enumerate(rows, 2):
        where = f"line {number} of {path}"
        name, sounding = (
            (row["file"] or "").strip(),
            _boxes(row.get("sounding_boxes"), where, "sounding_boxes"),
        )
        if not name or (boxes and not len(sounding)):
            raise DataError(f"{where} must have a {'sounding box' if name else 'file'}, found none")
        identity = Path(name).with_suffix("").as_posix()
        if identity in entries:
            raise DataError(f"{where} names {name} a second time; each file is looked at once")
        time = _number(row["time_s"])
        if not 0 <= time < math.inf:
            raise DataError(f"{where}: time_s must be 0 s or more, found {row['time_s']!r}")
        silent = _boxes(row.get("silent_boxes"), where, "silent_boxes")
        kind = kind_of(row.get("kind") or "", row.get("what_sounds") or "")
        entries[identity] = ManifestEntry(identity, Path(root) / name, time, sounding, silent, kind)
    return list(entries.values())


def kind_of(kind: str, what_sounds: str) -> str:
    """The kind of a sound, as parts joined by "+": two clips with a common part are of one kind.

    Args:
        kind: the manifest's own word for it (or several, joined by "+"): taken as it is.
        what_sounds: without `kind`, its words are the parts: in lower case, of three letters or more, without
            what stands in parentheses and without a plural's "s" ("dogs barking (twice)" -> "barking+dog").
    """
    if kind.strip():
        parts = {part.strip().casefold() for part in kind.split("+")}
    else:
        words = _JOINED.findall(re.sub(r"\(.*?\)", " ", what_sounds).casefold())
        parts = {
            re.sub(r"(?<=[^s]{2})s$", "", word) if len(word) > 3 else word for word in words if len(word) > 2
        }
    return "+".join(sorted(parts - {""}))


def one_kind(a: str, b: str) -> bool:
    """Whether two kinds (`kind_of`) have a part in common."""
    return bool((set(a.split("+")) & set(b.split("+"))) - {""})


def check_split(name: str, split: str, tier: str | None) -> None:
    """Raises UsageError for a split or tier: a manifest has none but the test."""
    if split != "test" or tier is not None:
        asked = f"tier {tier}" if tier is not None else f"split {split!r}"
        raise UsageError(f"{name} has only a test and no tiers, found {asked}")


class BoxesSet:
    """Real videos with boxes around what sounds at one time (an `EvaluationSet` of the kind "boxes").

    A sample is one frame; its `objects` are the union of the sounding boxes and, where there are any, that of
    the silent ones.

    Args:
        root: folder of ``manifest.csv``.
        split: "test".
        tier: None.

    Raises:
        DataError: as `read_manifest`.
    """

    name, split, kind = "boxes", "test", "boxes"

    def __init__(self, root: str | Path, split: str = "test", tier: str | None = None) -> None:
        check_split(self.name, split, tier)
        self._entries = {entry.id: entry for entry in read_manifest(root)}
        self._audible: list[str] | None = None

    @property
    def ids(self) -> list[str]:
        """Files without their suffix, in the manifest's order."""
        return list(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def categories(self) -> dict[str, str]:
        """Kind of each clip; a silent clip has none, so that it is nobody's wrong sound."""
        if self._audible is None:
            self._audible = [entry.id for entry in self._entries.values() if _can_be_heard(entry)]
        return {one: entry.kind if one in self._audible else "" for one, entry in self._entries.items()}

    def load(self, sample_id: str) -> Sample:
        """Read one clip; DataError or MediaError where that fails."""
        if sample_id not in self._entries:
            raise UsageError(f"no clip {sample_id!r} in {self.name}")
        entry = self._entries[sample_id]
        clip = entry.clip()
        sounding, silent = (
            boxes_mask(boxes, *clip.frames.shape[1:3])[None] for boxes in (entry.sounding, entry.silent)
        )
        objects = [SceneObject(sounding, np.array([True]), entry.kind, sample_id, sample_id)]
        if silent.any():
            objects.append(SceneObject(silent, np.array([False]), "", sample_id))
        return Sample(sample_id, clip, sounding, entry.kind, sample_id, objects=tuple(objects))


def _can_be_heard(entry: ManifestEntry) -> bool:
    try:
        return entry.audible()
    except MediaError:  # loading the clip tells it
        return False


def _boxes(text: str | None, where: str, column: str) -> np.ndarray:
    boxes = []
    for part in filter(None, (part.strip() for part in (text or "").split(";"))):
        corners = [_number(number) for number in part.split(",")]
        if len(corners) != 4 or not (0 <= corners[0] < corners[2] <= 1 and 0 <= corners[1] < corners[3] <= 1):
            raise DataError(
                f"{where}: {column} must be x0,y0,x1,y1 in 0..1 with x0 < x1 and y0 < y1, found {part!r}"
            )
        boxes.append(corners)
    return np.array(boxes, np.float64).reshape(-1, 4)


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan
