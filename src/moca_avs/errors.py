"""Errors a user can act on. Each message says what was expected, what was found, and what to do."""

from __future__ import annotations


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
