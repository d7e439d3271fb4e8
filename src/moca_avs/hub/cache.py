"""The cache folder, its locks, hashes of files, and downloads with a progress bar."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

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
    with FileLock(folder / f"{name}.lock"):
        yield


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


POLL_SECONDS = 0.2


def run_with_progress(
    command: Sequence[str],
    label: str,
    total: int,
    folder: Path,
    env: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run `command` inside `folder`, with a progress bar on stderr.

    Args:
        command: program and arguments.
        label: what is fetched, for the bar.
        total: bytes expected to appear in `folder`.
        folder: working directory; its size is the progress.
        env: the command's environment; None means ours.

    Returns:
        (exit status, everything it wrote).
    """
    terminal = sys.stderr.isatty()
    if not terminal:
        print(f"fetching {label} ({total / 1e6:.0f} MB)", file=sys.stderr, flush=True)
    log = folder.parent / f"{folder.name}.log"
    with (
        log.open("wb") as output,
        tqdm(total=total, desc=f"fetching {label}", unit="B", unit_scale=True, disable=not terminal) as bar,
        subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            while process.poll() is None:
                bar.update(min(_size(folder), total) - bar.n)
                try:
                    process.wait(POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        except KeyboardInterrupt:
            process.terminate()
            raise
    text = log.read_text(errors="replace")
    log.unlink()
    return process.returncode, text


def _size(folder: Path) -> int:
    """Bytes of all files below; files that vanish while we look count as nothing."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size += Path(parent, name).lstat().st_size
    return size
