"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moca_avs.errors import MediaError


def unwritable_error(path: Path, error: Exception) -> MediaError:
    """What to tell a user whose `path` can't be written."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        return MediaError(f"{path} can't be written: the disk is full; free some space or choose another")
    reason = getattr(error, "strerror", None) or str(error)
    return MediaError(f"{path} can't be written: {reason}; choose a place you may write to")


def partial_path(path: Path, process: int | None = None) -> Path:
    """The name beside `path` under which a process (None: this one) writes what will become `path`."""
    return path.with_name(f".{path.name}.{process or os.getpid()}.partial")


@contextmanager
def atomic_write(path: Path, *, folder: bool = False, explain: bool = True) -> Iterator[Path]:
    """A name beside `path` to write to; it becomes `path` when the block ends well, else it is removed.

    Args:
        path: a file, which may be there, or a folder, which must not be there or be empty.
        folder: whether `path` is a folder; then it is made under the other name before the block, and what
            killed processes left of it is removed.
        explain: whether an OSError becomes the error that tells a user what to do.

    Raises:
        MediaError: where the folder can't be made or written; OSError without `explain`.
    """
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            remove_abandoned(path)
            partial.mkdir()
        yield partial
        os.replace(partial, path)  # noqa: PTH105
    except OSError as error:
        if not explain:
            raise
        raise unwritable_error(path, error) from error
    finally:
        if folder:
            shutil.rmtree(partial, ignore_errors=True)
        elif partial.parent.is_dir():  # under a path that is no folder there is nothing to remove
            partial.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Delete what killed processes left of writing `folder`; another living process keeps its own."""
    name = re.escape(folder.name)
    # The second and third form are those of moca-avs up to 0.1.
    left = re.compile(rf"\.{name}\.(\d+)\.partial|{name}\.partial-(\d+)|\.{name}\.partial")
    for entry in folder.parent.iterdir():
        if found := left.fullmatch(entry.name):
            owner = int(found[1] or found[2] or 0)
            if owner in (0, os.getpid()) or not _alive(owner):
                shutil.rmtree(entry, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
