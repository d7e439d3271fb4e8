"""What stands around a run's steps: deterministic kernels, Ctrl-C, randomness without a state."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from tqdm import tqdm


def step_generator(seed: int, step: int) -> torch.Generator:
    """A CPU generator of one step alone, so that resuming needs no replay; -1 is the adapters' start."""
    drawn = np.random.SeedSequence([seed, step + 1]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(drawn >> np.uint64(1)))


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Switch torch's deterministic kernels on, and back to what they were."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # what cuBLAS asks for to be deterministic
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C wait for the end of a step (half a step can't be resumed); a second one does not wait."""
    asked = threading.Event()

    def ask(signum: int, frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # signals only reach the main thread
        return
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def print_line(message: str, progress: bool) -> None:
    """One line beside the bars, where there are any."""
    if progress:
        tqdm.write(message)
