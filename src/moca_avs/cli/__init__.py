"""The command `moca`: parse, run, and turn every expected end into an exit code and one clear line."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

STOPPED = 130  # 128 + SIGINT, what a shell expects of a program stopped by Ctrl-C
TERMINATED = 143  # 128 + SIGTERM, what schedulers and containers send
DESCRIPTION = """Find the pixels that make the sound.

Example: moca segment band.mp4 -o out

moca COMMAND --help tells more of each command, moca --version which version this is."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends what runs in the same way as Ctrl-C, keeping what is finished."""


@contextmanager
def _sigterm_like_ctrl_c() -> Iterator[None]:
    """The first SIGTERM raises `Terminated`; a second one kills, as it does outside the block."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows ``moca``; None means this process's own.

    Returns:
        The exit code: 0 done, 1 some failed, 2 usage, 130 stopped by Ctrl-C, 143 by SIGTERM.
    """
    from typing import Annotated

    import tyro
    from tyro.conf import subcommand

    from moca_avs import __version__
    from moca_avs.cli.args import PARSING
    from moca_avs.cli.data import Data
    from moca_avs.cli.doctor import Doctor
    from moca_avs.cli.eval import Evaluate
    from moca_avs.cli.models import Models
    from moca_avs.cli.segment import Segment
    from moca_avs.cli.streams import lasting_streams
    from moca_avs.cli.table import PaperTable
    from moca_avs.cli.train import Train
    from moca_avs.errors import MocaError
    from moca_avs.utils.registry import import_plugins

    command = (
        Annotated[Segment, subcommand("segment")]
        | Annotated[Train, subcommand("train")]
        | Annotated[Evaluate, subcommand("eval")]
        | Annotated[PaperTable, subcommand("table")]
        | Annotated[Data, subcommand("data")]
        | Annotated[Models, subcommand("models")]
        | Annotated[Doctor, subcommand("doctor")]
    )
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        print(f"moca {__version__}")
        return 0

    with lasting_streams() as lost:
        try:
            chosen = tyro.cli(
                command,
                prog="moca",
                description=DESCRIPTION,
                args=given,
                config=PARSING,
            )
            if isinstance(chosen, Train):
                chosen = chosen.completed(given[1:])
            import_plugins()  # a broken one is told whether or not it is needed
            with _sigterm_like_ctrl_c():
                code = int(chosen.run())
        except SystemExit as stop:  # tyro has printed its help (0) or what is wrong (2)
            code = stop.code if isinstance(stop.code, int) else 1
        except MocaError as error:
            print(f"moca: {error}", file=sys.stderr)
            code = error.exit_code
        except KeyboardInterrupt as stop:
            print("moca: stopped", file=sys.stderr)
            code = TERMINATED if isinstance(stop, Terminated) else STOPPED
    if lost:
        with suppress(OSError):
            print(f"moca: what was printed is lost: {lost[0].strerror}; the rest is done", file=sys.stderr)
    return code or (1 if lost else 0)
