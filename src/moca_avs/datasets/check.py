"""What a dataset on disk holds and lacks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from moca_avs.datasets.avsbench import LAYOUTS, SECONDS, SPLITS, Entry, Layout, find_root, read_entries


@dataclass(frozen=True)
class DatasetReport:
    """Counts of one dataset.

    Attributes:
        name: "s4" or "ms3".
        root: the folder that was looked at.
        listed: split -> clips in the table.
        complete: split -> clips none of whose files is missing.
        official: split -> clips of the official release.
        missing: files that should be there, relative to `root`, in the table's order.
        composite: whether this is the offline benchmark "stamps" (then the official counts don't apply).
    """

    name: str
    root: Path
    listed: dict[str, int]
    complete: dict[str, int]
    official: dict[str, int]
    missing: tuple[str, ...] = field(default=())
    composite: bool = False

    @property
    def ok(self) -> bool:
        """Nothing listed is missing, and as many clips are listed as officially released."""
        return not self.missing and (self.composite or self.listed == self.official)

    def __str__(self) -> str:
        kind = "offline benchmark" if self.composite else "official layout"
        lines = [f"{self.name} in {self.root} ({kind})"]
        for split in SPLITS:
            known = "" if self.composite else f", officially {self.official[split]}"
            lines.append(f"  {split}: {self.listed[split]} listed, {self.complete[split]} complete{known}")
        lines += [f"  missing: {path}" for path in self.missing[:10]]
        if len(self.missing) > 10:
            lines.append(f"  ... and {len(self.missing) - 10} more missing files")
        return "\n".join(lines)


def check(name: str, root: str | Path) -> DatasetReport:
    """Look for every file that a dataset's table promises.

    Raises:
        UsageError: for an unknown name.
        DataError: where the table itself is missing or damaged.
    """
    base, layout = find_root(name, root), LAYOUTS[name]
    listed, complete = dict.fromkeys(SPLITS, 0), dict.fromkeys(SPLITS, 0)
    missing: list[str] = []
    for entry in read_entries(name, base):
        lacks = [path for path in _expected(layout, entry) if not (base / path).is_file()]
        missing += lacks
        listed[entry.split] += 1
        complete[entry.split] += not lacks
    composite = (base / "manifest").is_dir()
    return DatasetReport(name, base, listed, complete, layout.official, tuple(missing), composite)


def _expected(layout: Layout, entry: Entry) -> Iterator[str]:
    yield from (layout.frame(entry, i) for i in range(1, SECONDS + 1))
    yield from (layout.mask(entry, i) for i in layout.annotated(entry.split))
    yield layout.sound(entry)
