"""The cache folder, its locks, and hashes."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moca_avs.errors import WeightsError


def cache_dir() -> Path:
    """The cache: ``$MOCA_AVS_CACHE``, else ``$XDG_CACHE_HOME/moca-avs``, else ``~/.cache/moca-avs``.

    Raises:
        WeightsError: if the folder can't be made.
    """
    chosen = os.environ.get("MOCA_AVS_CACHE")
    if chosen:
        folder = Path(chosen).expanduser().absolute()
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "moca-avs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f"the cache folder {folder} can't be made ({error.strerror}); "
            "set MOCA_AVS_CACHE to a folder you may write to"
        ) from error
    return folder


def download_dir() -> Path:
    """Where a user may put archives fetched by hand; they are used (and checked) before any network."""
    folder = cache_dir() / "downloads"
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the lock `name` of the cache: a second process (or thread) waits until the first is done."""
    folder = cache_dir() / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
