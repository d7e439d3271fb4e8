"""`moca eval`: score a method on a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import arg


@dataclass(frozen=True)
class Evaluate:
    """Score a method on a split, beside audio-blind baselines and the wrong-sound control.

    Example: moca eval --dataset s4 --root stamps --method moca --out s4.json
    """

    dataset: Annotated[Literal["s4", "ms3"], arg(help="Which layout and protocol.")]
    root: Annotated[str, arg(metavar="DIR|stamps", help="stamps: the offline benchmark, built when missing.")]
    out: Annotated[str, arg(metavar="JSON", help="Where the report goes.")]

    def run(self) -> int:
        """Evaluate, print the table, write the report."""
        raise NotImplementedError
