"""What runs in a worker process of the Ray engine, and how an input and its outcome travel."""

from __future__ import annotations

import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import Any

from moca_avs import errors
from moca_avs.errors import MocaError, UsageError, WeightsError
from moca_avs.inputs import Job
from moca_avs.methods.base import Method
from moca_avs.segment import Options, Outcome, segment_file
from moca_avs.stores import is_finished

DEADLY = (
    "its worker died {} times, of too little memory or a crash; try it alone with --engine local, or with "
    "fewer --workers"
)
PAUSE = 0.5  # seconds before an input is tried again, doubled each time


class Tally:
    """An actor of its own, which lives on when workers die: counts how often each input was begun."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, index: int) -> int:
        """Count one more; returns how many there are now."""
        self._begun[index] += 1
        return self._begun[index]


class Worker:
    """An actor: loads the method once, at the first input that can be read, and segments row after row.

    Args:
        load: builds the method.
        options: which frames, and whether to overwrite.
        threads: of torch and of what counts on it.
        folder: what relative names are relative to, if it is there on this machine.
        retries: after errors that may pass, and after the death of a worker.
        tally: handle of a `Tally`; Ray itself would begin an input that kills its worker for ever.
    """

    def __init__(
        self,
        load: Callable[[], Method],
        options: Options,
        threads: int,
        folder: str,
        retries: int,
        tally: Any,
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        if Path(folder).is_dir():
            os.chdir(folder)
        self._load, self._options, self._retries, self._tally = load, options, retries, tally
        self._method: Method | None = None
        self._loaded = ""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Segment one input: its row (`as_row`) -> the row of its outcome (`from_row`)."""
        outcome, error = self._done(row["index"], _job(row))
        kept = {field.name: getattr(outcome, field.name) for field in fields(outcome) if field.name != "job"}
        fatal = type(error).__name__ if isinstance(error, UsageError | WeightsError) else ""
        return {"index": row["index"], "outcome": json.dumps(kept), "loaded": self._loaded, "fatal": fatal}

    def _done(self, index: int, job: Job) -> tuple[Outcome, MocaError | OSError | None]:
        import ray

        begun = ray.get(self._tally.begin.remote(index))
        if begun > self._retries + 1:
            return Outcome(job, "failed", DEADLY.format(begun - 1)), None
        for attempt in range(self._retries + 1):
            time.sleep(attempt and PAUSE * 2**attempt)
            outcome, error = self._attempt(job)
            if not isinstance(error, OSError):
                break
        return outcome, error

    def _attempt(self, job: Job) -> tuple[Outcome, MocaError | OSError | None]:
        outcome = Outcome(job)
        try:
            if not self._options.overwrite and is_finished(job):  # by a worker that died right after
                outcome.state = "skipped"
            else:
                segment_file(job, self._held, self._options, outcome, progress=False)
        except (MocaError, OSError) as error:
            outcome.state, outcome.message = "failed", str(error)
            return outcome, error
        return outcome, None

    def _held(self) -> Method:
        """The method; what loading prints is kept to be said once for all workers."""
        if self._method is None:
            with redirect_stdout(io.StringIO()) as said:
                self._method = self._load()
            self._loaded = said.getvalue().strip()
        return self._method


def as_row(index: int, job: Job) -> dict[str, Any]:
    """A job as a row of plain values."""
    values = {field.name: getattr(job, field.name) for field in fields(job)}
    return {"index": index} | {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}


def _job(row: dict[str, Any]) -> Job:
    values = {field.name: row[field.name] for field in fields(Job)}
    paths = {name: Path(values[name]) for name in ("source", "folder", "sound") if values[name] is not None}
    return Job(**values | paths)


def from_row(row: dict[str, Any], job: Job) -> tuple[Outcome, str]:
    """(outcome, what loading the method printed).

    Raises:
        UsageError: from the worker: options that make no sense.
        WeightsError: from the worker: the method can't be loaded.
    """
    outcome = Outcome(job)
    for name, value in json.loads(row["outcome"]).items():
        held = getattr(outcome, name)
        if isinstance(held, dict):
            held.update(value)
        else:
            setattr(outcome, name, value)
    if row["fatal"]:
        raise getattr(errors, row["fatal"])(outcome.message)
    return outcome, row["loaded"]
