"""Run a download command and show how far it is by the size of what it has written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

POLL_SECONDS = 0.2


def run_watched(
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
    return sum(_file_size(Path(parent, name)) for parent, _, names in os.walk(folder) for name in names)


def _file_size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
