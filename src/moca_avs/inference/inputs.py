"""Inputs: which files a command line means, here or behind a URL (fsspec), and the folder of each result."""

from __future__ import annotations

import codecs
import glob
import hashlib
import os
import posixpath
import shutil
import sys
import tempfile
from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote

from moca_avs.errors import MediaError, UsageError, first_few
from moca_avs.io.open import VIDEO_SUFFIXES, is_visible_video
from moca_avs.io.results import RESULT, is_complete
from moca_avs.utils.files import temporary_folder

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

InputSource = Path | str
"""A file here, or the URL of one elsewhere."""


@dataclass(frozen=True)
class JobSpec:
    """One input and the folder its result gets.

    Attributes:
        source: the video, or the image of an image + sound pair; with `url`, what it is called.
        folder: where its result goes; with `upload`, what it is called.
        sound: a sound file to use instead of the source's own track.
        still: the source is an image, shown for as long as its sound lasts.
        url: where the source is fetched from, see `moca_avs.inference.inputs.fetched`.
        upload: the URL of the folder that the finished result is copied to.
    """

    source: Path
    folder: Path
    sound: Path | None = None
    still: bool = False
    url: str | None = None
    upload: str | None = None

    @property
    def name(self) -> str:
        """The input as its user knows it."""
        return self.url or str(self.source)

    @property
    def result(self) -> str:
        """The place of the result as its user knows it."""
        return self.upload or str(self.folder)


def is_url(given: str) -> bool:
    """Whether it names a place by protocol, like ``s3://bucket/video.mp4``."""
    return "://" in given


def find_inputs(inputs: Sequence[str]) -> tuple[list[InputSource], list[tuple[str, str]]]:
    """Expand files, folders, globs, URLs and lists of them.

    Args:
        inputs: as given on the command line. A folder means every video below it, hidden ones left out; so
            does a folder on a store. ``@FILE`` is a list with one of these per line, empty lines and those
            that begin with # left out; ``-`` is such a list on stdin.

    Returns:
        (files, each once, in the order given, a folder's and a glob's sorted by name;
        (input, what is wrong with it) for each input that means no file).

    Raises:
        UsageError: on a list that can't be read, or a protocol whose package is missing.
    """
    unique: dict[Hashable, InputSource] = {}
    failed = []
    for given in inputs:
        names = _listed(given)
        if not names:
            failed.append((given, "the list names no input"))
        for name in names:
            files, complaint = _files(name)
            for file in files:  # two links to one file are two inputs
                unique.setdefault(_place(file), file)
            if not files:
                failed.append((name, complaint))
    return list(unique.values()), failed


def _listed(given: str) -> list[str]:
    """The lines of a list; what is no list stands for itself."""
    if given != "-" and not given.startswith("@"):
        return [given]
    try:
        if given != "-":
            data = Path(given[1:]).expanduser().read_bytes()
        elif hasattr(sys.stdin, "buffer"):
            data = sys.stdin.buffer.read()
        else:
            data = sys.stdin.read().encode()
        if b"\0" in data:  # a video, perhaps; names that are no UTF-8 have none
            data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{given} must be a text file with one input per line: {error}") from error
    text = os.fsdecode(data.removeprefix(codecs.BOM_UTF8))  # the system's own names, in whatever encoding
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _files(given: str) -> tuple[Sequence[InputSource], str]:
    """(what one input means, what to say if that is nothing)."""
    if is_url(given):
        return expand(given)
    if not given:
        return [], "an empty name is no file; for all videos of this folder give ."
    try:
        path = Path(given).expanduser()
        if path.is_dir():
            return _videos_below(path), f"the folder holds no video; looked for {', '.join(VIDEO_SUFFIXES)}"
        if path.exists():
            return [path], ""
        # Path.glob takes no absolute pattern.
        matches = map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207
        complaint = "no file matches" if glob.has_magic(given) else "there is no such file or folder"
        return [match for match in matches if match.is_file()], complaint
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, a zero byte, an unknown ~user
        return [], f"it can't be the name of a file ({getattr(error, 'strerror', None) or error})"


