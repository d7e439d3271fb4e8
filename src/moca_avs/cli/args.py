"""Flags that several commands share: method, preset, config, settings, device, where models come from."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, OmitSubcommandPrefixes, UseAppendAction, arg

from moca_avs.errors import UsageError, did_you_mean
from moca_avs.utils.files import parse_json

if TYPE_CHECKING:
    from moca_avs.hub.huggingface import ModelSources
    from moca_avs.methods.base import Method
    from moca_avs.methods.source import MethodChoice

PARSING = (OmitSubcommandPrefixes, OmitArgPrefixes, FlagCreatePairsOff)
"""How tyro reads and shows flags."""

MethodName = Annotated[
    str | None,
    arg(
        metavar="NAME",
        help="moca: with trained adapters; frozen: without. Baselines, nothing trained: at-gdino-sam names "
        "the sound and finds what is named; owod-bind and sam-bind keep boxes and masks that match it. "
        "Registered methods too. If left out, the best one: frozen for a preset, moca for a run.",
    ),
]
PresetName = Annotated[
    str,
    arg(
        metavar="NAME",
        help="A preset (lite, imagebind, languagebind, lite-soundnet), a run folder, or a Hub id.",
    ),
]
Device = Annotated[str, arg(metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")]
ConfigName = Annotated[
    str | None,
    arg(
        name="config",
        metavar="paper|JSON",
        help="paper: the paper's inference (224 px, the sounding cluster, proposals of IoU > .5); or a JSON "
        "file of settings. It overrides the preset's own settings, --set overrides both.",
    ),
]
Settings = Annotated[
    UseAppendAction[tuple[str, ...]],
    arg(
        name="set",
        metavar="NAME=VALUE",
        help="One of the method's settings, like refine=none; may be repeated. result.json names them all.",
    ),
]


def parse_settings(given: Sequence[str]) -> dict[str, Any]:
    """``("window=3", "refine=none")`` -> ``{"window": 3, "refine": "none"}``.

    Raises:
        UsageError: where one is not NAME=VALUE.
    """
    settings: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise UsageError(f"--set must be NAME=VALUE, like refine=none, found {item!r}")
        try:
            settings[name] = parse_json(value)
        except json.JSONDecodeError:  # .3 and 1. are numbers too, everything else is a text
            number = re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+)(e[+-]?\d+)?", value, re.IGNORECASE)
            settings[name] = float(value) if number else value
    return settings


def parse_shard(given: str) -> tuple[int, int]:
    """``"1/4"`` -> ``(1, 4)``.

    Raises:
        UsageError: where it is not I/N with 1 <= I <= N.
    """
    first, slash, last = given.partition("/")
    if not (slash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise UsageError(f"--shard must be I/N, like 1/4, with 1 <= i <= n, found {given!r}")
    return int(first), int(last)


Weights = Annotated[
    str | None,
    arg(
        metavar="FOLDER",
        help="Folder with a sub-folder per foundation model (imagebind/, sam/, ...); else MOCA_AVS_WEIGHTS, "
        "else the Hub.",
    ),
]
Model = Annotated[
    UseAppendAction[tuple[str, ...]],
    arg(
        metavar="NAME=SOURCE",
        help="Take one foundation model from another folder or Hub id; may be repeated.",
    ),
]


def parse_models(given: Sequence[str]) -> dict[str, str]:
    """``("sam=facebook/sam-vit-base",)`` -> ``{"sam": "facebook/sam-vit-base"}``.

    Raises:
        UsageError: where one is not NAME=SOURCE.
    """
    models = {}
    for item in given:
        name, equals, source = item.partition("=")
        if not (name and equals and source):
            raise UsageError(f"--model must be NAME=SOURCE, like sam=facebook/sam-vit-base, found {item!r}")
        models[name] = source
    return models


def parse_sources(weights: str | None, models: Sequence[str]) -> ModelSources:
    """Both flags as `ModelSources`.

    Raises:
        UsageError: where a model is not NAME=SOURCE, or its name is unknown.
    """
    from pathlib import Path

    from moca_avs.hub.huggingface import ModelSources

    return ModelSources(None if weights is None else Path(weights), parse_models(models))


def choose(
    preset: str,
    method: str | None,
    device: str,
    weights: str | None,
    model: Sequence[str],
    config: str | None,
    settings: Mapping[str, Any],
) -> MethodChoice:
    """The method that the flags choose, all of them checked; imports no torch, builds and fetches nothing.

    Raises:
        UsageError: for an unknown name, or a value that a setting does not take.
        WeightsError: a folder that holds no adapters, or a weights folder that is not there.
    """
    from moca_avs.methods import choose_method, load
    from moca_avs.utils.device import check_device_name

    check_device_name(device)
    own = sorted(set(settings) & set(inspect.signature(load).parameters))
    if own:
        raise UsageError(f"{', '.join(own)} is no setting of a method; see the flags of this command")
    choice = choose_method(preset, method, weights, parse_models(model), config, settings)
    choice.sources.folder()
    return choice


def check_encoder(preset: str) -> None:
    """See that a preset that is no run folder exists. Raises UsageError where it does not."""
    from moca_avs.encoders import ENCODERS

    if preset not in ENCODERS:
        raise UsageError(
            f"--preset must be one of {', '.join(ENCODERS)}, found {preset!r}{did_you_mean(preset, ENCODERS)}"
        )


def load_chosen(choice: MethodChoice, device: str) -> Method:
    """Build what `choose` chose; prints the device and the method with its plain settings."""
    from moca_avs.methods import check_weights
    from moca_avs.methods.factory import build_method
    from moca_avs.utils.device import choose_device

    check_weights(choice)
    chosen, why = choose_device(device)
    print(f"device: {chosen} ({why})")
    built = build_method(choice, chosen)
    plain = {name: value for name, value in built.settings.items() if isinstance(value, str | int | float)}
    name = plain.pop("method", choice.name)
    print(f"method: {name} ({', '.join(f'{key}={value}' for key, value in plain.items())})")
    return built
