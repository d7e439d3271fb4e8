"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from moca_avs.errors import MediaError

_LOCK = ".lock"
_CLAIM = "claim"


def parse_json(text: str | bytes) -> Any:
    """`json.loads` for what others may have written.

    Raises:
        json.JSONDecodeError: (a ValueError) also where it is nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise json.JSONDecodeError("nested too deeply", str(text[:20]), 0) from error


_ENDS = 1 << 16


def file_ends(path: Path) -> tuple[os.stat_result, bytes]:
    """A file's state and its first and last 64 KiB, which tell it from most others however large it is."""
    with path.open("rb") as file:
        state = os.fstat(file.fileno())
        first = file.read(_ENDS)
        file.seek(max(state.st_size - _ENDS, 0))
        return state, first + file.read(_ENDS)


def unwritable_error(path: Path, error: Exception) -> MediaError:
    """What to tell a user whose `path` can't be written."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        return MediaError(f"{path} can't be written: the disk is full; free some space or choose another")
    if isinstance(error, Timeout):
        return MediaError(f"{path} can't be written: another process is writing it; wait for that one to end")
    reason = getattr(error, "strerror", None) or str(error)
    return MediaError(f"{path} can't be written: {reason}; choose a place you may write to")


def check_writable(path: Path, *, folder: bool = False) -> None:
    """See that a file or folder can be written, by writing beside where it would begin; leaves nothing there.

    Raises:
        MediaError: where it can't, saying why.
    """
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()  # a name that is too long is told
        there = next(place for place in (path.absolute(), *path.absolute().parents) if os.path.lexists(place))
        if there == path.absolute() and not folder:
            if there.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder, expected the name of a file")
            there = there.parent
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{there} is a file, expected a folder")
        with tempfile.TemporaryFile(dir=there):
            pass
    except (OSError, ValueError) as error:
        raise unwritable_error(path, error) from error


def partial_path(path: Path, process: int | None = None) -> Path:
    """The name beside `path` under which a process (None: this one) writes what will become `path`."""
    return path.with_name(f".{path.name}.{process or os.getpid()}.partial")


@contextmanager
def atomic_write(path: Path, *, folder: bool = False, explain: bool = True) -> Iterator[Path]:
    """A name beside `path` to write to; it becomes `path` when the block ends well, else it is removed.

    What killed processes left of writing `path` is removed too.

    Args:
        path: a file, which may be there, or a folder, which must not be there or be empty.
        folder: whether `path` is a folder; then it is made under the other name before the block.
        explain: whether an OSError becomes the error that tells a user what to do.

    Raises:
        MediaError: where the folder can't be made or written; OSError without `explain`.
    """
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            remove_abandoned(path)
            stack.enter_context(held(partial, patience=1.0))  # others look whether it is held
            stack.callback(_remove, partial)
            if folder:
                partial.mkdir()
            yield partial
            os.replace(partial, path)  # noqa: PTH105
    except OSError as error:
        if not explain:
            raise
        raise unwritable_error(path, error) from error


@contextmanager
def held(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock beside `path`, which tells everybody that a living process works on it; gone afterwards.

    A lock and not a process id: ids are given out again, mean nothing in another container on the same disk,
    and can't be looked up without harm on Windows.

    Args:
        path: what the work is on.
        patience: seconds to wait for another process or thread that holds it.

    Raises:
        Timeout: (of `filelock`, an OSError) where it is held longer than that.
    """
    file = path.with_name(f"{path.name}{_LOCK}")
    with FileLock(file, timeout=patience, thread_local=False):  # taken in one thread, let go in another
        try:
            yield
        finally:
            with suppress(OSError):  # Windows lets nobody remove what is open, and removes it by itself
                file.unlink(missing_ok=True)


@contextmanager
def temporary_folder(prefix: str, parent: Path, young: float = 60.0) -> Iterator[Path]:
    """A folder `held` for the length of the block, then removed; those of killed processes go now.

    Args:
        prefix: of its name.
        parent: where it is made.
        young: seconds in which one may be there without being held yet.
    """
    for folder in parent.glob(f"{prefix}*"):
        # Others may hold it, own it, or be quicker.
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > young:
                with held(folder / _CLAIM):
                    pass  # on Windows a folder with an open file can't be removed
                shutil.rmtree(folder)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as name, held(Path(name, _CLAIM)):
        yield Path(name)


def remove_abandoned(path: Path) -> None:
    """Delete what killed processes left of writing `path`, a file or a folder; what is `held` stays."""
    name = re.escape(path.name)
    # The second and third form are those of moca-avs up to 0.1, which held no lock.
    left = re.compile(rf"(\.{name}\.\d+\.partial|{name}\.partial-\d+|\.{name}\.partial)(\{_LOCK})?")
    found = {entry.name.removesuffix(_LOCK) for entry in path.parent.iterdir() if left.fullmatch(entry.name)}
    for partial in map(path.with_name, found):
        with suppress(Timeout), held(partial):
            _remove(partial)


def _remove(partial: Path) -> None:
    """A file or a folder, if it is there and can be removed."""
    with suppress(OSError):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
