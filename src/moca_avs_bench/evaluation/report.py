"""The report of an evaluation: rebuilt from its records, deterministic to the last digit."""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moca_avs.errors import DataError
from moca_avs.utils.files import atomic_write
from moca_avs_bench.evaluation.records import Header, Record, read_together
from moca_avs_bench.evaluation.scorers import SCORERS, Scorer
from moca_avs_bench.metrics.bootstrap import Interval, difference_interval, interval

TITLES = {
    "class_miou": "mIoU over classes",
    "class_f": "F over classes",
    "ciou": "cIoU@0.5",
    "auc": "AUC",
    "mean_ciou": "mean cIoU",
    "miou": "mIoU",
    "miou_sounding": "mIoU, sounding frames",
    "f": "F",
    "object_accuracy": "object accuracy",
    "swap_accuracy": "swap accuracy",
    "silent_accuracy": "silent seconds left empty",
    "false_silence": "false silences",
    "heat_auc": "AUC of the heat",
    "pointing": "pointing",
    "iou": "mask IoU",
    "box_iou": "IoU of bounding boxes",
    "which": "which",
    "half": "sounding half hotter",
    "both": "both right",
    "share": "share of the mask",
}
ROWS = {
    "method": "method",
    "wrong_sound": "control: wrong sound to everything",
    "wrong_adapters": "control: wrong sound to the adapters",
    "deaf": "null: the method without sound",
    "empty": "null: empty",
    "full": "null: whole image",
    "disk": "null: centered disk of half the area",
    "foreground": "null: salient foreground",
    "all_objects": "null: every object, perfectly",
    "center": "null: centered disk of half the area",
    "motion": "null: what moves",
}
MINUS = "minus_"
"""Before a row's name: the method minus that row, paired."""
UNDEFINED = "–"

NOTES = {
    "semantic": "Scores over classes are of class maps, the others of what is heard against background "
    "(protocol avsbench). The nulls are told each clip's largest class.",
    "boxes": "Pointing and AUC: frames whose boxes cover less than half; which: frames with a silent box.",
    "duets": "Whatever cannot hear has .5, 0 and .5 by construction. Intervals resample clips, not pairs.",
    "localization": "lvs and ez-vsl take half of every image for predicted: compare with the centered disk.",
}
"""What a reader must know of a kind of dataset."""


@dataclass(frozen=True)
class Tier:
    """What was scored in one tier of a split.

    Attributes:
        samples: scored.
        frames: of those samples.
        empty_frames: frames whose truth is empty.
        clusters: source files that the samples come from.
        rows: row -> metric -> interval over source files.
    """

    samples: int
    frames: int
    empty_frames: int
    clusters: int
    rows: dict[str, dict[str, Interval]]


