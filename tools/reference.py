"""Tables of settings and of command-line options, made from the code itself when the site is built.

A page of ``docs/`` asks for one by a comment of its own line, which `expand` replaces:

    <!-- settings: moca_avs.training.config.TrainConfig -->    the fields of a dataclass
    <!-- options: segment -->                                  the options of a command
    <!-- presets -->                                           settings for which a preset has its own value
    <!-- module: moca_avs.cues -->                             every public name of a module (by mkdocstrings)
"""

from __future__ import annotations

import argparse
import ast
import html
import inspect
import math
import re
import types
import typing
import warnings
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import docstring_parser
import tyro

from moca_avs import encoders
from moca_avs.cli.args import PARSING
from moca_avs.cli.data import Check, Stamps
from moca_avs.cli.doctor import Doctor
from moca_avs.cli.eval import Evaluate
from moca_avs.cli.models import Check as CheckWeights
from moca_avs.cli.models import Fetch, List, Show
from moca_avs.cli.segment import Segment
from moca_avs.cli.table import PaperTable
from moca_avs.cli.train import Train
from moca_avs.encoders import ENCODERS, list_presets
from moca_avs.methods.config import CONFIG_PARTS, ENCODER_OPTIONS
from moca_avs.methods.source import find_source
from moca_avs.utils.settings import Range

COMMANDS: dict[str, type] = {
    "segment": Segment,
    "train": Train,
    "eval": Evaluate,
    "table": PaperTable,
    "data stamps": Stamps,
    "data check": Check,
    "models list": List,
    "models show": Show,
    "models fetch": Fetch,
    "models check": CheckWeights,
    "doctor": Doctor,
}
"""Words after ``moca`` -> the dataclass of the command."""

MARKER = re.compile(r"^<!-- (settings|options|presets|module)(?:: ([\w. -]+?))? -->$", re.MULTILINE)
DEFAULT = re.compile(r"\s*\((required|repeatable|default: (.*))\)$", re.DOTALL)


def symbol(dotted: str) -> Any:
    """The object of a dotted name; what a module holds, not what a class does."""
    module, _, name = dotted.rpartition(".")
    return getattr(import_module(module), name)


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; line breaks become spaces."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |" for line in lines)


def code(value: object) -> str:
    """A value as inline code; a pipe inside it needs no backslash where the site's Markdown is read."""
    return f"`{value}`"


def text(said: str) -> str:
    """What a docstring says, as a cell of a table: neither a column nor a tag begins in it."""
    parts = re.split(r"(`[^`]*`)", said)
    escaped = [part if part.startswith("`") else html.escape(part, quote=False) for part in parts]
    return "".join(escaped).replace("|", "\\|")


