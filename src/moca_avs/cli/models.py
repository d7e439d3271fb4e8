"""Plain text tables.

Every weight and video moca-avs uses, as data: what it is, where it lies, whether its hash is right.

`moca models`: which weights there are, where, with which hash and license.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from zipfile import is_zipfile

from tyro.conf import Positional, arg, subcommand

from moca_avs.cli.args import (
    ConfigName,
    MethodName,
    Model,
    Settings,
    Weights,
    choose,
    parse_settings,
    parse_sources,
)
from moca_avs.errors import UsageError, WeightsError, did_you_mean
from moca_avs.hub.available import require_weights
from moca_avs.hub.cache import file_sha256
from moca_avs.hub.catalog import (
    ASSETS,
    PRESETS,
    PRETRAINED_MODELS,
    SHIPPED,
    Asset,
    PretrainedModel,
    ShippedFile,
)
from moca_avs.hub.huggingface import (
    ModelSources,
    lacking,
    local_folder,
    model_folder,
    next_step,
    weight_files,
)
from moca_avs.hub.pins import weight_sha256
from moca_avs.hub.pypi import cached_path, check_hash, package_file


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells -> lines whose columns align; the first row is the heading, the last column runs free."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*padded, row[-1]]).rstrip())
    return "\n".join(lines)


ModelEntry = Asset | ShippedFile | PretrainedModel


def all_models() -> dict[str, ModelEntry]:
    """Name -> entry: what `lite` fetches, what ships, then the foundation models."""
    return {**ASSETS, **SHIPPED, **PRETRAINED_MODELS}


def find_model(name: str, presets: bool = True) -> list[ModelEntry]:
    """The entry of that name, or all entries of a preset.

    Raises:
        UsageError: if there is none; the message lists what there is.
    """
    items = all_models()
    if name in items:
        return [items[name]]
    if presets and name in PRESETS:
        return [items[part] for part in PRESETS[name]]
    known = [*(PRESETS if presets else ()), *items]
    raise UsageError(
        f"there is no model {name!r}; choose one of {', '.join(known)}{did_you_mean(name, known)}"
    )


def describe(item: ModelEntry, sources: ModelSources | None = None, details: bool = True) -> dict[str, Any]:
    """What is known of an entry, JSON-serializable; fetches nothing.

    Args:
        item: the entry.
        sources: where foundation models come from.
        details: for foundation models, also what takes a moment: hashes of the files that are here, and the
            sizes of ImageBind's trunks and adapters (they need no weights).

    Returns:
        name, title, role, license, source, state ("here", "incomplete", "not fetched", "ships", "missing"),
        path, bytes, sha256, package; for foundation models also files, note, and their details.
    """
    if isinstance(item, PretrainedModel):
        return _describe_pretrained(item, sources or ModelSources(), details)
    common = {"name": item.name, "title": item.title, "role": item.role, "licence": item.license}
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


def _describe_pretrained(item: PretrainedModel, sources: ModelSources, details: bool) -> dict[str, Any]:
    folder = local_folder(item.name, sources)
    missing = list(item.files) if folder is None else lacking(item.name, folder)
    weights = [] if folder is None else weight_files(folder)
    described: dict[str, Any] = {
        "name": item.name,
        "title": item.title,
        "role": item.role,
        "licence": item.license,
        "source": sources.source(item.name),
        "state": "not fetched" if folder is None else "incomplete" if missing else "here",
        "path": "" if folder is None else str(folder),
        "bytes": sum(file.stat().st_size for file in weights) or item.megabytes * 10**6,
        "sha256": {file.name: weight_sha256(file) for file in weights} if details else {},
        "package": f"the Hub, {item.hub}",
        "files": list(item.files),
        "note": item.note,
    }
    if missing:
        described["next_step"] = next_step(item.name)
    if details and item.name == "imagebind":
        from moca_avs.encoders.imagebind import facts

        described |= facts()
    return described


def fetch(item: ModelEntry, sources: ModelSources | None = None) -> Path:
    """Get an entry into the cache, ready for use (tensors converted and checked), and return its path.

    PretrainedModel models go to the Hub's cache, unless they lie in a folder already.

    Raises:
        WeightsError: no network, no permission, a wrong hash, a folder that lacks files, or a shipped file
            that is gone.
    """
    if isinstance(item, PretrainedModel):
        folder = model_folder(item.name, sources or ModelSources())
        if missing := lacking(item.name, folder):
            raise WeightsError(f"{folder} lacks {', '.join(missing)}; {next_step(item.name)}")
        return folder
    if isinstance(item, ShippedFile):
        if not item.path.exists():
            raise WeightsError(f"{item.title} ({item.path}) is missing; install moca-avs again")
        return item.path
    if item.tensors_sha256:
        from moca_avs.hub.weight_files import load_asset

        load_asset(item.name)
    return package_file(item)


def check_model(item: ModelEntry, sources: ModelSources | None = None) -> tuple[bool, str]:
    """(False where something that is here is wrong, what was found); fetches nothing."""
    if isinstance(item, PretrainedModel):
        return _check_pretrained(item, sources or ModelSources())
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
            from moca_avs.hub.weight_files import check_converted

            check_converted(item.name)
    except WeightsError as error:
        return False, str(error)
    return True, f"good, {path}"


def _check_pretrained(item: PretrainedModel, sources: ModelSources) -> tuple[bool, str]:
    """Whether the files are all there, whole, and, in the Hub's cache, what they were when published."""
    folder = local_folder(item.name, sources)
    if folder is None:
        return True, "not fetched"
    if missing := lacking(item.name, folder):
        return False, f"{folder} lacks {', '.join(missing)}; {next_step(item.name)}"
    for file in weight_files(folder):
        published, found = weight_sha256(file), file_sha256(file)
        if published != found:
            return False, f"{file} was published with SHA-256 {published}, found {found}; delete it"
        if not _whole(file):
            return False, f"{file} is cut short or no weight file; delete it: {next_step(item.name)}"
    hashes = ", ".join(f"{file.name} SHA-256 {weight_sha256(file)}" for file in weight_files(folder))
    return True, f"good, {folder}, {hashes}"


