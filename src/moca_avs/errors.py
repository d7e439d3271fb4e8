"""Errors a user can act on. Each message says what was expected, what was found, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class MocaError(Exception):
    """Base of every error that moca-avs raises on purpose; the command line prints it without a traceback."""

    exit_code = 1


class MediaError(MocaError):
    """A video, image or sound that can't be read, written, or used."""


class WeightsError(MocaError):
    """Weights that are missing, damaged, for another model, or not what their hash says."""


class DataError(MocaError):
    """A dataset or folder that lacks what its layout promises."""


class UsageError(MocaError):
    """Arguments that make no sense together."""

    exit_code = 2


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """How an error about an unknown name ends: "; did you mean 'lite'?", or "" where none is like it."""
    by_lower = {one.lower().replace("_", "-"): one for one in known}
    near = get_close_matches(name.lower().replace("_", "-"), by_lower, 1, 0.5)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""


def first_few(names: Sequence[str], shown: int = 3) -> str:
    """The first names, joined by commas, and how many more there are: for an error that would be long."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without the stop at its end; its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .:") if lines else type(error).__name__
