"""What every dataset gives: clips with the truth beside them. Training sees only frames and sounds.

Some of a dataset, spread evenly over it: to try things out, and for quick tables.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from moca_avs.clip import Clip
from moca_avs.errors import UsageError


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One object of a composite ("stamps" only).

    Attributes:
        mask: bool [T, H, W], its visible pixels.
        sounding: bool [T], whether it is heard at each frame.
        category: class name.
        source: the cut-out's file inside its package.
        sound_source: the duplicate group (or file) of its sound, "" if it is never heard.
    """

    mask: np.ndarray
    sounding: np.ndarray
    category: str
    source: str
    sound_source: str = ""


@dataclass(frozen=True, eq=False)
class Sample:
    """One clip of an evaluation split.

    Attributes:
        id: unique within the split.
        clip: frames and sound, `sound_times` set to the annotated second's middle where masks are per second.
        masks: bool [T, H, W], the truth: pixels of everything that is heard.
        category: class name(s) of what is heard, joined by "+".
        cluster: what bootstrap intervals resample: the source file (duplicate group) of the principal sound.
        tier: "A", "B", "C" on stamps' tests, "" elsewhere.
        objects: stamps only, every object of the scene.
        swapped: stamps only: the same frames with the sound of an object that is silent in `clip`, and the
            masks of that object, bool [T, H, W].
        missing: parts that could not be had, by name; the rest of the sample stands.
        labels: AVSS only, uint8 [T, H, W], the class index of each pixel, 0 = background.
        classes: AVSS only, the names that `labels` point at.
        consensus: localization only, float32 [224, 224] in [0, 1], the ground-truth map (see
            `metrics.localization`); `masks` is what it covers, at the frame's size.
    """

    id: str
    clip: Clip
    masks: np.ndarray
    category: str
    cluster: str
    tier: str = ""
    objects: tuple[SceneObject, ...] = ()
    swapped: tuple[Clip, np.ndarray] | None = None
    missing: tuple[str, ...] = field(default=())
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    consensus: np.ndarray | None = None


class EvaluationSet(Protocol):
    """A split for testing: knows its ids cheaply, loads a sample only when asked.

    A set may also have `kind`, how it is scored (`evaluation.scorers`): "region" where it has none.
    """

    name: str  # "s4", "ms3", ...
    split: str

    @property
    def ids(self) -> list[str]:
        """Stable order; the same on every machine."""
        ...

    def categories(self) -> dict[str, str]:
        """Category of each id, without loading media (the wrong-sound control draws from it)."""
        ...

    def load(self, sample_id: str) -> Sample:
        """Read one sample. Raises DataError naming the file that is missing or broken."""
        ...

    def __len__(self) -> int: ...


class TrainingSet(Protocol):
    """Unlabeled (frame, its own sound) pairs. No mask, no class, no box can be asked of it."""

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def frame(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]."""
        ...

    def sound(self, index: int) -> tuple[np.ndarray, int]:
        """(float32 [N] mono, Hz): the window that belongs to the frame."""
        ...

    def clip_id(self, index: int) -> str:
        """Frames with equal ids come from one clip (a clip is never its own positive)."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 of the content's identity: what a pair table or cache was made from."""
        ...


class Subset:
    """An `EvaluationSet` of some of another's clips, spread evenly over it (and so over its tiers).

    Args:
        whole: the set.
        limit: clips taken, all where there are fewer.
    """

    def __init__(self, whole: EvaluationSet, limit: int) -> None:
        self.whole, self.name, self.split = whole, whole.name, whole.split
        self.kind: str = getattr(whole, "kind", "region")
        self.class_table: Path | None = getattr(whole, "class_table", None)
        self.ids = [whole.ids[index] for index in _spread(len(whole), limit)]

    def categories(self) -> dict[str, str]:
        """Clip -> class(es) heard."""
        known = self.whole.categories()
        return {sample_id: known[sample_id] for sample_id in self.ids}

    def load(self, sample_id: str) -> Sample:
        """Read one clip."""
        return self.whole.load(sample_id)

    def __len__(self) -> int:
        return len(self.ids)


class TrainingSubset:
    """A `TrainingSet` of some of another's frames, spread evenly over it.

    Args:
        whole: the set.
        limit: frames taken, all where there are fewer.
    """

    def __init__(self, whole: TrainingSet, limit: int) -> None:
        self.whole = whole
        self.rows = _spread(len(whole), limit)

    def __len__(self) -> int:
        return len(self.rows)

    def frame(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]."""
        return self.whole.frame(self.rows[index])

    def sound(self, index: int) -> tuple[np.ndarray, int]:
        """(float32 [N] mono, Hz)."""
        return self.whole.sound(self.rows[index])

    def clip_id(self, index: int) -> str:
        """Frames with equal ids come from one clip."""
        return self.whole.clip_id(self.rows[index])

    def fingerprint(self) -> str:
        """SHA-256 of the whole's fingerprint and of the rows taken."""
        return hashlib.sha256(f"{self.whole.fingerprint()} {self.rows}".encode()).hexdigest()


def subset(whole: EvaluationSet, limit: int | None) -> EvaluationSet:
    """`limit` clips of a set; the set itself where `limit` is None.

    Raises:
        UsageError: where `limit` is below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, found {limit}")
    return whole if limit is None else Subset(whole, limit)


def training_subset(whole: TrainingSet, limit: int | None) -> TrainingSet:
    """`limit` frames of a training set; the set itself where there are no more, or `limit` is None."""
    return whole if limit is None or limit >= len(whole) else TrainingSubset(whole, limit)


def _spread(size: int, limit: int) -> list[int]:
    return [int(index) for index in np.linspace(0, size - 1, min(limit, size)).round()]
