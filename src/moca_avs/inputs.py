"""Which files a command line means, and which folder each one's result gets."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from moca_avs.errors import UsageError

VIDEO_SUFFIXES = (
    *(".3g2", ".3gp", ".asf", ".avi", ".f4v", ".flv", ".gif", ".m1v", ".m2ts", ".m4v", ".mkv", ".mov"),
    *(".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".rm", ".swf", ".ts", ".vob", ".webm", ".wmv"),
)
"""What counts as a video inside a folder. A file named outright is tried whatever it is called."""


@dataclass(frozen=True)
class Job:
    """One input and the folder its result gets.

    Attributes:
        source: the video, or the picture of a picture + sound pair.
        folder: where its result goes.
        sound: a sound file to use instead of the source's own track.
        still: the source is a picture, shown for as long as its sound lasts.
    """

    source: Path
    folder: Path
    sound: Path | None = None
    still: bool = False


def find_inputs(inputs: Sequence[str]) -> tuple[list[Path], list[tuple[str, str]]]:
    """Expand files, folders and globs.

    Args:
        inputs: as given on the command line. A folder means every video below it, hidden ones left out.

    Returns:
        (files, each once, in the order given, a folder's and a glob's sorted by name;
        (input, what is wrong with it) for each input that means no file).
    """
    found: dict[Path, None] = {}
    failed = []
    for given in inputs:
        path = Path(given).expanduser()
        if path.is_dir():
            files = _videos_below(path)
            complaint = f"the folder holds no video; looked for {', '.join(VIDEO_SUFFIXES)}"
        elif path.exists():
            files, complaint = [path], ""
        else:
            # Path.glob takes no absolute pattern.
            matches = map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207
            files = [match for match in matches if match.is_file()]
            complaint = "no file matches" if glob.has_magic(given) else "there is no such file or folder"
        found.update(dict.fromkeys(files))
        if not files:
            failed.append((given, complaint))
    unique: dict[Path, Path] = {}
    for path in found:
        unique.setdefault(path.resolve(), path)
    return list(unique.values()), failed


def plan(files: Sequence[Path], out: Path) -> list[Job]:
    """Give each file its own folder below `out`.

    A file's folder is called by its stem. Files with equal stems keep their path below their common folder;
    where even that is equal (``a.mp4`` beside ``a.mov``) they keep their suffix too.

    Raises:
        UsageError: where two files would share a folder all the same.
    """
    jobs = [Job(path, out / path.stem) for path in files]
    for group in _sharing(jobs):
        root = os.path.commonpath([job.source.parent.resolve() for job in group])
        for job in group:
            inner = (job.source.parent.resolve() / job.source.name).relative_to(root)
            jobs[jobs.index(job)] = replace(job, folder=out / inner.with_suffix(""))
    for group in _sharing(jobs):
        for job in group:
            jobs[jobs.index(job)] = replace(job, folder=job.folder.with_name(job.source.name))
    for first, second, *_ in _sharing(jobs):
        raise UsageError(
            f"{first.source} and {second.source} would both be written to {first.folder}; do them one by one"
        )
    return jobs


def _sharing(jobs: Sequence[Job]) -> list[list[Job]]:
    """Groups of two or more jobs with one folder."""
    groups: dict[Path, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.folder, []).append(job)
    return [group for group in groups.values() if len(group) > 1]


def _videos_below(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in VIDEO_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
