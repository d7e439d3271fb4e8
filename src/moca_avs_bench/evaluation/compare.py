"""Paired differences between two evaluations of one split, or between two rows of one."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from moca_avs.errors import DataError
from moca_avs_bench.evaluation.records import Record, check_same, read_together
from moca_avs_bench.evaluation.report import TITLES, UNDEFINED, Sums, aligned, cell, undefined, without_nan
from moca_avs_bench.evaluation.scorers import SCORERS
from moca_avs_bench.metrics.bootstrap import Interval, difference_interval

Files = str | Path | Sequence[str | Path]
SHARED = ("dataset", "split", "size", "ids_sha256", "kind", "protocol", "f_from", "metrics")


@dataclass(frozen=True)
class Comparison:
    """How much better a is than b, sample by sample.

    Attributes:
        dataset: name of the dataset.
        split: of the dataset.
        protocol: one of the dataset's kind.
        a: what was compared, "method name: row".
        b: with what.
        samples: scored in both.
        left_out: samples that only one of them (or none) could score.
        tiers: tier -> metric -> interval of score(a) - score(b) over source files.
    """

    dataset: str
    split: str
    protocol: str
    a: str
    b: str
    samples: int
    left_out: int
    tiers: dict[str, dict[str, Interval]]

    def to_json(self) -> str:
        """The whole comparison; undefined numbers are null."""
        content = without_nan(asdict(self))
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """One table: a row per tier, a column per metric."""
        shown = [metric for metric in TITLES if any(metric in found for found in self.tiers.values())]
        body = [
            [tier, *(cell(found[m]) if m in found else UNDEFINED for m in shown)]
            for tier, found in self.tiers.items()
        ]
        head = (
            f"{self.dataset} {self.split}, protocol {self.protocol}: {self.a} minus {self.b}, "
            f"{self.samples} samples ({self.left_out} left out). "
            "Brackets: 95 % bootstrap intervals over source files."
        )
        lines = aligned([["tier", *(TITLES[m] for m in shown)], *body])
        return "\n".join([head, "", *lines, *undefined(lines)]) + "\n"


def compare(a: Files, b: Files, row_a: str = "method", row_b: str = "method") -> Comparison:
    """Paired differences with bootstrap intervals, from two evaluations' files of records.

    Args:
        a: the first evaluation's JSONL file (or its shards' files).
        b: the second's; the same file again compares two of its rows.
        row_a: which row of the first ("method", "wrong_sound", "foreground", ...).
        row_b: which row of the second.

    Raises:
        UsageError: where the two are not of the same split and protocol.
        DataError: on missing or damaged files, or where no sample is scored in both.
    """
    header_a, records_a = read_together([Path(file) for file in ([a] if isinstance(a, str | Path) else a)])
    header_b, records_b = read_together([Path(file) for file in ([b] if isinstance(b, str | Path) else b)])
    same_a, same_b = ({key: header.get(key) for key in SHARED} for header in (header_a, header_b))
    check_same(same_a, same_b, "the two evaluations can't be paired")
    sums: dict[tuple[str, str], tuple[Sums, Sums]] = defaultdict(lambda: (Sums(), Sums()))
    scorer, samples = SCORERS[header_a["kind"]], 0
    for one, other in _pairs(records_a, records_b):
        if row_a not in one.get("rows", ()) or row_b not in other.get("rows", ()):
            continue
        samples += 1
        left, right = (scorer.columns(*pair, header_a["protocol"]) for pair in ((one, row_a), (other, row_b)))
        for tier in {one["tier"], "all"} - {""}:
            for metric in left.keys() & right.keys():
                sums[tier, metric][0].add(one["cluster"], left[metric])
                sums[tier, metric][1].add(one["cluster"], right[metric])
    if not samples:
        raise DataError(f"no sample holds both {row_a!r} and {row_b!r}; name rows that were evaluated")
    seed, tiers = header_a["seed"], [*sorted({tier for tier, _ in sums} - {"all"}), "all"]
    found = {
        key: difference_interval(
            one.array(),
            other.array(),
            statistic=scorer.statistic(key[1]),
            seed=seed,
            sources=one.sources(scorer),
        )
        for key, (one, other) in sums.items()
    }
    return Comparison(
        dataset=header_a["dataset"],
        split=header_a["split"],
        protocol=header_a["protocol"],
        a=f"{header_a['settings'].get('method', '?')}: {row_a}",
        b=f"{header_b['settings'].get('method', '?')}: {row_b}",
        samples=samples,
        left_out=header_a["size"] - samples,
        tiers={
            tier: {m: found[tier, m] for m in scorer.metrics if (tier, m) in found and found[tier, m].n}
            for tier in tiers
        },
    )


def _pairs(a: Iterator[Record], b: Iterator[Record]) -> Iterator[tuple[Record, Record]]:
    """Records of both with the same index; both streams rise in it."""
    one, other = next(a, None), next(b, None)
    while one is not None and other is not None:
        if one["index"] == other["index"]:
            yield one, other
            one, other = next(a, None), next(b, None)
        elif one["index"] < other["index"]:
            one = next(a, None)
        else:
            other = next(b, None)
