"""`moca segment`: files in, folders out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Segment:
    """Find the sounding pixels of videos; writes OUT/<name>/ per input.

    Example: moca segment band.mp4 films/ -o out
    """

    out: Annotated[str, arg(aliases=["-o"], metavar="OUT", help="Folder for the results.")]
    inputs: Annotated[Positional[tuple[str, ...]], arg(metavar="INPUT", help="Files, folders or globs.")] = ()

    def run(self) -> int:
        """Segment everything and print where it lies."""
        raise NotImplementedError
