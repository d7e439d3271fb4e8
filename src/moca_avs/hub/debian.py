"""Debian packages fetched with ``apt-get download`` and unpacked into the cache, without installing.

Package lists, apt's caches and its configuration live in the cache too, so this works without root and
touches nothing else; apt itself checks signatures and hashes against the machine's own sources.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

from moca_avs.errors import DataError
from moca_avs.hub.cache import cache_dir, download_dir, lock, run_with_progress
from moca_avs.utils.files import atomic_write, temporary_folder

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


PACKAGE_BYTES = 1 << 33
"""Of one unpacked package, at most: what is larger is damaged, or made to fill the disk."""


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
    trees: dict[str, Path] = {}
    with lock("debian"):
        for package in packages:
            trees[package] = _find(package) or _fetch(package)
    return trees


def version(package: str) -> str:
    """Version of an unpacked package, as Debian writes it (``1:0.9.28-sdl2-1``).

    Raises:
        DataError: if it was not unpacked yet.
    """
    found = _find(package)
    if found is None:
        raise DataError(f"the Debian package {package} is not in {_root()}; call unpacked({package!r}) first")
    return found.name.split("_", 1)[1].replace("%3a", ":")


def _root() -> Path:
    folder = cache_dir() / "debian"
    folder.mkdir(exist_ok=True)
    return folder


def _find(package: str) -> Path | None:
    """The unpacked tree in the cache, the newest if there are several, None if there is none."""
    trees = sorted(_root().glob(f"{package}_*"), key=lambda path: path.stat().st_mtime_ns)
    return trees[-1] if trees else None


def _fetch(package: str) -> Path:
    """Download the package (or take the one put there by hand) and unpack it in one step."""
    with temporary_folder("deb-", cache_dir()) as temporary:
        by_hand = sorted(download_dir().glob(f"{package}_*.deb"))
        archive = by_hand[-1] if by_hand else _download(package, temporary)
        found = _dpkg_deb("--field", archive, "Version").replace(":", "%3a")
        target = _root() / f"{package}_{found}"
        with atomic_write(target, folder=True) as tree:
            _extract(archive, tree)
            os.utime(tree)  # the root got its build date; `_find` wants ours
        return target


def _dpkg_deb(action: str, archive: Path, argument: str) -> str:
    if shutil.which("dpkg-deb") is None:
        raise DataError(f"unpacking {archive.name} needs dpkg-deb; install dpkg, or use Debian or Ubuntu")
    done = _run(["dpkg-deb", action, str(archive), argument])
    if done.returncode:
        raise DataError(f"{archive} could not be unpacked: {done.stderr.strip()}; delete it and run again")
    return done.stdout.strip()


def _extract(archive: Path, tree: Path) -> None:
    """Unpack; links that lead out of `tree` are left out, paths that do are refused."""
    size, command = 0, ["dpkg-deb", "--fsys-tarfile", str(archive)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as unpacking:
        assert unpacking.stdout is not None
        try:
            with tarfile.open(fileobj=unpacking.stdout, mode="r|") as tar:
                for member in tar:
                    size += member.size
                    if size > PACKAGE_BYTES:
                        raise ValueError(f"it would take more than {PACKAGE_BYTES >> 30} GiB")
                    with contextlib.suppress(tarfile.AbsoluteLinkError, tarfile.LinkOutsideDestinationError):
                        tar.extract(member, tree, filter="data")
            while unpacking.stdout.read(1 << 20):  # what is behind the end, so that its exit code counts
                pass
            if unpacking.wait():
                raise ValueError(f"dpkg-deb ended with {unpacking.returncode}")
        except (OSError, EOFError, ValueError, tarfile.TarError) as error:
            unpacking.kill()
            raise DataError(f"{archive} could not be unpacked: {error}; delete it and run again") from error


def _download(package: str, folder: Path) -> Path:
    if not available():
        raise DataError(
            f"the Debian package {package} is needed, and this machine has no apt-get: use Debian or Ubuntu "
            f"(a container will do), or put {package}_*.deb into {download_dir()}"
        )
    apt = _apt()
    listed = any((_root() / "lists").glob("*Packages*"))
    text = ""
    for update in (False, True) if listed else (True,):  # lists grow stale: a failure asks for new ones
        if update:
            print("fetching package lists", file=sys.stderr, flush=True)
            done = _run([*apt, "update"])
            text = done.stdout + done.stderr
        plan = _run([*apt, "download", "--print-uris", package]).stdout  # a line: address, name, bytes, hash
        parts = [shlex.split(line) for line in plan.splitlines()]
        sizes = [int(words[2]) for words in parts if len(words) >= 3 and words[1].endswith(".deb")]
        if not sizes:  # the lists don't know the package
            continue
        work = folder / f"work-{update}"
        work.mkdir()
        status, text = run_with_progress([*apt, "download", package], package, sizes[0], work)
        found = sorted(work.glob("*.deb"))
        if status == 0 and found:
            return found[0]
    errors = [line.strip() for line in text.splitlines() if line.startswith(("E:", "W: Failed"))]
    raise DataError(
        f"the Debian package {package} could not be fetched (no network, or not in this machine's sources): "
        f"apt-get said {errors[-1] if errors else 'that it knows no such package'!r}; on a machine that has "
        f"a network run `apt-get download {package}` and put the .deb into {download_dir()}"
    )


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


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
