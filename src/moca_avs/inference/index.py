"""``index.jsonl``: a line per input of what became of it, beside the result folders."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from moca_avs.inference.inputs import INDEX, InputSource, open_store, store_errors
from moca_avs.inference.job import JobResult
from moca_avs.utils.files import unwritable_error


class RunIndex:
    """Appends a JSON object per input to ``index.jsonl`` in the output folder; use it as a context manager.

    Runs, shards and processes that share an output folder share the file: lines are appended whole, and the
    last one of an input counts. Where the output is a URL, the file there is replaced when the run ends.
    A run whose one input fails leaves nothing behind, no index either.

    Args:
        out: the output folder or its URL.

    Raises:
        MediaError: where it can't be written.
        OSError: where the store doesn't answer.
    """

    def __init__(self, out: InputSource) -> None:
        self._out = out
        self._first = ""

    def __enter__(self) -> RunIndex:
        self._run = _now()
        with ExitStack() as stack:
            if isinstance(self._out, Path):
                self._path = self._out / INDEX
            else:
                self._path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / INDEX
                stack.callback(_put, self._path, f"{self._out.rstrip('/')}/{INDEX}")
            self._open = stack.pop_all()
        return self

    def add(self, outcome: JobResult) -> None:
        """Add what became of one input."""
        self.add_line(
            {
                "input": outcome.job.name,
                "result": outcome.job.result,
                "state": outcome.state,
                "message": outcome.message,
                "frames": outcome.frames,
                "empty": dict(outcome.empty),
                "notes": outcome.notes,
                "seconds": round(outcome.wall, 3),
            }
        )

    def add_line(self, values: dict[str, Any]) -> None:
        """Add a line; the time and the beginning of the run (UTC) are added to it."""
        line = self._first + json.dumps({**values, "time": _now(), "run": self._run}) + "\n"
        if not self._first and not self._path.parent.exists():
            self._first = line
            return
        self._first = ""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # One write to the end of the file, so that processes don't mix their lines.
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                os.write(file, line.encode())
            finally:
                os.close(file)
        except OSError as error:
            raise unwritable_error(self._path, error) from error

    def __exit__(self, *_: object) -> None:
        self._open.close()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _put(file: Path, url: str) -> None:
    """Copy a file, if it is there, to a store."""
    if file.exists():
        store, path = open_store(url)
        with store_errors(url, "written"):
            store.makedirs(path.rpartition("/")[0], exist_ok=True)
            store.put_file(str(file), path)