def shown(hint: Any) -> tuple[str, str]:
    """Type and range of an annotation, in words: ``("int or None", "at least 1")``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        parts = [shown(part) for part in arguments]
        return " or ".join(kind for kind, _ in parts), ", ".join(bounds for _, bounds in parts if bounds)
    if origin is typing.Annotated:
        kind, (bounds,) = shown(arguments[0])[0], [part for part in arguments if isinstance(part, Range)]
        if bounds.high < math.inf:
            return kind, f"{bounds.low} to {bounds.high}"
        return kind, f"at least {bounds.low}"
    if origin is typing.Literal:
        return "str", ", ".join(code(f'"{value}"') for value in arguments)
    if origin is tuple:
        return f"tuple of {arguments[0].__name__}", ""
    if hint is type(None):
        return "None", ""
    return hint.__name__, ""


def own_settings(config: type) -> list[str]:
    """Names of the fields that a dataclass declares itself, in order."""
    inherited = {name for base in config.__mro__[1:] for name in getattr(base, "__dataclass_fields__", ())}
    own = inspect.get_annotations(config)
    return [field.name for field in fields(config) if field.name in own or field.name not in inherited]


def settings_table(config: type) -> str:
    """Every setting that a dataclass declares itself: name, type, range, default, meaning.

    Raises:
        ValueError: for a field without a docstring.
    """
    hints = typing.get_type_hints(config, include_extras=True)
    said = {one.arg_name: one.description for one in docstring_parser.parse_from_object(config).params}
    rows = []
    for field in (one for one in fields(config) if one.name in own_settings(config)):
        if not said.get(field.name):
            raise ValueError(f"{config.__name__}.{field.name} has no docstring")
        kind, bounds = shown(hints[field.name])
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if isinstance(default, tuple):
            default = ", ".join(f'"{part}"' for part in default)
        elif isinstance(default, str):
            default = f'"{default}"'
        value = "required" if default is MISSING else code(default)
        rows.append((code(field.name), kind, bounds, value, text(said[field.name])))
    return table(("setting", "type", "allowed", "default", "meaning"), rows)


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser that reads the command line of ``moca COMMAND``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return tyro.extras.get_parser(COMMANDS[command], prog=f"moca {command}", config=PARSING)


def options_table(command: str) -> str:
    """Every option of a command: flags, value or choices, default, meaning.

    Raises:
        ValueError: for an option without help.
    """
    rows = []
    for action in parser_of(command)._actions:
        if "--help" in action.option_strings:
            continue
        said = DEFAULT.sub("", action.help or "").strip()
        if not said:
            raise ValueError(f"moca {command} {action.dest} has no help")
        found = DEFAULT.search(action.help or "")
        default = found[2] or found[1] if found else ""
        if action.nargs == 0:
            default = "off" if default == "False" else "on"
        elif default in ("None", "default:", "default: ") or not action.option_strings:
            default = ""
        elif found and found[2]:
            default = code(default)
        flags = ", ".join(action.option_strings) or str(action.dest).upper()
        value = ""
        if action.nargs != 0:
            choices = [one for one in action.choices or () if one is not None]
            value = ", ".join(map(code, choices)) or code(str(action.metavar).replace("{None}|", ""))
        rows.append((code(flags), value, default, text(said)))
    return table(("option", "value", "default", "meaning"), rows) if rows else "No options."


def presets_table() -> str:
    """Settings for which a preset has its own value, a column for each preset."""
    own = {name: find_source(name).configs[-1] for name in list_presets()}
    rows = []
    for part in CONFIG_PARTS:
        names = dict.fromkeys(name for config in own.values() for name in config.get(part, {}))
        for name in names:
            values = [config.get(part, {}).get(name, "") for config in own.values()]
            rows.append((part, code(name), *(code(value) if value != "" else "" for value in values)))
    return table(("part", "setting", *own), rows)


def encoder_table() -> str:
    """`ENCODER_OPTIONS`, as the encoder of `lite` takes and explains them (read without importing torch)."""
    taken = inspect.signature(ENCODERS["lite"]).parameters
    tree = ast.parse((Path(encoders.__file__).parent / "lite.py").read_text(encoding="utf-8"))
    (lite,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "LiteEncoder")
    said = {one.arg_name: one.description for one in docstring_parser.parse(ast.get_docstring(lite)).params}
    rows = [
        (code(name), type(taken[name].default).__name__, code(taken[name].default), text(said[name]))
        for name in ENCODER_OPTIONS
    ]
    return table(("setting", "type", "default in `lite`", "meaning"), rows)


def expand(markdown: str) -> str:
    """A page with every marker replaced by its table."""

    def made(match: re.Match[str]) -> str:
        kind, name = match.groups()
        if kind == "presets":
            return presets_table()
        if kind == "module":
            return f"::: {name}\n    options: {{show_root_heading: false, show_root_toc_entry: false}}"
        if kind == "options":
            return options_table(name)
        return encoder_table() if name == "encoder" else settings_table(symbol(name))

    return MARKER.sub(made, markdown)
