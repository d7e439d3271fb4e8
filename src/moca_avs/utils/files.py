"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
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


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; it becomes `path` when the block ends well, else it is removed.

    Raises:
        MediaError: where the folder can't be made or written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)  # noqa: PTH105
    except OSError as error:
        raise unwritable_error(path, error) from error
    finally:
        # Under a path that is no folder there is nothing to remove either.
        if partial.parent.is_dir():
            partial.unlink(missing_ok=True)
