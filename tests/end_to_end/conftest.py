import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass

import pytest

from moca_avs.cli import main


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def no_thread_is_left():
    """No thread of ours outlives the test."""
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("moca-")]


@pytest.fixture
def moca(capfd):
    """Run the command line in this process: moca("segment", path, ...) -> Ended."""

    def run(*arguments):
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ended(code, *capfd.readouterr())

    return run


@pytest.fixture
def start_moca():
    """Start the command line as its own process, with the Python that runs the tests."""
    started = []

    def start(*arguments, **options):
        command = [sys.executable, "-c", "import sys; from moca_avs.cli import main; sys.exit(main())"]
        process = subprocess.Popen(
            [*command, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            # A shell's background jobs ignore Ctrl-C and hand that down; a user's own call does not.
            **{"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler), **options},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
