"""What a dataset on disk holds and lacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from moca_avs.errors import UsageError
from moca_avs_bench.data.avss import read_classes
from moca_avs_bench.data.layout import LAYOUTS, expected_files, find_root
from moca_avs_bench.data.video_manifest import read_manifest

MANIFESTS = ("boxes", "duets")
"""Any folder of videos with a manifest.csv."""
SHOWN = 10
"""Missing files that a printed report names."""


@dataclass(frozen=True)
class DatasetReport:
    """Counts of one dataset.

    Attributes:
        name: "s4", "ms3", "avss", "vggsound", "vggss", "vggsound-single", "flickr", "boxes" or "duets".
        root: the folder that was looked at.
        listed: split (in AVSS "split label") -> clips in the table.
        complete: the same -> clips none of whose files is missing.
        official: the same -> clips of the official release; empty where that is not an exact number.
        missing: files that should be there, relative to `root`, in the table's order.
        composite: whether this is the offline benchmark "stamps" (then the official counts don't apply).
        note: what is known of the official release beyond `official`.
    """

    name: str
    root: Path
    listed: dict[str, int]
    complete: dict[str, int]
    official: dict[str, int]
    missing: tuple[str, ...] = field(default=())
    composite: bool = False
    note: str = ""

    @property
    def ok(self) -> bool:
        """Nothing listed is missing, and as many clips are listed as officially released."""
        expected = self.listed if self.composite or not self.official else self.official
        return not self.missing and self.listed == expected

    def __str__(self) -> str:
        return self.text()

    def text(self, all_missing: bool = False) -> str:
        """The report as people read it; names the first missing files, or all of them."""
        kind = "manifest.csv" if self.name in MANIFESTS else "official layout"
        kind = "offline benchmark" if self.composite else kind
        lines = [f"{self.name} in {self.root} ({kind})"]
        for group in self.listed:
            known = "" if self.composite or not self.official else f", officially {self.official[group]}"
            lines.append(f"  {group}: {self.listed[group]} listed, {self.complete[group]} complete{known}")
        lines += [f"  officially {self.note}"] * bool(self.note and not self.composite)
        shown = self.missing if all_missing else self.missing[:SHOWN]
        lines += [f"  missing: {path}" for path in shown]
        if len(self.missing) > len(shown):
            lines.append(f"  ... and {len(self.missing) - len(shown)} more missing files")
        return "\n".join(lines)


def check(name: str, root: str | Path) -> DatasetReport:
    """Look for every file that a dataset's table promises.

    Raises:
        UsageError: for an unknown name.
        DataError: where the table itself is missing or damaged.
    """
    if name in MANIFESTS:
        entries = read_manifest(root, boxes=name == "boxes")
        absent = tuple(str(entry.path.relative_to(root)) for entry in entries if not entry.path.is_file())
        listed, complete = {"test": len(entries)}, {"test": len(entries) - len(absent)}
        return DatasetReport(name, Path(root), listed, complete, {}, absent)
    if name not in LAYOUTS:
        raise UsageError(f"dataset must be one of {', '.join([*LAYOUTS, *MANIFESTS])}, found {name!r}")
    layout, base = LAYOUTS[name], find_root(name, root)
    listed, complete = dict.fromkeys(layout.groups, 0), dict.fromkeys(layout.groups, 0)
    missing: list[str] = []
    for group, files in expected_files(name, base):
        lacks = [path for path in files if not (base / path).is_file()]
        missing += lacks
        listed[group] += 1
        complete[group] += not lacks
    note = f"{layout.note}, here {len(read_classes(base))}" if name == "avss" else layout.note
    composite = layout.is_composite(base)
    return DatasetReport(name, base, listed, complete, layout.official, tuple(missing), composite, note)
