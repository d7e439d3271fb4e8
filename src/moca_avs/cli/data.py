"""`moca data`: build the offline benchmark, look at what a dataset on disk holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg, subcommand


@dataclass(frozen=True)
class Stamps:
    """Build the offline benchmark: real cut-outs on real photos with real sounds, in AVSBench's layouts.

    Example: moca data stamps --out stamps
    """

    out: Annotated[str, arg(metavar="DIR", help="Where to write it.")]
    media: Annotated[
        Literal["core", "full"],
        arg(help="core: 245 MB of Debian packages; full: 1.9 GB more, for training only."),
    ] = "core"
    seed: Annotated[int, arg(help="Draws the composites; the test splits of papers use 0.")] = 0

    def run(self) -> int:
        """Build, and print where everything lies."""
        raise NotImplementedError


@dataclass(frozen=True)
class Check:
    """What a dataset on disk holds, and what it lacks. Exit code 1 where something is missing.

    Example: moca data check s4 --root AVSBench
    """

    name: Annotated[Positional[Literal["s4", "ms3", "stamps"]], arg(help="The dataset.")]
    root: Annotated[str, arg(metavar="DIR", help="The folder it was unpacked into.")]

    def run(self) -> int:
        """Print what was found, then what is missing."""
        raise NotImplementedError


@dataclass(frozen=True)
class Data:
    """Build the offline benchmark, or look at what a dataset on disk holds.

    Example: moca data stamps --out stamps
    """

    action: Annotated[Stamps, subcommand("stamps")] | Annotated[Check, subcommand("check")]

    def run(self) -> int:
        """Run the chosen action."""
        return self.action.run()
