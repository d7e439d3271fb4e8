"""Standard streams that don't end a run: closed, full, no longer read, or unable to encode a name."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


class _Lenient(io.FileIO):
    """A standard stream that takes everything, also when nobody reads it or its disk is full.

    What is computed matters more than what is said of it.

    Attributes:
        failure: why the first write failed; what came after it was dropped.
    """

    failure: OSError | None = None

    def write(self, data: object) -> int:
        size = memoryview(data).nbytes  # type: ignore[arg-type]
        if self.failure is None:
            try:
                return super().write(data)  # type: ignore[arg-type]
            except BlockingIOError:
                raise
            except OSError as error:
                self.failure = error
        return size


@contextmanager
def lasting_streams() -> Iterator[list[OSError]]:
    """Let stdout and stderr outlast whatever happens to them, for the length of the block.

    What an encoding lacks is escaped: ``LC_ALL=C``, odd bytes in a name. Streams that were closed when the
    process began (``2>&-``) are opened on nothing, or the next file to be opened would be taken for them.

    Yields:
        A list to which the end of the block adds why stdout lost something, unless merely nobody read on.
    """
    _open_closed()
    lost: list[OSError] = []
    before = sys.stdout, sys.stderr
    ours = [_lasting(stream) for stream in before]
    sys.stdout, sys.stderr = ours
    try:
        yield lost
    finally:
        for stream, old in zip(ours, before, strict=True):
            if stream is not old:
                stream.flush()
        sys.stdout, sys.stderr = before
        buffer = getattr(ours[0], "buffer", None)
        raw = getattr(buffer, "raw", buffer)
        failure = raw.failure if isinstance(raw, _Lenient) else None
        # Windows says EINVAL of a pipe whose other end is closed.
        if failure is not None and failure.errno not in (errno.EPIPE, errno.EINVAL):
            lost.append(failure)


def _lasting(stream: TextIO) -> TextIO:
    """The stream itself where it is no plain file (a notebook's, a test's)."""
    if type(stream) is not io.TextIOWrapper:
        return stream
    stream.reconfigure(errors="backslashreplace")
    unbuffered = isinstance(stream.buffer, io.FileIO)  # PYTHONUNBUFFERED
    if not isinstance(getattr(stream.buffer, "raw", stream.buffer), io.FileIO) or stream.fileno() not in (
        1,
        2,
    ):
        return stream
    raw = _Lenient(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _open_closed() -> None:
    """Open standard streams that are closed on the null device."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            file = open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8")  # noqa: PTH123, SIM115
            setattr(sys, name, file)
