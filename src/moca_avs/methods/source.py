"""From a name to what it stands for: presets, run folders and Hub ids, and the settings that go with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moca_avs.encoders import ENCODERS, PRESET_CONFIGS
from moca_avs.errors import UsageError, WeightsError, did_you_mean
from moca_avs.methods.config import (
    CONFIG_PARTS,
    ENCODER_OPTIONS,
    PAPER,
    BaselineConfig,
    MethodConfig,
    MocaConfig,
    check_parts,
)
from moca_avs.model.adapter_file import ADAPTERS, read_adapter_config
from moca_avs.utils.files import parse_json

if TYPE_CHECKING:
    from moca_avs.hub.huggingface import ModelSources
    from moca_avs.methods import MethodEntry

CONFIG = "config.json"
_SHIPPED = Path(__file__).resolve().parent.parent / "weights"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class MethodSource:
    """What a name stands for.

    Attributes:
        encoder: its name.
        adapters: the file; None where there are none.
        configs: contents of config.json files, the weaker first.
        default_method: the best one measured: nothing trained in a preset, a run's own adapters.
    """

    encoder: str
    adapters: Path | None
    configs: tuple[dict[str, Any], ...]
    default_method: str = "moca"


@dataclass(frozen=True)
class MethodChoice:
    """A method with everything that decides it, checked; nothing of it is built or fetched.

    Attributes:
        name: of the method.
        entry: what is registered under it.
        encoder: a key of `moca_avs.encoders.ENCODERS`.
        options: the encoder's own.
        adapters: file of trained adapters; None where it has none.
        config: the method's settings.
        sources: where foundation models come from.
    """

    name: str
    entry: MethodEntry
    encoder: str
    options: Mapping[str, Any]
    adapters: Path | None
    config: MethodConfig
    sources: ModelSources


def find_source(name: str) -> MethodSource:
    """What is meant by a preset, a folder or a Hub id.

    Raises:
        UsageError: if it is none of them.
        WeightsError: if a folder holds no adapters, or the Hub can't be reached.
    """
    if not isinstance(name, str | Path):
        raise UsageError(f"a preset, folder or Hub id is given by its name, found {name!r}")
    name = str(name)
    if name in ENCODERS:
        adapters = _SHIPPED / name / ADAPTERS
        return MethodSource(name, adapters if adapters.is_file() else None, (_preset(name),), "frozen")
    if Path(name).is_dir():
        return _folder(Path(name))
    if _HUB_ID.fullmatch(name):
        return _folder(_from_hub(name))
    raise UsageError(
        f"{name!r} is no preset ({', '.join(ENCODERS)}), no folder, and no Hub id like owner/name"
        f"{did_you_mean(name, ENCODERS)}"
    )


def _folder(folder: Path) -> MethodSource:
    """A run's folder (its newest whole step), one of its steps, or a published folder."""
    steps = [file for file in folder.glob(f"steps/*/{ADAPTERS}") if file.parent.name.isdecimal()]
    newest = max(steps, key=lambda file: int(file.parent.name), default=None)
    file = folder / ADAPTERS if (folder / ADAPTERS).is_file() else newest
    if file is None:
        raise WeightsError(
            f"{folder} holds no {ADAPTERS} and no steps/*/{ADAPTERS}; give a folder that training wrote"
        )
    encoder = read_adapter_config(file)["encoder"]
    return MethodSource(encoder, file, (_preset(encoder), _read_config(folder / CONFIG)))


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    from moca_avs.hub.pins import check_pin, pinned

    try:
        found = snapshot_download(name, allow_patterns=[ADAPTERS, CONFIG], **pinned(name))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"{name!r} is no folder here and could not be fetched from the Hub ({reason}); "
            f"download its {ADAPTERS} and {CONFIG} by hand into a folder and give that"
        ) from error
    check_pin(name, Path(found), sorted(Path(found).glob(ADAPTERS)))
    return Path(found)


def _preset(name: str) -> dict[str, Any]:
    if name in PRESET_CONFIGS:
        check_parts(PRESET_CONFIGS[name])
    return PRESET_CONFIGS.get(name) or _read_config(_SHIPPED / name / CONFIG)


def _read_config(file: Path) -> dict[str, Any]:
    """A ``config.json``, {} where there is none.

    Its parts are "encoder" (options), "all" (what all methods share), "method" (`MocaConfig`) and "baseline"
    (`BaselineConfig`).
    """
    if not file.is_file():
        return {}
    try:
        config = parse_json(file.read_text(encoding="utf-8"))
        return {part: dict(config.get(part, {})) for part in CONFIG_PARTS}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise WeightsError(f"{file} is not a config that moca-avs wrote: {error}") from error


def given_config(config: str | Path | Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a caller gave as `config`: by part, or {"any": settings} where it is a plain list of settings."""
    if config is None:
        return {}
    if isinstance(config, str) and config == "paper":
        return PAPER
    if not isinstance(config, Mapping):
        try:
            config = parse_json(Path(config).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f'{config!r} is neither "paper" nor a JSON file of settings: {error}') from error
    if not isinstance(config, dict) or not all(isinstance(name, str) for name in config):
        raise UsageError(f"config must hold settings by name, found {type(config).__name__}")
    if not set(config) & set(CONFIG_PARTS):
        return {"any": config}
    check_parts(config)
    return config


def configure(
    entry: MethodEntry, configs: list[Mapping[str, Any]], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], MethodConfig]:
    """Encoder options and method config; later configs are stronger, the caller's settings strongest."""
    config_class = entry.config
    own = {field.name for field in fields(config_class)}
    known = own | set(ENCODER_OPTIONS)
    # What a preset says to our own methods need not be a setting of a registered one.
    ours = config_class in (MocaConfig, BaselineConfig)
    values: dict[str, Any] = {}
    for config in configs:
        stored = config.get("encoder", {})
        values |= {key: stored[key] for key in ENCODER_OPTIONS if key in stored}
        found = {**config.get("all", {}), **config.get(entry.kind, {})}
        values |= found if ours else {k: v for k, v in found.items() if k in own}
        values |= config.get("any", {})
    values |= settings
    unknown = sorted({*settings, *configs[-1].get("any", {})} - known)
    if unknown:
        raise UsageError(
            f"unknown settings {', '.join(unknown)}; there are: {', '.join(sorted(known))}"
            f"{did_you_mean(unknown[0], known)}"
        )
    options = {key: values.pop(key) for key in ENCODER_OPTIONS if key in values}
    return options, config_class.from_dict(values)
