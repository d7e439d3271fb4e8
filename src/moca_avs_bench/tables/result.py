"""A table's result, reported and measured numbers apart, as terminal text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from moca_avs.utils.files import atomic_write
from moca_avs_bench.evaluation.report import ROWS, TITLES, Tier, aligned, cell, undefined, without_nan
from moca_avs_bench.metrics.bootstrap import Interval
from moca_avs_bench.tables.spec import Table, TableColumn, TableRow

State = Literal["measured", "not run", "failed"]
NOTHING = "–"  # where the paper reports nothing
REPORTED, MEASURED = "reported", "measured"
CSV_COLUMNS = (
    "table", "group", "system", "dataset", "metric", "protocol", REPORTED, "state", MEASURED, "measured_low",
    "measured_high", "measured_n", "measured_wrong_sound", "why", "run",
)  # fmt: skip


@dataclass(frozen=True)
class CellResult:
    """One score of one system.

    Attributes:
        reported: the paper's number, a share; None where it has none.
        state: what became of our own.
        measured: ours, with its interval; None unless measured.
        wrong_sound: the same system's under another clip's sound; None where there is no such control.
        why: of "not run" and "failed".
    """

    reported: float | None
    state: State
    measured: Interval | None = None
    wrong_sound: Interval | None = None
    why: str = ""


@dataclass(frozen=True)
class ScoredRow:
    """A system's evaluation on one dataset.

    Attributes:
        split: of the dataset.
        samples: tried.
        failed: samples that could not be read, each with its id and error.
        tier: all of its scores, of controls and nulls too.
        settings: of the method, weights' hashes included.
    """

    split: str
    samples: int
    failed: tuple[dict[str, str], ...]
    tier: Tier
    settings: dict[str, Any]


@dataclass(frozen=True)
class RowResult:
    """One row.

    Attributes:
        row: its description.
        cells: one per column.
        scored: dataset -> evaluation, where it was run.
        run: hash of the training run it rests on; "" where nothing was trained.
        training: that run's settings.
    """

    row: TableRow
    cells: tuple[CellResult, ...]
    scored: Mapping[str, ScoredRow]
    run: str = ""
    training: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TableResult:
    """A table with its numbers.

    Attributes:
        table: its description.
        rows: one per row of it.
        context: what it was run on and with.
        command: that gives it again.
    """

    table: Table
    rows: tuple[RowResult, ...]
    context: Mapping[str, Any]
    command: str

    @property
    def failures(self) -> list[str]:
        """What should have been measured and wasn't, one line each."""
        lines = [
            f"{result.row.title}, {name}: {why}"
            for result in self.rows
            for name, why in dict.fromkeys(
                (column.dataset, cell.why) for column, cell in self.pairs(result) if cell.state == "failed"
            )
        ]
        return lines + list(
            dict.fromkeys(
                f"{name}: {item['id']} could not be read: {item['error']}"
                for result in self.rows
                for name, scored in result.scored.items()
                for item in scored.failed
            )
        )

    def pairs(self, result: RowResult) -> list[tuple[TableColumn, CellResult]]:
        """A row's cells with their columns."""
        return list(zip(self.table.columns, result.cells, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; equal for equal runs: no time, no path."""
        table = self.table
        return {
            "table": table.number,
            "title": table.title,
            "command": self.command,
            "setup": dict(self.context),
            "notes": list(table.notes),
            "columns": [asdict(column) for column in table.columns],
            "rows": [
                {
                    "title": result.row.title,
                    "group": result.row.group,
                    "facts": dict(zip(table.facts, result.row.facts, strict=False)),
                    "system": type(result.row.system).__name__,
                    "run": result.run,
                    "training": None if result.training is None else dict(result.training),
                    "cells": [
                        {"dataset": c.dataset, "metric": c.metric, "protocol": c.protocol} | asdict(cell)
                        for c, cell in self.pairs(result)
                    ],
                    "evaluations": {name: asdict(scored) for name, scored in result.scored.items()},
                }
                for result in self.rows
            ],
        }


def write_all(result: TableResult, folder: Path) -> list[Path]:
    """Write ``tableNN.md``, ``.csv`` and ``.json``; returns their paths."""
    texts = {"md": to_markdown(result), "csv": to_csv(result), "json": to_json(result)}
    paths = []
    for suffix, text in texts.items():
        path = folder / f"table{result.table.number:02d}.{suffix}"
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def to_terminal(result: TableResult) -> str:
    """One line a row; under each score a column "reported" and a column "measured", without intervals."""
    scores = [column.title for column in result.table.columns]
    top = ["", *(text for title in scores for text in (title, ""))]
    second = ["", *(text for _ in scores for text in (REPORTED, MEASURED))]
    body = [
        [row.row.title, *(t for c in row.cells for t in (reported_text(c), measured_text(c).split(" [")[0]))]
        for row in result.rows
    ]
    rows = [top, second, *body]
    widths = [max(len(row[column]) for row in rows) for column in range(len(top))]
    lines = ["  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([_head(result), "", *lines])


def to_markdown(result: TableResult) -> str:
    """The table with intervals, why cells are empty, and a table of controls and nulls per dataset."""
    table = result.table
    groups = ["group"] * any(row.group for row in table.rows)
    head = [*groups, "system", *table.facts]
    head += [f"{column.title}, {kind}" for column in table.columns for kind in (REPORTED, MEASURED)]
    body = [
        [
            *[row.row.group or NOTHING] * len(groups),
            row.row.title,
            *(row.row.facts or [NOTHING] * len(table.facts)),
            *(text for c in row.cells for text in (reported_text(c), measured_text(c))),
        ]
        for row in result.rows
    ]
    lines = [f"# {_head(result)}", "", _about(result), *(f"\n{note}" for note in table.notes)]
    lines += ["", *aligned([head, *body]), *_reasons(result)]
    for name in table.datasets:
        lines += _controls(result, name)
    return "\n".join(lines) + "\n"


def to_csv(result: TableResult) -> str:
    """One line per cell; the paper's number and ours in columns of their own, and a state for ours."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(CSV_COLUMNS)
    for row in result.rows:
        for column, one in result.pairs(row):
            where = [result.table.number, row.row.group, row.row.title, column.dataset, column.metric]
            reported = "" if one.reported is None else one.reported
            numbers = [""] * 4
            if found := one.measured:
                numbers = [_number(x) for x in (found.estimate, found.low, found.high)] + [str(found.n)]
            wrong = "" if one.wrong_sound is None else _number(one.wrong_sound.estimate)
            rest = [column.protocol or "", reported, one.state, *numbers, wrong, one.why, row.run]
            rows.writerow([*where, *rest])
    return text.getvalue()


def to_json(result: TableResult) -> str:
    """Everything, intervals and settings too; equal runs give equal text."""
    content = without_nan(result.to_dict())
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def reported_text(one: CellResult) -> str:
    """``0.68``, or a dash where the paper has nothing."""
    return NOTHING if one.reported is None else f"{one.reported:.3f}".removesuffix("0")


def measured_text(one: CellResult) -> str:
    """``0.532 [0.451, 0.618]``, or what became of it; never blank."""
    return one.state if one.measured is None else cell(one.measured)


def _number(value: float) -> str:
    return "" if value != value else f"{value:.6f}"


def _head(result: TableResult) -> str:
    return f"Table {result.table.number}: {result.table.title}"


def _about(result: TableResult) -> str:
    context = result.context
    tested = {name: scored.samples for row in reversed(result.rows) for name, scored in row.scored.items()}
    counts = ", ".join(f"{name} {tested[name]}" for name in result.table.datasets if name in tested)
    return (
        f"*Reported* is the paper's number on the real data; *measured* is ours on `{context['root']}` "
        f"(samples: {counts or 'none'}), preset `{context['preset']}`, {context['size']} size: "
        f"{context['steps']} training steps on {context['trained_on']}, {context['image_size']} px, "
        f"seed {context['seed']}. Brackets: 95 % bootstrap intervals over source files. "
        f"Command: `{result.command}`"
    )


def _reasons(result: TableResult) -> list[str]:
    """Why cells hold no number."""
    why = dict.fromkeys(
        f"- {row.row.title}, {column.dataset}: {one.state}: {one.why}"
        for row in result.rows
        for column, one in result.pairs(row)
        if one.measured is None
    )
    return ["", *why] if why else []


def _controls(result: TableResult, name: str) -> list[str]:
    """All scores of one dataset: each system, the same under a wrong sound, and what can't hear."""
    rows: list[tuple[str, dict[str, Interval]]] = []
    nulls: dict[str, dict[str, Interval]] = {}
    for one in result.rows:
        if name in one.scored:
            scored = one.scored[name].tier.rows
            rows += [(one.row.title, scored["method"])]
            for key, scores in scored.items():
                if key.startswith("wrong_"):
                    rows += [(f"{one.row.title} — {ROWS[key]}", scores)]
                elif key != "method":
                    nulls[key] = scores
    rows += [(ROWS[key], scores) for key, scores in nulls.items()]
    shown = [metric for metric in TITLES if any(scores[metric].n for _, scores in rows if metric in scores)]
    if not rows:
        return []
    body: list[Sequence[str]] = [
        [title, *(cell(scores[metric]) if metric in scores else NOTHING for metric in shown)]
        for title, scores in rows
    ]
    lines = aligned([["", *(TITLES[m] for m in shown)], *body])
    return [
        "",
        f"## {name}: controls and nulls, all measured",
        "",
        *lines,
        *undefined(lines),
    ]
