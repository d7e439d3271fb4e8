"""The command `moca`: parse, call, print. Nothing heavy is imported until a command runs."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code (0 done, 1 some failed, 2 usage, 130 stopped).

    Args:
        arguments: what follows ``moca``; None means this process's own.
    """
    from moca_avs.cli.app import run

    return run(arguments)
