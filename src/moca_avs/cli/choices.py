"""The methods as a flag, their settings as another, and what is said of what was chosen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import UseAppendAction, arg

from moca_avs.errors import UsageError

if TYPE_CHECKING:
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