def plan(files: Sequence[InputSource], out: InputSource, name_by: str = "stem") -> list[JobSpec]:
    """Give each file its own folder below `out`, which may be a URL too.

    Its name is a function of the file's own absolute path (or URL) and of nothing else. Where a stem can't
    name a folder (``..`` of ``...mp4``) the file's whole name does, and what is longer than 200 bytes is cut
    and gets the path's digits, since files beside the folder are named after it.

    Args:
        files: inputs.
        out: folder or URL.
        name_by: "stem": ``clip`` for ``/data/a/clip.mp4``; "path": ``data/a/clip.mp4``; "hash":
            ``clip-3f7a0c21``, with the first 8 digits of the SHA-256 of the path.

    Raises:
        UsageError: where files would share a folder, or `name_by` is unknown.
    """
    if name_by not in NAMINGS:
        raise UsageError(f"name_by must be one of {', '.join(NAMINGS)}, found {name_by!r}")
    sources = [_place(file) for file in files]
    jobs: dict[PurePath, JobSpec] = {}
    clashes = []
    for file, place in zip(files, sources, strict=True):
        digits = hashlib.sha256(os.fsencode(place.as_posix())).hexdigest()[:8]
        name = place.name if name_by == "path" or place.stem in _TAKEN else place.stem
        if name_by == "hash" or len(os.fsencode(name)) > _LONGEST:
            name = f"{os.fsencode(name)[:_LONGEST].decode('utf-8', 'ignore')}-{digits}"
        folder = place.relative_to(place.anchor).with_name(name) if name_by == "path" else PurePath(name)
        job = _job(file, place, folder, out)
        first = jobs.setdefault(folder, job)
        if first is not job:
            clashes.append(f"{first.name} and {job.name} would both be written to {job.result}")
    if clashes:
        raise UsageError(f"{first_few(clashes)}; name them with --name-by path or hash")
    return list(jobs.values())


def _job(file: InputSource, place: PurePath, folder: PurePath, out: InputSource) -> JobSpec:
    source, url = (file, None) if isinstance(file, Path) else (Path(place.name), file)
    if isinstance(out, Path):
        return JobSpec(source, out / folder, url=url)
    return JobSpec(source, Path(folder), url=url, upload=f"{out.rstrip('/')}/{folder.as_posix()}")


def _place(file: InputSource) -> PurePath:
    """An absolute path that sorts and names a file; a URL's begins with its protocol."""
    if isinstance(file, Path):
        return file.parent.resolve() / file.name
    protocol, rest = file.split("://", 1)
    if protocol in ("http", "https"):
        rest = unquote(rest.split("?")[0].split("#")[0])
    return PurePosixPath(posixpath.normpath(f"/{protocol}/{rest}"))


def _videos_below(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if is_visible_video(path.relative_to(folder)) and path.is_file()
    )


NAMINGS = ("stem", "path", "hash")
INDEX = "index.jsonl"
"""Beside the result folders, a line per input; see `moca_avs.inference.index`."""
_TAKEN = ("", ".", "..", INDEX)  # stems that would lead elsewhere
_LONGEST = 200  # bytes of a folder's name
ENDING = b'"complete": true}'  # of a whole result.json
PREFIX = "moca-avs-fetched-"
WEB = "'moca-avs[web]'"
PROTOCOLS = ("file", "memory", "http", "https", "s3", "gs", "gcs", "az", "abfs")
"""Of URLs that are opened; fsspec knows more, some of which reach into archives, caches or other machines."""
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": WEB, "https": WEB, "az": "adlfs"}
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


def open_store(url: str) -> tuple[AbstractFileSystem, str]:
    """(file system, path on it) of a URL.

    Raises:
        UsageError: where the protocol is unknown or its package is missing.
    """
    from fsspec.core import url_to_fs

    protocol = url.split("://", 1)[0]
    if protocol not in PROTOCOLS or "::" in url.split("?", 1)[0]:
        raise UsageError(
            f"{url} can't be opened: Protocol not known or not allowed; give a path or one URL that begins "
            f"with {', '.join(f'{name}://' for name in PROTOCOLS)}"
        )
    try:
        return url_to_fs(url)
    except ImportError as error:
        package = PACKAGES.get(protocol)
        what = f"pip install {package}" if package else str(error)
        raise UsageError(f"{url}: {protocol}:// needs a package that is not installed: {what}") from error
    except ValueError as error:
        raise UsageError(f"{url} can't be opened: {error}; give s3://, gs://, https:// or a file") from error


@contextmanager
def store_errors(url: str, what: str) -> Iterator[None]:
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
    store, path = open_store(url)
    web = url.startswith(("http://", "https://"))
    try:
        with store_errors(url, "listed"):
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
    """Whether the job's folder holds a result that was written to its end, here or where it is uploaded to.

    Raises:
        OSError: where the store doesn't answer.
    """
    if job.upload is None:
        return is_complete(job.folder)
    store, path = open_store(job.upload)
    with store_errors(job.upload, "looked at"):
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
            room = stack.enter_context(temporary_folder(PREFIX, Path(tempfile.gettempdir()), YOUNG))
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
    store, path = open_store(url)
    with store_errors(url, "fetched"), store.open(path, "rb") as source, file.open("wb") as target:
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
    store, path = open_store(url)
    files = [file for file in folder.rglob("*") if file.is_file()]
    files.sort(key=lambda file: file.name == RESULT)
    with store_errors(url, "written"):
        if store.exists(f"{path}/{RESULT}"):  # an earlier result, which may have had more frames
            store.rm_file(f"{path}/{RESULT}")
            for part in IMAGES:
                if store.exists(f"{path}/{part}"):
                    store.rm(f"{path}/{part}", recursive=True)
        for file in files:
            target = f"{path}/{file.relative_to(folder).as_posix()}"
            store.makedirs(target.rpartition("/")[0], exist_ok=True)
            store.put_file(str(file), target)