@dataclass(frozen=True)
class Report:
    """What a method is worth on a split.

    Attributes:
        dataset: name of the dataset.
        split: of the dataset.
        kind: how it is scored (`scorers.SCORERS`).
        protocol: one of that kind's.
        f_from: what F swept its thresholds over.
        seed: of the wrong-sound draw and of the bootstrap.
        settings: of the method, weights' hashes included.
        size: samples in the split.
        samples: samples tried (fewer than `size` in a shard or an unfinished run).
        failed: samples that could not be read, each with its id and error; not in any score.
        incomplete: samples scored without some of their parts, each with its id and what is missing.
        no_partner: samples without a wrong-sound control, each with its id and the reason.
        unlabelled: AVSS only: samples for which the method named no classes; they are in no class score.
        reasons: how often the method gave each reason for an empty frame ("" = it gave a mask).
        tiers: "A", "B", "C" where the split has them, and "all".
    """

    dataset: str
    split: str
    kind: str
    protocol: str
    f_from: str
    seed: int
    settings: dict[str, Any]
    size: int
    samples: int
    failed: tuple[dict[str, str], ...]
    incomplete: tuple[dict[str, Any], ...]
    no_partner: tuple[dict[str, str], ...]
    unlabelled: int
    reasons: dict[str, int]
    tiers: dict[str, Tier]

    @property
    def settings_sha256(self) -> str:
        """SHA-256 of the method's settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()

    def score(self, metric: str, row: str = "method", tier: str = "all") -> Interval:
        """One interval; estimate NaN where there was nothing to average."""
        return self.tiers[tier].rows[row][metric]

    def to_json(self) -> str:
        """The whole report; equal evaluations give equal text. Undefined numbers are null."""
        content = without_nan(asdict(self) | {"settings_sha256": self.settings_sha256})
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """Tables that read well in a terminal too: a row per method, control and null, a table per tier."""
        f_from = f"F from the {self.f_from}, " if self.kind in ("region", "semantic") else ""
        lines = [
            f"{self.dataset} {self.split}: protocol {self.protocol}, {f_from}"
            f"{self.samples} of {self.size} samples, {len(self.failed)} failed, seed {self.seed}; "
            f"method {self.settings.get('method', '?')}, settings {self.settings_sha256[:12]}. "
            "Brackets: 95 % bootstrap intervals over source files."
        ]
        lines += [NOTES[self.kind]] if self.kind in NOTES else []
        if self.unlabelled:
            lines += [f"The method named no classes in {self.unlabelled} samples; no class score holds them."]
        for name, tier in self.tiers.items():
            counted = (
                f"**{name}**: {tier.samples} samples, {tier.frames} frames "
                f"({tier.empty_frames} with an empty truth), {tier.clusters} source files"
            )
            shown = [m for m in TITLES if any(scores[m].n for scores in tier.rows.values() if m in scores)]
            body = [[row_title(row), *(cell(scores[m]) for m in shown)] for row, scores in tier.rows.items()]
            if self.kind in ("boxes", "duets"):
                body.append(["n of the method", *(str(tier.rows["method"][m].n) for m in shown)])
            lines += ["", counted, "", *aligned([["row", *(TITLES[m] for m in shown)], *body])]
        lines += undefined(lines)
        for title, rows in (("failed", self.failed), ("no wrong-sound partner", self.no_partner)):
            lines += [f"\n{title}:"] * bool(rows) + [f"- {row['id']}: {row['error']}" for row in rows]
        return "\n".join(lines) + "\n"

    def write(self, path: str | Path) -> None:
        """Write `to_json` to a file, in one step."""
        with atomic_write(Path(path)) as partial:
            partial.write_text(self.to_json(), encoding="utf-8")


def read_report(paths: Sequence[str | Path], protocol: str | None = None) -> Report:
    """Rebuild a report from the files of records of one evaluation, reading one record at a time.

    Args:
        paths: one file, or the files of several shards.
        protocol: score by another protocol than the one the evaluation named.

    Raises:
        UsageError: where the files are not of one evaluation.
        DataError: on a missing, damaged or doubled file, or where no sample could be scored.
    """
    header, records = read_together([Path(path) for path in paths])
    if protocol is not None:
        header["protocol"] = SCORERS[header["kind"]].protocol(protocol)
    tally = _Tally(header)
    for record in records:
        tally.add(record)
    return tally.report()


def merge(paths: Sequence[str | Path], protocol: str | None = None) -> Report:
    """The report of a whole split from the files of all its shards; equal to that of one run.

    Raises:
        UsageError: where the files are not of one evaluation.
        DataError: as `read_report`; also where samples are missing.
    """
    report = read_report(paths, protocol)
    if report.samples != report.size:
        raise DataError(
            f"the files hold {report.samples} of {report.size} samples; "
            "add the shards that are missing, or resume those that were not finished"
        )
    return report


class Sums:
    """Sums per cluster, added one sample at a time; zeros take no room."""

    def __init__(self) -> None:
        self._clusters: dict[str, int] = {}
        self._width = 2
        self._places, self._values = array("Q"), array("d")

    def add(self, cluster: str, numbers: np.ndarray) -> None:
        """Add float64 [S] to a cluster's sums."""
        row = self._clusters.setdefault(cluster, len(self._clusters))
        self._width = len(numbers)
        columns = np.flatnonzero(numbers)
        self._places.extend((columns + row * self._width).tolist())
        self._values.extend(numbers[columns].tolist())

    def array(self) -> np.ndarray:
        """float64 [K, S] in the order of the clusters' names; equal to the last digit however often asked."""
        sums = np.zeros((len(self._clusters), self._width))
        np.add.at(sums.reshape(-1), np.array(self._places, np.int64), np.array(self._values))
        return sums[[self._clusters[name] for name in sorted(self._clusters)]]

    def sources(self, scorer: Scorer) -> list[tuple[str, ...]] | None:
        """The sources of each row of `array`; None where each is one of its own."""
        found = [scorer.sources(name) for name in sorted(self._clusters)]
        return found if any(len(one) > 1 for one in found) else None


