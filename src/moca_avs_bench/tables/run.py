"""Other processes that start a table from its end, while this one starts from the top.

They share nothing but the folder of runs: whoever comes first to a run or a cell holds its lock and does it,
the other finds it done. So every core is busy, and the table is put together by one process as ever.

Runs a table: trains what is missing, evaluates every cell from where it was stopped.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from moca_avs.data.base import EvaluationSet
from moca_avs.errors import DataError, MocaError, UsageError
from moca_avs.hub.cache import lock
from moca_avs.methods.base import Method
from moca_avs_bench.evaluation.controls import CONTROLS
from moca_avs_bench.evaluation.evaluate import evaluate
from moca_avs_bench.evaluation.report import Report, read_report
from moca_avs_bench.tables.proposal_cache import keep_proposals
from moca_avs_bench.tables.report import CellResult, RowResult, ScoredRow, TableResult
from moca_avs_bench.tables.setup import RunContext, settings_digest
from moca_avs_bench.tables.spec import Comparator, Oracle, Table, TableColumn, TableRow, TrainedMoca
from moca_avs_bench.tables.systems import build, trained, why_not

Measure = Callable[[Table, RunContext], object]
"""Measures a table; picklable."""


def sensible_jobs(preset: str, device: str) -> int:
    """Two processes for small networks on two cores or more; one on a GPU, or where memory is dear."""
    return 2 if (preset, device) == ("lite", "cpu") and (os.cpu_count() or 1) >= 2 else 1


@contextmanager
def helper_processes(table: Table, context: RunContext, jobs: int, work: Measure) -> Iterator[None]:
    """While it lasts, ``jobs - 1`` other processes measure the table from other ends.

    The cores are shared out among all of them, this process too; what is left to do at the end is stopped.
    """
    if jobs < 2:
        yield
        return
    import torch

    before, threads = torch.get_num_threads(), max(1, (os.cpu_count() or 1) // jobs)
    spawn = multiprocessing.get_context("spawn")  # forking a process that has torch's threads may hang
    started = [
        spawn.Process(
            target=_work,
            args=(
                work,
                replace(table, rows=_turned(table.rows, index, jobs)),
                replace(context, progress=False),
            ),
            kwargs={"threads": threads},
            daemon=True,
        )
        for index in range(1, jobs)
    ]
    torch.set_num_threads(threads)
    for process in started:
        process.start()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        for process in started:
            process.terminate()
            process.join()


def _turned(rows: tuple[TableRow, ...], index: int, jobs: int) -> tuple[TableRow, ...]:
    """The rows from the end on; the third process and later ones start further up."""
    start = len(rows) - (index - 1) * len(rows) // jobs
    return (*rows[:start][::-1], *rows[start:])


def _work(work: Measure, table: Table, context: RunContext, threads: int) -> None:
    """What another process does; its complaints are the first one's to make."""
    import torch

    torch.set_num_threads(threads)
    try:
        work(table, context)
    except (MocaError, KeyboardInterrupt):
        return


Watch = Callable[[str, TableRow, Method], None]
"""Told (dataset, row, method) of every system that was evaluated: draws figures."""


@dataclass
class _Bench:
    """A table's datasets, opened once, and its setup."""

    context: RunContext
    datasets: dict[str, EvaluationSet] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    watch: Watch | None = None

    def say(self, message: str) -> None:
        if self.context.progress:
            print(message, file=sys.stderr, flush=True)


def open_datasets(table: Table, context: RunContext) -> tuple[dict[str, EvaluationSet], dict[str, str]]:
    """A table's datasets by name, and why the others can't be had.

    Raises:
        DataError: where none can.
    """
    found: dict[str, EvaluationSet] = {}
    missing: dict[str, str] = {}
    for name in table.datasets:
        try:
            found[name] = context.dataset(name)
        except DataError as error:  # noqa: PERF203 one missing dataset must not end the others
            missing[name] = str(error)
    if not found:
        raise DataError(next(iter(missing.values())))
    return found, missing