def _whole(file: Path) -> bool:
    """Whether a weight file ends where it says it does; reads its directory, not its tensors."""
    from safetensors import SafetensorError, safe_open

    if file.suffix != ".safetensors":
        return is_zipfile(file)
    try:
        with safe_open(str(file), framework="numpy"):
            return True
    except (SafetensorError, OSError):
        return False


Json = Annotated[bool, arg(help="Print JSON instead of a table.")]


@dataclass(frozen=True)
class List:
    """Every weight and video moca-avs knows, and whether it is here.

    Example: moca models list
    """

    weights: Weights = None
    model: Model = ()
    json: Json = False

    def run(self) -> int:
        """Print the table."""
        sources = parse_sources(self.weights, self.model)
        found = [describe(item, sources, details=False) for item in all_models().values()]
        if self.json:
            print(json.dumps(found, indent=2))
            return 0
        rows = [("name", "state", "MB", "licence", "what for")]
        rows += [(i["name"], i["state"], f"{i['bytes'] / 1e6:.1f}", i["licence"], i["role"]) for i in found]
        print(columns(rows))
        return 0


@dataclass(frozen=True)
class Show:
    """All that is known of one of them: source, path, hash, license.

    Example: moca models show soundnet8
    """

    name: Annotated[Positional[str], arg(metavar="NAME", help="A name of `moca models list`.")]
    weights: Weights = None
    model: Model = ()
    json: Json = False

    def run(self) -> int:
        """Print its fields."""
        (item,) = find_model(self.name, presets=False)
        described = describe(item, parse_sources(self.weights, self.model))
        if self.json:
            print(json.dumps(described, indent=2))
        else:
            print(columns([(key, str(value)) for key, value in described.items()]))
        return 0


@dataclass(frozen=True)
class Fetch:
    """Get weights now instead of at first use: into our cache, foundation models into the Hub's.

    Example: moca models fetch --for imagebind --method at-gdino-sam
    """

    name: Annotated[
        Positional[str | None],
        arg(metavar="[NAME]", help="A preset (lite) or a name of `moca models list`; or give --for."),
    ] = None
    preset: Annotated[
        str | None,
        arg(name="for", metavar="PRESET", help="All that a preset, or a run folder, needs with a method."),
    ] = None
    method: MethodName = None
    config: ConfigName = None
    settings: Settings = ()
    weights: Weights = None
    model: Model = ()
    json: Json = False

    def run(self) -> int:
        """Fetch, check and print the paths."""
        if (self.name is None) == (self.preset is None):
            raise UsageError("give the NAME of one model, or --for PRESET: moca models fetch --for lite")
        sources = parse_sources(self.weights, self.model)
        items = self._needed(self.preset) if self.preset is not None else find_model(str(self.name))
        if len(items) > 1:  # what can't be had is told of all at once
            require_weights([item.name for item in items if not isinstance(item, ShippedFile)], sources)
        paths = {item.name: str(fetch(item, sources)) for item in items}
        print(json.dumps(paths, indent=2) if self.json else "\n".join(f"{n}: {p}" for n, p in paths.items()))
        return 0

    def _needed(self, preset: str) -> list[ModelEntry]:
        from moca_avs.methods.needs import needed_weights

        settings = parse_settings(self.settings)
        chosen = choose(preset, self.method, "auto", self.weights, self.model, self.config, settings)
        return [all_models()[name] for name in needed_weights(chosen)]


@dataclass(frozen=True)
class Check:
    """Compare what lies here with the published hashes. Exit code 1 where one differs or files are missing.

    Example: moca models check
    """

    name: Annotated[
        Positional[str],
        arg(metavar="NAME", help="A preset or a name of `moca models list`; all if left out."),
    ] = "all"
    weights: Weights = None
    model: Model = ()
    json: Json = False

    def run(self) -> int:
        """Print a verdict per file."""
        items = list(all_models().values()) if self.name == "all" else find_model(self.name)
        sources = parse_sources(self.weights, self.model)
        verdicts = {item.name: check_model(item, sources) for item in items}
        texts = {name: found if good else f"wrong: {found}" for name, (good, found) in verdicts.items()}
        if self.json:
            print(json.dumps(texts, indent=2))
        else:
            print("\n".join(f"{name}: {text}" for name, text in texts.items()))
        bad = [name for name, (good, _) in verdicts.items() if not good]
        if bad:
            print(f"moca: {len(bad)} of {len(verdicts)} are wrong: {', '.join(bad)}", file=sys.stderr)
        return 1 if bad else 0


@dataclass(frozen=True)
class Models:
    """Which weights there are, where, with which hash and license.

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
