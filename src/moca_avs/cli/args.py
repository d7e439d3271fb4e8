"""The methods as a flag, their settings as another, and what is said of what was chosen.

The flags that say where foundation models come from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import UseAppendAction, arg

from moca_avs.errors import UsageError

if TYPE_CHECKING:
    from moca_avs.hub.huggingface import ModelSources
    from moca_avs.methods.base import Method

MethodName = Annotated[
    Literal["moca", "frozen", "at-gdino-sam", "owod-bind", "sam-bind"],
    arg(
        help="moca: with trained adapters; frozen: without. Baselines, nothing trained: at-gdino-sam names "
        "the sound and finds what is named; owod-bind and sam-bind keep boxes and masks that match it."
    ),
]
PresetName = Annotated[
    str, arg(metavar="NAME", help="A preset (lite, imagebind, languagebind), a run folder, or a Hub id.")
]
Device = Annotated[str, arg(metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")]
Settings = Annotated[
    UseAppendAction[tuple[str, ...]],
    arg(
        name="set",
        metavar="NAME=VALUE",
        help="One of the method's settings, like score=literal; may be repeated. result.json names them all.",
    ),
]


def parse_settings(given: Sequence[str]) -> dict[str, Any]:
    """``("window=3", "score=literal")`` -> ``{"window": 3, "score": "literal"}``.

    Raises:
        UsageError: where one is not NAME=VALUE.
    """
    settings: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise UsageError(f"--set must be NAME=VALUE, like score=literal, found {item!r}")
        try:
            settings[name] = json.loads(value)
        except json.JSONDecodeError:
            settings[name] = value
    return settings


def described(method: Method) -> str:
    """A method's plain choices in a line; its parts and their weights are in its results."""
    plain = {name: value for name, value in method.settings.items() if isinstance(value, str | int | float)}
    name = plain.pop("method")
    return f"{name} ({', '.join(f'{key}={value}' for key, value in plain.items())})"


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