def run_table(
    table: Table, context: RunContext, command: str = "", watch: Watch | None = None, jobs: int = 1
) -> TableResult:
    """Measure a table.

    Finished training runs and evaluated samples are found again in ``context.folder``, so that a table that
    was stopped goes on, and tables share what they have in common.

    Args:
        table: which rows and columns.
        context: what on and what with.
        command: told in the result.
        watch: told of every method that was evaluated.
        jobs: processes at work; the numbers are those of one process with its share of the cores.

    Raises:
        DataError: where none of its datasets, or nothing to train on, can be had.
        UsageError: where the setup makes no sense.
    """
    told = context.told()  # where there is nothing to train on, say so first
    datasets, missing = open_datasets(table, context)
    bench = _Bench(context, datasets, missing, watch)
    with helper_processes(table, context, jobs, run_table), keep_proposals(context.folder / "proposals"):
        rows = tuple(_measured(bench, table, row) for row in table.rows)
    return TableResult(table, rows, told, command)


def _measured(bench: _Bench, table: Table, row: TableRow) -> RowResult:
    """One row; what fails becomes a failed cell, and the others go on."""
    nothing = why_not(row.system, bench.context)
    if nothing:
        return RowResult(row, tuple(_unrun(table, row, column, nothing) for column in table.columns), {})
    if isinstance(row.system, TrainedMoca | Comparator):
        bench.say(f"table {table.number}, {row.title}: looking for its run, training it if there is none")
    try:
        run = trained(row.system, bench.context)
    except UsageError:
        raise
    except MocaError as error:
        why = dict.fromkeys(table.datasets, str(error))
        return RowResult(row, tuple(_cell(table, row, column, {}, why) for column in table.columns), {})
    if run is not None:
        verb = "reused" if run.reused else "trained"
        bench.say(f"table {table.number}, {row.title}: run {run.key} {verb}")
    found: dict[str, tuple[Path, Report]] = {}
    why = dict(bench.missing)
    built: dict[str, Method] = {}  # by what a method is told of a dataset
    for name, dataset in bench.datasets.items():
        if not row.only or name in row.only:
            try:
                told = name if isinstance(row.system, Oracle) else str(getattr(dataset, "class_table", None))
                if told not in built:
                    built[told] = build(row.system, run, bench.context, dataset)
                found[name] = _evaluated(bench, table, row, built[told], name)
            except UsageError:
                raise
            except MocaError as error:
                why[name] = str(error)
    cells = tuple(_cell(table, row, column, found, why) for column in table.columns)
    scored = {name: _scored(report) for name, (_, report) in found.items()}
    return RowResult(row, cells, scored, "" if run is None else run.key, None if run is None else run.config)


def _evaluated(bench: _Bench, table: Table, row: TableRow, method: Method, name: str) -> tuple[Path, Report]:
    """The records and report of one system on one dataset."""
    context, dataset = bench.context, bench.datasets[name]
    told = isinstance(row.system, Oracle)
    asked: Any = getattr(method, "telling", dataset)
    controls = () if told else CONTROLS
    made_from = [method.settings, name, dataset.split, dataset.ids, context.place, context.seed, controls]
    path = context.folder / "cells" / f"{name}-{settings_digest(json.loads(json.dumps(made_from)))}.jsonl"
    bench.say(f"table {table.number}, {row.title}, {name}: {len(dataset)} samples")
    with lock(f"table-cell-{path.stem}"):
        report = evaluate(
            method,
            asked,
            controls=controls,
            foreground=context.foreground,
            jsonl=path,
            resume=True,
            seed=context.seed,
            progress=context.progress,
        )
    if bench.watch is not None and not told:
        bench.watch(name, row, method)
    return path, report


def _cell(
    table: Table,
    row: TableRow,
    column: TableColumn,
    found: dict[str, tuple[Path, Report]],
    why: dict[str, str],
) -> CellResult:
    reported = table.reported(row, column)
    if column.dataset in found:
        path, report = found[column.dataset]
        if column.protocol not in (None, report.protocol):
            report = read_report([path], column.protocol)
        rows = report.tiers["all"].rows
        score = rows["method"].get(column.metric)
        if score is None or not score.n:
            return CellResult(reported, "failed", why="nothing could be scored")
        wrong = rows["wrong_sound"][column.metric] if "wrong_sound" in rows else None
        return CellResult(reported, "measured", score, wrong)
    if row.only and column.dataset not in row.only:
        return CellResult(reported, "not run", why=row.elsewhere)
    return CellResult(reported, "failed", why=why[column.dataset])


def _unrun(table: Table, row: TableRow, column: TableColumn, why: str) -> CellResult:
    return CellResult(table.reported(row, column), "not run", why=why)


def _scored(report: Report) -> ScoredRow:
    return ScoredRow(report.split, report.samples, report.failed, report.tiers["all"], report.settings)
