"""Which side of the split a file lies on: a pure function of the media table, never of a composite.

Everything is ordered by the SHA-256 of a path inside its package (or of a class name), so no seed and no
result of any experiment can move a file. Files of one duplicate group go together.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

TRAIN, VAL, TEST, UNSEEN = "train", "val", "test", "unseen"
"""Sides. "unseen" holds images and sounds of the classes that training never meets (Test-C)."""

CORE = ("tuxpaint-stamps-default", "gcompris-qt-data", "tuxpaint-data", "openttd-opensfx", "sonic-pi-samples")
MEDIA = ("core", "full", "world")
"""Sets: "full" has all of ``media.csv``; "world" most of it, and ``world.csv`` to train and validate."""
_LEFT_OUT = "0ad-data"  # of the world: 1.4 GB for sixty sounds

UNSEEN_CLASSES = 14


@dataclass(frozen=True)
class Row:
    """One line of ``media.csv`` or ``world.csv``.

    Attributes:
        package: Debian package, or PyPI project (then its name in `moca_avs.hub.catalog.ASSETS`).
        category: class name, "" for backgrounds.
        role: "cutout", "sound" or "background".
        kind: of a cut-out: "photo", "drawing" or "cartoon" (cartoons only train); "whole": a photo whose
            salient object is the object; "scene": a photo that shows the category all over.
        path: inside the package (see `media.read_member`).
        group: duplicate group: the same recording or landmark under several names; "" if alone.
    """

    package: str
    category: str
    role: str
    kind: str
    path: str
    group: str

    @property
    def unit(self) -> str:
        """What is never split: the duplicate group, or the path where the file is alone."""
        return self.group or self.path


def digest(text: str) -> str:
    """SHA-256 of a path or name, as hex: the order everything here is sorted by."""
    return hashlib.sha256(text.encode()).hexdigest()


def assign_sides(rows: Iterable[Row]) -> dict[Row, str]:
    """Side of every row of the whole table (all packages). Sounds outside `CORE` only ever train.

    Rows of unseen classes outside `CORE` get no side and are missing from the answer.
    """
    table = list(rows)
    unseen = unseen_classes(table)
    sides: dict[Row, str] = {}
    for role, split in (("sound", _sound_sides), ("cutout", _cutout_sides)):
        of_class = defaultdict(list)
        for row in table:
            if row.role == role and row.package in CORE:
                of_class[row.category].append(row)
        heard = {(row.category, side) for row, side in sides.items()}
        for category, members in of_class.items():
            if category in unseen:
                sides |= dict.fromkeys(members, UNSEEN)
            else:
                sides |= split(members, category, heard)
    sides |= {r: TRAIN for r in table if r.package not in CORE and r.category not in unseen}
    # Half of the backgrounds train, a sixth validates, a third is tested.
    grounds = [row for row in table if row.role == "background"]
    count = len({row.unit for row in grounds})
    return sides | _deal(grounds, (count // 3, count // 6))


def in_media(row: Row, media: str) -> bool:
    """Whether a row of ``media.csv`` belongs to that set of media."""
    return row.package in CORE or media == "full" or (media == "world" and row.package != _LEFT_OUT)


def world_sides(rows: Iterable[Row], unseen: set[str]) -> dict[Row, str]:
    """Side of every row of ``world.csv``: a third of each class's sounds and images validate, others train.

    Nothing of it is ever tested; rows of the unseen classes get no side; cartoons and backgrounds only train.
    """
    of_class = defaultdict(list)
    sides: dict[Row, str] = {}
    for row in rows:
        if row.role == "background" or row.kind in ("cartoon", "scene"):
            sides[row] = TRAIN
        elif row.category not in unseen:
            of_class[row.role, row.category].append(row)
    for members in of_class.values():
        sides |= _deal(members, (0, len({row.unit for row in members}) // 3))
    return {row: side for row, side in sides.items() if row.category not in unseen}


def unseen_classes(rows: Iterable[Row]) -> set[str]:
    """Test-C: the first `UNSEEN_CLASSES`, by hash of the name, with a photo and exactly one core sound."""
    sounds, photos = defaultdict(set), set()
    for row in rows:
        if row.role == "sound" and row.package in CORE:
            sounds[row.category].add(row.unit)
        if row.kind == "photo":
            photos.add(row.category)
    single = [category for category, units in sounds.items() if len(units) == 1 and category in photos]
    return set(sorted(single, key=digest)[:UNSEEN_CLASSES])


def _deal(members: list[Row], sizes: tuple[int, int]) -> dict[Row, str]:
    """Units by hash: the first `sizes[0]` are tested, the next `sizes[1]` validate, the rest train."""
    units = sorted({row.unit for row in members}, key=digest)
    test, val = sizes
    side = {unit: TEST if i < test else VAL if i < test + val else TRAIN for i, unit in enumerate(units)}
    return {row: side[row.unit] for row in members}


def _sound_sides(members: list[Row], category: str, _heard: set[tuple[str, str]]) -> dict[Row, str]:
    """One trains; of two one is tested (in a quarter of the classes it validates); then 40 % are tested."""
    count = len({row.unit for row in members})
    if count == 1:
        sizes = (0, 0)
    elif count == 2:
        sizes = (0, 1) if int(digest(category)[:8], 16) % 4 == 0 else (1, 0)
    else:
        sizes = (count * 2 // 5, 1)
    return _deal(members, sizes)


def _cutout_sides(members: list[Row], category: str, heard: set[tuple[str, str]]) -> dict[Row, str]:
    """Images of classes with held-out sounds: of two one is held out, of more 40 % and one to validate.

    Cartoons only train.
    """
    real = [row for row in members if row.kind != "cartoon"]
    sides = dict.fromkeys(members, TRAIN)
    if len(real) >= 2 and (category, TEST) in heard:
        sides |= _deal(real, (max(1, len(real) * 2 // 5), 1 if len(real) >= 3 else 0))
    elif len(real) >= 2 and (category, VAL) in heard:
        sides |= _deal(real, (0, 1))
    return sides
