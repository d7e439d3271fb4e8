"""Which files a command line means, and which folder each one's result gets."""

from __future__ import annotations

import glob
import os
import posixpath
import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import unquote

from moca_avs.errors import UsageError
from moca_avs.io.open import VIDEO_SUFFIXES, is_visible_video

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
        url: where the source is fetched from, see `moca_avs.inference.remote.fetched`.
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
            for file in files:
                unique.setdefault(file.resolve() if isinstance(file, Path) else file, file)
            if not files:
                failed.append((name, complaint))
    return list(unique.values()), failed


def _listed(given: str) -> list[str]:
    """The lines of a list; what is no list stands for itself."""
    if given != "-" and not given.startswith("@"):
        return [given]
    try:
        text = sys.stdin.read() if given == "-" else Path(given[1:]).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{given} must be a text file with one input per line: {error}") from error
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _files(given: str) -> tuple[Sequence[InputSource], str]:
    """(what one input means, what to say if that is nothing)."""
    if is_url(given):
        from moca_avs.inference.remote import expand

        return expand(given)
    path = Path(given).expanduser()
    if path.is_dir():
        return _videos_below(path), f"the folder holds no video; looked for {', '.join(VIDEO_SUFFIXES)}"
    if path.exists():
        return [path], ""
    # Path.glob takes no absolute pattern.
    matches = map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207
    complaint = "no file matches" if glob.has_magic(given) else "there is no such file or folder"
    return [match for match in matches if match.is_file()], complaint


def plan(files: Sequence[InputSource], out: InputSource) -> list[JobSpec]:
    """Give each file its own folder below `out`, which may be a URL too.

    A file's folder is called by its stem. Files with equal stems keep their path below their common folder;
    where even that is equal (``a.mp4`` beside ``a.mov``) they keep their suffix too.

    Raises:
        UsageError: where two files would share a folder all the same.
    """
    sources = [_place(file) for file in files]
    folders = [PurePath(place.stem) for place in sources]
    for group in _sharing(folders):
        root = os.path.commonpath([sources[index].parent for index in group])
        for index in group:
            folders[index] = sources[index].relative_to(root).with_suffix("")
    for group in _sharing(folders):
        for index in group:
            folders[index] = folders[index].with_name(sources[index].name)
    for first, second, *_ in _sharing(folders):
        shared = _job(files[first], sources[first], folders[first], out).result
        raise UsageError(
            f"{files[first]} and {files[second]} would both be written to {shared}; do them one by one"
        )
    return [_job(*each, out) for each in zip(files, sources, folders, strict=True)]


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


def _sharing(folders: Sequence[PurePath]) -> list[list[int]]:
    """Groups of two or more indices with one folder."""
    groups: dict[PurePath, list[int]] = {}
    for index, folder in enumerate(folders):
        groups.setdefault(folder, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _videos_below(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if is_visible_video(path.relative_to(folder)) and path.is_file()
    )
