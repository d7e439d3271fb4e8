"""`moca models`: which weights there are, where, with which hash and licence."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg, subcommand

from moca_avs.errors import UsageError

if TYPE_CHECKING:
    from moca_avs.fetch.registry import Asset, ShippedFile

Json = Annotated[bool, arg(help="Print JSON instead of a table.")]


@dataclass(frozen=True)
class List:
    """Every weight and film moca-avs knows, and whether it is here.

    Example: moca models list
    """

    json: Json = False

    def run(self) -> int:
        """Print the table."""
        from moca_avs.cli.tables import columns

        found = [_describe(item) for item in _everything().values()]
        if self.json:
            print(json.dumps(found, indent=2))
            return 0
        rows = [("name", "state", "MB", "licence", "what for")]
        rows += [(i["name"], i["state"], f"{i['bytes'] / 1e6:.1f}", i["licence"], i["role"]) for i in found]
        print(columns(rows))
        return 0


@dataclass(frozen=True)
class Show:
    """All that is known of one of them: source, path, hash, licence.

    Example: moca models show soundnet8
    """

    name: Annotated[Positional[str], arg(metavar="NAME", help="A name of `moca models list`.")]
    json: Json = False

    def run(self) -> int:
        """Print its fields."""
        from moca_avs.cli.tables import columns

        (item,) = _named(self.name, presets=False)
        described = _describe(item)
        if self.json:
            print(json.dumps(described, indent=2))
        else:
            print(columns([(key, str(value)) for key, value in described.items()]))
        return 0


@dataclass(frozen=True)
class Fetch:
    """Get weights into the cache now instead of at first use.

    Example: moca models fetch lite
    """

    name: Annotated[
        Positional[str], arg(metavar="NAME", help="A preset (lite) or a name of `moca models list`.")
    ]
    json: Json = False

    def run(self) -> int:
        """Fetch, check and print the paths."""
        from moca_avs.fetch.pypi import package_file
        from moca_avs.fetch.registry import Asset

        items = _named(self.name)
        paths = {i.name: str(package_file(i) if isinstance(i, Asset) else i.path) for i in items}
        print(json.dumps(paths, indent=2) if self.json else "\n".join(f"{n}: {p}" for n, p in paths.items()))
        return 0


@dataclass(frozen=True)
class Check:
    """Compare what lies in the cache with the pinned hashes. Exit code 1 where one differs.

    Example: moca models check
    """

    name: Annotated[
        Positional[str],
        arg(metavar="NAME", help="A preset or a name of `moca models list`; all if left out."),
    ] = "all"
    json: Json = False

    def run(self) -> int:
        """Print a verdict per file."""
        items = list(_everything().values()) if self.name == "all" else _named(self.name)
        verdicts = {item.name: _verdict(item) for item in items}
        if self.json:
            print(json.dumps(verdicts, indent=2))
        else:
            print("\n".join(f"{name}: {verdict}" for name, verdict in verdicts.items()))
        bad = [name for name, verdict in verdicts.items() if verdict.startswith("wrong")]
        if bad:
            print(f"moca: {len(bad)} of {len(verdicts)} are wrong: {', '.join(bad)}", file=sys.stderr)
        return 1 if bad else 0


@dataclass(frozen=True)
class Models:
    """Which weights there are, where, with which hash and licence.

    Example: moca models list
    """

    action: (
        Annotated[List, subcommand("list")]
        | Annotated[Show, subcommand("show")]
        | Annotated[Fetch, subcommand("fetch")]
        | Annotated[Check, subcommand("check")]
    )

    def run(self) -> int:
        """Run the chosen action."""
        return self.action.run()


def _everything() -> dict[str, Asset | ShippedFile]:
    from moca_avs.fetch.registry import ASSETS, SHIPPED

    return {**ASSETS, **SHIPPED}


def _named(name: str, presets: bool = True) -> list[Asset | ShippedFile]:
    from moca_avs.fetch.registry import PRESETS

    everything = _everything()
    if name in everything:
        return [everything[name]]
    if presets and name in PRESETS:
        return [everything[part] for part in PRESETS[name]]
    known = [*(PRESETS if presets else ()), *everything]
    raise UsageError(f"there is no model {name!r}; choose one of {', '.join(known)}")


def _describe(item: Asset | ShippedFile) -> dict[str, Any]:
    from moca_avs.fetch.pypi import cached_path
    from moca_avs.fetch.registry import Asset

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
    return common | {
        "source": item.source,
        "state": "ships" if item.path.exists() else "missing",
        "path": str(item.path),
        "bytes": item.path.stat().st_size if item.path.exists() else 0,
        "sha256": _sha256(item),
        "package": "moca-avs itself",
    }


def _sha256(item: ShippedFile) -> str:
    from moca_avs.fetch.cache import file_sha256

    return file_sha256(item.path) if item.path.exists() else ""


def _verdict(item: Asset | ShippedFile) -> str:
    from moca_avs.errors import WeightsError
    from moca_avs.fetch.pypi import cached_path, check_hash
    from moca_avs.fetch.registry import Asset

    if not isinstance(item, Asset):
        return (
            f"ships, SHA-256 {_sha256(item)}"
            if item.path.exists()
            else "wrong: missing, install moca-avs again"
        )
    path = cached_path(item)
    if not path.exists():
        return "not fetched"
    try:
        check_hash(path, item.member_sha256, item.title)
    except WeightsError as error:
        return f"wrong: {error}"
    return f"good, {path}"
