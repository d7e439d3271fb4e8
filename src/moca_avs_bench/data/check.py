"""What a dataset on disk holds and lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from moca_avs.errors import UsageError
from moca_avs_bench.data import avsbench, avss, vggsound
from moca_avs_bench.data import localization_sets as localization
from moca_avs_bench.data.avsbench import SPLITS

Expected = Iterable[tuple[str, list[str]]]
"""(group, the files it should have) of each clip; a group is a split, or "split label" in AVSS."""

SHOWN = 10
"""Missing files that a printed report names."""


@dataclass(frozen=True)
class DatasetReport:
    """Counts of one dataset.

    Attributes:
        name: "s4", "ms3", "avss", "vggsound", "vggss", "vggsound-single" or "flickr".
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
        kind = "offline benchmark" if self.composite else "official layout"
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
    checks: dict[str, Callable[[str, str | Path], DatasetReport]] = {
        **dict.fromkeys(avsbench.LAYOUTS, _avsbench),
        "avss": _avss,
        "vggsound": _vggsound,
        **dict.fromkeys(localization.FOLDERS, _localization),
    }
    if name not in checks:
        raise UsageError(f"dataset must be one of {', '.join(checks)}, found {name!r}")
    return checks[name](name, root)


def _avsbench(name: str, root: str | Path) -> DatasetReport:
    base, layout = avsbench.find_root(name, root), avsbench.LAYOUTS[name]
    listed, complete, missing = _counted(base, avsbench.expected_files(name, base), layout.official)
    composite = (base / "manifest").is_dir()
    return DatasetReport(name, base, listed, complete, layout.official, missing, composite)


def _avss(name: str, root: str | Path) -> DatasetReport:
    base = avss.find_root(root)
    known = {f"{split} {label}": avss.OFFICIAL[label][split] for split in SPLITS for label in avss.SECONDS}
    listed, complete, missing = _counted(base, avss.expected_files(base), known)
    note = f"71 classes, here {len(avss.read_classes(base))}"
    composite = (base / "manifest").is_dir()
    return DatasetReport(name, base, listed, complete, known, missing, composite, note)


def _localization(name: str, root: str | Path) -> DatasetReport:
    base, known = localization.find_root(name, root), {"test": localization.OFFICIAL[name]}
    listed, complete, missing = _counted(base, localization.expected_files(name, base), known)
    composite = localization.is_composite(base)
    return DatasetReport(name, base, listed, complete, known, missing, composite)


def _vggsound(name: str, root: str | Path) -> DatasetReport:
    base = vggsound.find_root(root)
    listed, complete, missing = _counted(base, vggsound.expected_files(base), vggsound.SPLITS)
    return DatasetReport(name, base, listed, complete, {}, missing, note=vggsound.OFFICIAL)


def _counted(
    base: Path, expected: Expected, groups: Iterable[str]
) -> tuple[dict[str, int], dict[str, int], tuple[str, ...]]:
    """Clips listed and complete per group, and the files that are missing."""
    listed, complete = dict.fromkeys(groups, 0), dict.fromkeys(groups, 0)
    missing: list[str] = []
    for group, files in expected:
        lacks = [path for path in files if not (base / path).is_file()]
        missing += lacks
        listed[group] += 1
        complete[group] += not lacks
    return listed, complete, tuple(missing)
