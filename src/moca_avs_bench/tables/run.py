"""Runs a table: trains what is missing, evaluates every cell from where it was stopped.

Other processes may start the table from its end, while this one starts from the top. They share nothing but
the folder of runs: whoever comes first to a run or a cell holds its lock and does it, the other finds it
done. So every core is busy, and the table is put together by one process as ever.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from moca_avs.data.base import EvaluationSet
from moca_avs.errors import DataError, MocaError, UsageError
from moca_avs.hub.cache import lock
from moca_avs.methods.base import Method
from moca_avs_bench.evaluation.controls import CONTROLS
from moca_avs_bench.evaluation.evaluate import evaluate
from moca_avs_bench.evaluation.records import METRICS
from moca_avs_bench.evaluation.report import Report, read_report
from moca_avs_bench.tables.result import CellResult, RowResult, ScoredRow, TableResult
from moca_avs_bench.tables.setup import RunContext, settings_digest, trained
from moca_avs_bench.tables.spec import Comparator, Oracle, Table, TableColumn, TableRow, TrainedMoca
from moca_avs_bench.tables.systems import build, why_not

Measure = Callable[[Table, RunContext], object]
"""Measures a table; picklable."""
Watch = Callable[[str, TableRow, Method], None]
"""Given (dataset, row, method) of every system that was evaluated: draws figures."""


def sensible_jobs(preset: str, device: str) -> int:
    """Two processes for small networks on two cores or more; one on a GPU, or where memory is dear."""
    return 2 if device == "cpu" and preset in ("lite", "lite-soundnet") and (os.cpu_count() or 1) >= 2 else 1


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
        command: written into the result.
        watch: called with every method that was evaluated.
        jobs: processes at work; the numbers are those of one process with its share of the cores.

    Raises:
        DataError: where none of its datasets, or nothing to train on, can be had.
        UsageError: where the setup makes no sense.
    """
    metadata = context.metadata()  # where there is nothing to train on, say so first
    datasets, missing = open_datasets(table, context)
    with helper_processes(table, context, jobs, run_table):
        rows = tuple(_run_row(table, row, context, datasets, missing, watch) for row in table.rows)
    return TableResult(table, rows, metadata, command)


def _run_row(
    table: Table,
    row: TableRow,
    context: RunContext,
    datasets: dict[str, EvaluationSet],
    missing: dict[str, str],
    watch: Watch | None,
) -> RowResult:
    """One row; what fails becomes a failed cell, and the others go on."""

    def say(message: str) -> None:
        if context.progress:
            print(f"table {table.number}, {row.title}{message}", file=sys.stderr, flush=True)

    nothing = why_not(row.system, context)
    if nothing:
        cells = [CellResult(table.reported(row, column), "not run", why=nothing) for column in table.columns]
        return RowResult(row, tuple(cells), {})
    if isinstance(row.system, TrainedMoca | Comparator):
        say(": looking for its run, training it if there is none")
    run, why = None, dict(missing)
    try:
        run = trained(row.system, context)
    except UsageError:
        raise
    except MocaError as error:
        datasets, why = {}, dict.fromkeys(table.datasets, str(error))
    if run is not None:
        say(f": run {run.key} {'reused' if run.reused else 'trained'}")
    reports: dict[str, tuple[Path, Report]] = {}
    methods: dict[str, Method] = {}  # by what they know of a dataset
    oracle = isinstance(row.system, Oracle)
    for name, dataset in datasets.items():
        if row.only and name not in row.only:
            continue
        try:
            known = name if oracle else str(getattr(dataset, "class_table", None))
            if known not in methods:
                methods[known] = build(row.system, run, context, dataset)
            say(f", {name}: {len(dataset)} samples")
            reports[name] = _evaluate(methods[known], dataset, context, () if oracle else CONTROLS)
            if watch is not None and not oracle:
                watch(name, row, methods[known])
        except UsageError:
            raise
        except MocaError as error:
            why[name] = str(error)
    scored = {
        name: ScoredRow(report.split, report.samples, report.failed, report.tiers["all"], report.settings)
        for name, (_, report) in reports.items()
    }
    cells = [_cell(table, row, column, reports, why) for column in table.columns]
    return RowResult(
        row, tuple(cells), scored, "" if run is None else run.key, None if run is None else run.config
    )


def _evaluate(
    method: Method, dataset: EvaluationSet, context: RunContext, controls: tuple[str, ...]
) -> tuple[Path, Report]:
    """The records and report of one system on one dataset; records are found again by what decides them."""
    name = dataset.name
    place, seed = context.place, context.seed
    made_from = [method.settings, name, dataset.split, dataset.ids, place, seed, controls, METRICS]
    path = context.folder / "cells" / f"{name}-{settings_digest(json.loads(json.dumps(made_from)))}.jsonl"
    with lock(f"table-cell-{path.stem}"):
        report = evaluate(
            method,
            getattr(method, "dataset", dataset),
            controls=controls,
            foreground=context.foreground,
            jsonl=path,
            resume=True,
            seed=context.seed,
            progress=context.progress,
        )
    return path, report


def _cell(
    table: Table,
    row: TableRow,
    column: TableColumn,
    reports: dict[str, tuple[Path, Report]],
    why: dict[str, str],
) -> CellResult:
    reported = table.reported(row, column)
    if row.only and column.dataset not in row.only:
        return CellResult(reported, "not run", why=row.elsewhere)
    if column.dataset not in reports:
        return CellResult(reported, "failed", why=why[column.dataset])
    path, report = reports[column.dataset]
    if column.protocol not in (None, report.protocol):
        report = read_report([path], column.protocol)
    rows = report.tiers["all"].rows
    score = rows["method"].get(column.metric)
    if score is None or not score.n:
        return CellResult(reported, "failed", why="nothing could be scored")
    wrong = rows["wrong_sound"][column.metric] if "wrong_sound" in rows else None
    return CellResult(reported, "measured", score, wrong)