class _Tally:
    """Adds records up; grows with the number of source files, not of frames."""

    def __init__(self, header: Header) -> None:
        self.header, self.scorer = header, SCORERS[header["kind"]]
        self.sums: dict[tuple[str, str, str], Sums] = defaultdict(Sums)
        self.paired: dict[tuple[str, str, str], tuple[Sums, Sums]] = defaultdict(lambda: (Sums(), Sums()))
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.clusters: dict[str, set[str]] = defaultdict(set)
        self.rows: dict[str, dict[str, None]] = defaultdict(dict)  # ordered sets
        self.reasons: Counter[str] = Counter()
        self.failed: list[dict[str, str]] = []
        self.incomplete: list[dict[str, Any]] = []
        self.no_partner: list[dict[str, str]] = []
        self.samples, self.last, self.unlabelled = 0, -1, 0

    def add(self, record: Record) -> None:
        if record["index"] <= self.last:
            raise DataError(f"sample {record['id']} is there twice; give each shard's file once")
        self.last = record["index"]
        self.samples += 1
        if "failed" in record:
            self.failed.append({"id": record["id"], "error": record["failed"]})
            return
        if "missing" in record:
            self.incomplete.append({"id": record["id"], "missing": record["missing"]})
        if "no_partner" in record:
            self.no_partner.append({"id": record["id"], "error": record["no_partner"]})
        self.unlabelled += "class_count" in record and "classes" not in record["rows"]["method"]
        self.reasons.update(record["rows"]["method"].get("reasons", ()))
        truth = record["truth"]
        for tier in {record["tier"], "all"} - {""}:
            empty = sum(pixels == 0 for pixels in truth)
            self.counts[tier].update(samples=1, frames=len(truth), empty=empty)
            self.clusters[tier].update(self.scorer.sources(record["cluster"]))
            self.rows[tier].update(dict.fromkeys(record["rows"]))
        tiers, cluster = {record["tier"], "all"} - {""}, record["cluster"]
        own: dict[str, np.ndarray] = {}
        for row in record["rows"]:  # the method's comes first
            columns = self.scorer.columns(record, row, self.header["protocol"])
            own = columns if row == "method" else own
            for metric, numbers in columns.items():
                for tier in tiers:
                    self.sums[tier, row, metric].add(cluster, numbers)
                    if row in self.scorer.against:
                        for sums, summand in zip(
                            self.paired[tier, row, metric], (own[metric], numbers), strict=True
                        ):
                            sums.add(cluster, summand)

    def report(self) -> Report:
        if not self.counts:
            first = f"; the first, {self.failed[0]['id']}: {self.failed[0]['error']}" if self.failed else ""
            raise DataError(f"none of {self.samples} samples could be scored{first}")
        names = [*sorted(set(self.counts) - {"all"}), "all"]
        header = self.header
        return Report(
            **{
                key: header[key]
                for key in ("dataset", "split", "kind", "protocol", "f_from", "seed", "settings")
            },
            size=header["size"],
            samples=self.samples,
            failed=tuple(self.failed),
            incomplete=tuple(self.incomplete),
            no_partner=tuple(self.no_partner),
            unlabelled=self.unlabelled,
            reasons=dict(sorted(self.reasons.items())),
            tiers={name: self._tier(name) for name in names},
        )

    def _tier(self, name: str) -> Tier:
        count, scorer, seed = self.counts[name], self.scorer, self.header["seed"]
        rows: dict[str, dict[str, Interval]] = {row: {} for row in ROWS if row in self.rows[name]}
        for row, scores in rows.items():
            for metric in scorer.metrics:
                sums = self.sums.get((name, row, metric), Sums())
                scores[metric] = interval(
                    sums.array(), statistic=scorer.statistic(metric), seed=seed, sources=sums.sources(scorer)
                )
        for row in [row for row in scorer.against if row in rows]:
            rows[MINUS + row] = {}
            for metric in scorer.metrics:
                one, other = self.paired[name, row, metric]
                rows[MINUS + row][metric] = difference_interval(
                    one.array(),
                    other.array(),
                    statistic=scorer.statistic(metric),
                    seed=seed,
                    sources=one.sources(scorer),
                )
        return Tier(count["samples"], count["frames"], count["empty"], len(self.clusters[name]), rows)


def row_title(row: str) -> str:
    """What a report calls a row."""
    return f"method minus {ROWS[row.removeprefix(MINUS)]}" if row.startswith(MINUS) else ROWS[row]


def cell(found: Interval) -> str:
    """An interval as people read it: ``0.532 [0.451, 0.618]``, "–" where undefined."""
    if found.estimate != found.estimate:
        return UNDEFINED
    ends = f" [{found.low:.3f}, {found.high:.3f}]" if found.low == found.low else ""
    return f"{found.estimate:.3f}{ends}"


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table with columns of even width; the first row is its head."""
    cells = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def undefined(lines: Sequence[str]) -> list[str]:
    """What the dash in a table's lines means; [] where there is none."""
    return ["", f"{UNDEFINED}: not defined, nothing of the kind to score."] * any(
        f" {UNDEFINED} " in line for line in lines
    )


def without_nan(value: Any) -> Any:
    """JSON knows neither NaN nor infinity: null stands for them."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
