"""Debian packages fetched with ``apt-get download`` and unpacked into the cache, without installing.

Package lists, apt's caches and its configuration live in the cache too, so this works without root and
touches nothing else; apt itself checks signatures and hashes against the machine's own sources.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from moca_avs.errors import DataError
from moca_avs.hub.cache import cache_dir, download_dir, lock, run_with_progress

# `#clear` drops the machine's own hooks around an update (container images use them to empty
# /var/cache/apt): our update must not touch anything outside the cache.
CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
Dir::State::Lists "{root}/lists";
Dir::Cache "{root}/cache";
Dir::Cache::archives "{root}/cache/archives";
Dir::Log "{root}/log";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
"""


def available() -> bool:
    """Whether this machine has the two programs needed, ``apt-get`` and ``dpkg-deb``."""
    return shutil.which("apt-get") is not None and shutil.which("dpkg-deb") is not None


def unpacked(package: str) -> Path:
    """Root of a package's unpacked tree (its files lie under ``usr/``), fetched at first use.

    Raises:
        DataError: no apt-get on this machine, no network, or no such package in its sources.
    """
    return unpacked_all([package])[package]


def unpacked_all(packages: Iterable[str]) -> dict[str, Path]:
    """`unpacked` for several packages; the package lists are fetched once at most."""
    wanted = list(packages)
    with lock("debian"):
        for package in wanted:
            if _find(package) is None:
                _fetch(package)
    return {package: _require(package) for package in wanted}


def version(package: str) -> str:
    """Version of an unpacked package, as Debian writes it (``1:0.9.28-sdl2-1``)."""
    return _require(package).name.split("_", 1)[1].replace("%3a", ":")


def _root() -> Path:
    folder = cache_dir() / "debian"
    folder.mkdir(exist_ok=True)
    return folder


def _find(package: str) -> Path | None:
    """The unpacked tree in the cache, the newest if there are several, None if there is none."""
    trees = sorted(_root().glob(f"{package}_*"), key=lambda path: path.stat().st_mtime_ns)
    return trees[-1] if trees else None


def _require(package: str) -> Path:
    found = _find(package)
    if found is None:
        raise DataError(f"the Debian package {package} is not in {_root()}; call unpacked({package!r}) first")
    return found


def _fetch(package: str) -> None:
    """Download the package (or take the one put there by hand) and unpack it in one step."""
    with tempfile.TemporaryDirectory(prefix="deb-", dir=cache_dir()) as temporary:
        by_hand = sorted(download_dir().glob(f"{package}_*.deb"))
        archive = by_hand[-1] if by_hand else _download(package, Path(temporary))
        tree = Path(temporary) / "tree"
        _unpack(archive, tree)
        found = subprocess.run(
            ["dpkg-deb", "--field", str(archive), "Version"], capture_output=True, text=True, check=True
        ).stdout.strip()
        os.utime(tree)  # dpkg-deb gives the root its build date; `_find` wants ours
        tree.replace(_root() / f"{package}_{found.replace(':', '%3a')}")


def _unpack(archive: Path, tree: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        raise DataError(f"unpacking {archive.name} needs dpkg-deb; install dpkg, or use Debian or Ubuntu")
    done = _run(["dpkg-deb", "--extract", str(archive), str(tree)])
    if done.returncode:
        raise DataError(f"{archive} could not be unpacked: {done.stderr.strip()}; delete it and run again")


def _download(package: str, folder: Path) -> Path:
    if not available():
        raise DataError(
            f"the Debian package {package} is needed, and this machine has no apt-get: use Debian or Ubuntu "
            f"(a container will do), or put {package}_*.deb into {download_dir()}"
        )
    listed = any((_root() / "lists").glob("*Packages*"))
    text = ""
    for update in (False, True) if listed else (True,):  # lists grow stale: a failure asks for new ones
        if update:
            text = _update()
        plan = _plan(package)
        if plan is None:
            continue
        work = folder / f"work-{update}"
        work.mkdir()
        status, text = run_with_progress([*_apt(), "download", package], package, plan[1], work)
        found = sorted(work.glob("*.deb"))
        if status == 0 and found:
            return found[0]
    raise DataError(_failure(package, text))


def _plan(package: str) -> tuple[str, int] | None:
    """(file name, bytes) of what apt would download; None if its lists don't know the package."""
    done = _run([*_apt(), "download", "--print-uris", package])
    for line in done.stdout.splitlines():
        parts = shlex.split(line)
        if len(parts) >= 3 and parts[1].endswith(".deb"):
            return parts[1], int(parts[2])
    return None


def _update() -> str:
    print("fetching package lists", file=sys.stderr, flush=True)
    done = _run([*_apt(), "update"])
    return done.stdout + done.stderr


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _apt() -> list[str]:
    """apt-get with its lists, caches and configuration inside our cache."""
    root = _root()
    for folder in ("lists/partial", "cache/archives/partial", "log"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    text = CONFIGURATION.format(root=root)
    if os.geteuid() == 0:
        # As root, apt drops to the user `_apt`, who may not write to the cache.
        text += 'APT::Sandbox::User "root";\n'
    configuration = root / "apt.conf"
    if not configuration.exists() or configuration.read_text() != text:
        configuration.write_text(text)
    return ["apt-get", f"--config-file={configuration}", "--quiet"]


def _failure(package: str, text: str) -> str:
    errors = [line.strip() for line in text.splitlines() if line.startswith(("E:", "W: Failed"))]
    return (
        f"the Debian package {package} could not be fetched (no network, or not in this machine's sources): "
        f"apt-get said {errors[-1] if errors else 'that it knows no such package'!r}; on a machine that has "
        f"a network run `apt-get download {package}` and put the .deb into {download_dir()}"
    )
