"""Videos and results that lie on an object store or behind a URL, through fsspec."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from moca_avs.errors import MediaError, UsageError
from moca_avs.io.open import VIDEO_SUFFIXES, is_visible_video
from moca_avs.io.results import RESULT, is_complete

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from moca_avs.inference.inputs import JobSpec

ENDING = b'"complete": true}'  # of a whole result.json
PREFIX = "moca-avs-fetched-"
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp", "az": "adlfs"}
IMAGES = ("masks", "heatmaps", "labels")
SPARE = 256 * 2**20  # bytes of the temporary folder's disk that fetching leaves free
BLOCK = 2**20  # bytes
YOUNG = 60.0  # seconds in which a temporary folder may be there without being held

# What the stores' own libraries raise beside OSError, named because few have them installed.
_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
)
# What asking again does not change.
_CERTAIN = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def _store(url: str) -> tuple[AbstractFileSystem, str]:
    """(file system, path on it) of a URL.

    Raises:
        UsageError: where the protocol is unknown or its package is missing.
    """
    from fsspec.core import url_to_fs

    protocol = url.split("://", 1)[0]
    try:
        return url_to_fs(url)
    except ImportError as error:
        package = PACKAGES.get(protocol)
        what = f"pip install {package}" if package else str(error)
        raise UsageError(f"{url}: {protocol}:// needs a package that is not installed: {what}") from error
    except ValueError as error:
        raise UsageError(f"{url} can't be opened: {error}; give s3://, gs://, https:// or a file") from error


@contextmanager
def _trouble(url: str, what: str) -> Iterator[None]:
    """One kind of error for each store's own.

    Raises:
        MediaError: what is not there, or not allowed.
        OSError: what may go better the next time.
    """
    loaded = ((sys.modules[module], name) for module, name in _ERRORS if module in sys.modules)
    errors = (OSError, *(getattr(module, name) for module, name in loaded))
    try:
        yield
    except _CERTAIN as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise MediaError(f"{url} can't be {what}: {reason}; check its name and your rights") from error
    except errors as error:
        raise OSError(f"{url} can't be {what}: {error}") from error


def expand(url: str) -> tuple[Sequence[str], str]:
    """The videos that a URL means: itself, or those in its folder, or those that its glob matches.

    The store is asked only where that is open: of a URL that ends like a video, not even whether it is there.

    Args:
        url: ``protocol://path``; on the web a folder is what ends with a slash, and ? is no glob.

    Returns:
        (URLs sorted by name, what to say where there are none).

    Raises:
        UsageError: where the protocol is unknown or its package is missing.
    """
    store, path = _store(url)
    web = url.startswith(("http://", "https://"))
    try:
        with _trouble(url, "listed"):
            if any(sign in path for sign in ("*[" if web else "*[?")):
                found, why = store.glob(path), "no file matches"
            elif _shown(path, path.rpartition("/")[0]):
                return [url], ""
            elif url.endswith("/") if web else store.isdir(path):
                found = [file for file in store.find(path) if _shown(file, path)]
                why = f"the folder holds no video; looked for {', '.join(VIDEO_SUFFIXES)}"
            else:
                return [url], ""
    except (MediaError, OSError) as error:
        return [], str(error)
    return [store.unstrip_protocol(file) for file in sorted(found)], why


def _shown(file: str, folder: str) -> bool:
    return is_visible_video(PurePosixPath(file.removeprefix(folder).lstrip("/")))


def is_finished(job: JobSpec) -> bool:
    """Whether the job's result was written to its end, here or where it is uploaded to.

    Raises:
        OSError: where the store doesn't answer.
    """
    if job.upload is None:
        return is_complete(job.folder)
    store, path = _store(job.upload)
    with _trouble(job.upload, "looked at"):
        try:
            return bool(store.tail(f"{path}/{RESULT}", 64).rstrip().endswith(ENDING))
        except FileNotFoundError:
            return False


@contextmanager
def fetched(job: JobSpec) -> Iterator[JobSpec]:
    """The job with a source that can be read and a folder that can be written here.

    What has a `url` is fetched to a temporary file, what has an `upload` is written to a temporary folder
    and copied there when the block ends well, its ``result.json`` last. Both are gone afterwards; those of a
    killed process go when the next begins.

    Raises:
        MediaError: a source that is not there or doesn't fit on the disk, a place that can't be written.
        OSError: a store that fails in another way.
        UsageError: where the protocol is unknown or its package is missing.
    """
    with ExitStack() as stack:
        here = job
        if job.url or job.upload:
            room = stack.enter_context(_room())
        if job.url:
            here = replace(here, source=_fetch(job.url, room / "source" / job.source.name))
        if job.upload:
            here = replace(here, folder=room / "result" / job.folder.name)
        yield here
        if job.upload:
            _upload(here.folder, job.upload)


def _fetch(url: str, file: Path) -> Path:
    """Copy a URL to a file, in blocks."""
    file.parent.mkdir()
    store, path = _store(url)
    with _trouble(url, "fetched"), store.open(path, "rb") as source, file.open("wb") as target:
        while block := source.read(BLOCK):
            if shutil.disk_usage(file.parent).free < SPARE + len(block):
                raise MediaError(
                    f"{url} doesn't fit on the disk of {tempfile.gettempdir()}, where {SPARE >> 20} MB stay "
                    "free; make room there or let TMPDIR name another folder"
                )
            target.write(block)
    return file


def _upload(folder: Path, url: str) -> None:
    """Copy a finished result to a store; its ``result.json``, which says that it is whole, last."""
    store, path = _store(url)
    files = [file for file in folder.rglob("*") if file.is_file()]
    files.sort(key=lambda file: file.name == RESULT)
    with _trouble(url, "written"):
        if store.exists(f"{path}/{RESULT}"):  # an earlier result, which may have had more frames
            store.rm_file(f"{path}/{RESULT}")
            for part in IMAGES:
                if store.exists(f"{path}/{part}"):
                    store.rm(f"{path}/{part}", recursive=True)
        for file in files:
            target = f"{path}/{file.relative_to(folder).as_posix()}"
            store.makedirs(target.rpartition("/")[0], exist_ok=True)
            store.put_file(str(file), target)


@contextmanager
def _room() -> Iterator[Path]:
    """A temporary folder, held by a lock so that others can tell it from a dead process's."""
    _sweep()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name, _held(Path(name)):
        yield Path(name)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _sweep() -> None:
    """Remove what killed processes left behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # Others may hold it, own it, or be quicker.
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > YOUNG:
                with _held(folder):
                    shutil.rmtree(folder)
