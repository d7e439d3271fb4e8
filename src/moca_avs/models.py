"""Every weight and film moca-avs uses, as data: what it is, where it lies, whether its hash is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moca_avs.errors import UsageError, WeightsError
from moca_avs.fetch.cache import file_sha256
from moca_avs.fetch.pypi import cached_path, check_hash, package_file
from moca_avs.fetch.registry import ASSETS, PRESETS, SHIPPED, Asset, ShippedFile

Item = Asset | ShippedFile


def everything() -> dict[str, Item]:
    """Name -> registry entry: first what is fetched, then what ships."""
    return {**ASSETS, **SHIPPED}


def named(name: str, presets: bool = True) -> list[Item]:
    """The entry of that name, or all entries of a preset.

    Raises:
        UsageError: if there is none; the message lists what there is.
    """
    items = everything()
    if name in items:
        return [items[name]]
    if presets and name in PRESETS:
        return [items[part] for part in PRESETS[name]]
    known = [*(PRESETS if presets else ()), *items]
    raise UsageError(f"there is no model {name!r}; choose one of {', '.join(known)}")


def describe(item: Item) -> dict[str, Any]:
    """What is known of an entry, JSON-serialisable; fetches nothing.

    Returns:
        name, title, role, licence, source, state ("here", "not fetched", "ships", "missing"), path, bytes,
        sha256, package.
    """
    common = {"name": item.name, "title": item.title, "role": item.role, "licence": item.licence}
    if isinstance(item, Asset):
        path = cached_path(item)
        return common | {
            "source": item.source,
            "state": "here" if path.exists() else "not fetched",
            "path": str(path),
            "bytes": item.member_bytes,
            "sha256": item.member_sha256,
            "package": f"{item.package} {item.version} (PyPI), {item.archive}, {item.member}",
        }
    here = item.path.exists()
    return common | {
        "source": item.source,
        "state": "ships" if here else "missing",
        "path": str(item.path),
        "bytes": item.path.stat().st_size if here else 0,
        "sha256": file_sha256(item.path) if here else "",
        "package": "moca-avs itself",
    }


def fetch(item: Item) -> Path:
    """Get an entry into the cache, ready for use (tensors converted and checked), and return its path.

    Raises:
        WeightsError: no network, a wrong hash, or a shipped file that is gone.
    """
    if isinstance(item, ShippedFile):
        if not item.path.exists():
            raise WeightsError(f"{item.title} ({item.path}) is missing; install moca-avs again")
        return item.path
    if item.tensors_sha256:
        from moca_avs.fetch.weights import load_asset

        load_asset(item.name)
    return package_file(item)


def verdict(item: Item) -> tuple[bool, str]:
    """(False where something that is here is wrong, what was found); fetches nothing."""
    if isinstance(item, ShippedFile):
        if not item.path.exists():
            return False, f"missing ({item.path}); install moca-avs again"
        return True, f"ships, SHA-256 {file_sha256(item.path)}"
    path = cached_path(item)
    if not path.exists():
        return True, "not fetched"
    try:
        check_hash(path, item.member_sha256, item.title)
        if item.tensors_sha256:
            from moca_avs.fetch.weights import check_converted

            check_converted(item.name)
    except WeightsError as error:
        return False, str(error)
    return True, f"good, {path}"
