"""Named parts that anybody may add: encoders, methods, data sets, proposers and their like.

A part is registered by a call, or offered by an installed package as an entry point, or by the modules that
the environment variable ``MOCA_AVS_PLUGINS`` names (module names or ``.py`` files, joined by commas). The
last two are looked for once, when a name is not known or all names are listed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

from moca_avs.errors import UsageError, did_you_mean

T = TypeVar("T")
PLUGINS = "MOCA_AVS_PLUGINS"


class Registry(MutableMapping[str, T]):
    """Name -> part, in the order of registration.

    Args:
        kind: what a part is, for error messages ("encoder", "method", ...).
        group: group of entry points that offer parts, like "moca_avs.encoders"; each loads to a function
            without arguments that registers. None: parts come by calls alone.
    """

    def __init__(self, kind: str, group: str | None = None) -> None:
        self.kind, self.group = kind, group
        self._parts: dict[str, T] = {}
        self._complete = group is None

    def register(self, name: str, part: T, *, replace: bool = False) -> T:
        """Add a part.

        Args:
            name: how it is asked for; no "+" and no "/".
            part: what the name stands for.
            replace: allow a name that is taken already.

        Raises:
            UsageError: for a name that is taken or can't be one.
        """
        if not isinstance(name, str) or not name or set(name) & set("+/ \\"):
            raise UsageError(
                f"a name of the kind {self.kind} must not hold '+', '/' or blanks, found {name!r}"
            )
        if name in self._parts and not replace:
            raise UsageError(f"there is a {self.kind} {name!r} already; give replace=True to replace it")
        self._parts[name] = part
        return part

    def find(self, name: str) -> T:
        """The part of that name. Raises UsageError, naming all there are."""
        if name not in self:
            raise UsageError(
                f"unknown {self.kind} {name!r}; there are: {', '.join(self)}{did_you_mean(name, self)}"
            )
        return self._parts[name]

    def split(self, names: str, setting: str, also: tuple[str, ...] = ()) -> list[str]:
        """The names that a setting joins with "+", in its order; builds and imports no part.

        Args:
            names: as in "saliency+regions".
            setting: what the setting is called, for the error message.
            also: names that are allowed though no part is registered under them.

        Raises:
            UsageError: for an unknown name, or one given twice.
        """
        found = names.split("+")
        unknown = [name for name in found if name not in also and name not in self]
        if unknown or len(set(found)) < len(found):
            raise UsageError(
                f"{setting} must be one of {', '.join([*also, *self])}, or several of them joined with '+'; "
                f"found {names!r}{did_you_mean(unknown[0], (*also, *self)) if unknown else ''}"
            )
        return found

    def _load_plugins(self) -> None:
        if self._complete:
            return
        self._complete = True  # what plugins register looks here too
        try:
            import_plugins()
            for entry in entry_points(group=self.group or ""):
                with _told_as(f"the entry point {entry.name} ({entry.value})"):
                    entry.load()()
        except UsageError:
            self._complete = False
            raise

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise KeyError(name)
        return self._parts[name]

    def __setitem__(self, name: str, part: T) -> None:
        self.register(name, part, replace=True)

    def __delitem__(self, name: str) -> None:
        del self._parts[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._parts:
            self._load_plugins()
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        self._load_plugins()
        return iter(tuple(self._parts))

    def __len__(self) -> int:
        self._load_plugins()
        return len(self._parts)


def import_plugins() -> None:
    """Import what the environment variable names, once.

    Raises:
        UsageError: where one can't be found or imported.
    """
    _import_named(os.environ.get(PLUGINS, ""))


@cache
def _import_named(names: str) -> None:
    """Import modules and files, once.

    Raises:
        UsageError: where one can't be found or imported.
    """
    for name in filter(None, (part.strip() for part in names.split(","))):
        with _told_as(f"{PLUGINS} names {name}, which"):
            if not name.endswith(".py"):
                importlib.import_module(name)
                continue
            spec = importlib.util.spec_from_file_location(f"moca_avs_plugin_{Path(name).stem}", name)
            if spec is None or spec.loader is None:
                raise ImportError(f"{name} is no Python file")
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # dataclasses look their module up there
            spec.loader.exec_module(module)


@contextmanager
def _told_as(whose: str) -> Iterator[None]:
    """Whatever somebody else's code raises as it is imported is told as its own."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise UsageError(f"{whose} can't be imported ({type(error).__name__}: {error})") from error
