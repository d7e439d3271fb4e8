"""Class-agnostic mask proposals and how they are chosen. See docs/architecture.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from moca_avs.errors import UsageError

if TYPE_CHECKING:
    from moca_avs.proposals.base import Proposer


def _saliency() -> Proposer:
    from moca_avs.proposals.saliency import SaliencyProposer

    return SaliencyProposer()


def _superpixels() -> Proposer:
    from moca_avs.proposals.superpixels import SuperpixelProposer

    return SuperpixelProposer()


PROPOSERS: dict[str, Callable[[], Proposer]] = {"saliency": _saliency, "superpixels": _superpixels}
"""Name -> builder; names may be joined with "+"."""


def build_proposer(name: str) -> Proposer:
    """Build a proposer by name, or several as one ("saliency+superpixels").

    Raises:
        UsageError: for an unknown name.
        WeightsError: if weights are missing and can't be fetched.
    """
    from moca_avs.proposals.base import Joined

    parts = name.split("+")
    unknown = [part for part in parts if part not in PROPOSERS]
    if unknown:
        raise UsageError(f"unknown proposer {unknown[0]!r}; there are: {', '.join(PROPOSERS)}")
    built = [PROPOSERS[part]() for part in parts]
    return built[0] if len(built) == 1 else Joined(built)
