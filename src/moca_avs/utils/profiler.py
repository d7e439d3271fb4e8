"""Where the time goes: seconds by stage, gathered from every thread that works for one input."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar, cast

T = TypeVar("T")

METHOD = ("audio encoder", "image encoder", "proposals", "clustering", "matching", "classify", "decide")
"""Stages of a method; "decide" is what the others leave: the gate, thresholds, resizing."""
WAITING = ("waiting for frames", "waiting for proposals", "waiting for writing")
"""Not work: the method stood still while another thread worked."""


class Profiler:
    """Seconds by stage; a stage inside another counts for itself only.

    Args:
        wait: called at both ends of every stage (`synchronize_gpu`); None: a GPU's work is counted where its
            result is first needed.

    Attributes:
        seconds: by name.
    """

    def __init__(self, wait: Callable[[], None] | None = None) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.wait = wait
        self._adding, self._here = threading.Lock(), threading.local()

    @contextmanager
    def activate(self) -> Iterator[None]:
        """While it lasts `record` counts here, also in threads that `moca_avs.utils.prefetch` starts."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    @contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        outer: float = getattr(self._here, "inner", 0.0)
        self._here.inner = 0.0
        if self.wait is not None:
            self.wait()
        begin = time.perf_counter()
        try:
            yield
        finally:
            if self.wait is not None:
                self.wait()
            took = time.perf_counter() - begin
            with self._adding:
                self.seconds[name] += took - self._here.inner
            self._here.inner = outer + took


_CURRENT: ContextVar[Profiler | None] = ContextVar("stages", default=None)


@contextmanager
def record(name: str) -> Iterator[None]:
    """Count the block's time for a stage, where somebody gathers; don't yield inside it."""
    stages = _CURRENT.get()
    if stages is None:
        yield
        return
    with stages._counted(name):
        yield


def record_each(name: str, items: Iterable[T]) -> Iterator[T]:
    """Pass items on; the time that each takes to come counts for a stage."""
    iterator, end = iter(items), object()
    while True:
        with record(name):
            item = next(iterator, end)
        if item is end:
            return
        yield cast(T, item)


def synchronize_gpu() -> None:
    """Until what was asked of the GPU is done; nothing where none is in use."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def profile_table(seconds: Mapping[str, float], frames: int, wall: float) -> str:
    """Milliseconds per frame and share of all work, stage by stage.

    Args:
        seconds: by stage.
        frames: how many there were.
        wall: seconds from beginning to end; less than the sum where stages overlapped.
    """
    work = {name: value for name, value in seconds.items() if name not in WAITING}
    inside = {name: work.pop(name) for name in METHOD if name in work}
    rows = [("read", work.pop("read", 0.0)), ("method", sum(inside.values()))]
    rows += [(f"  {name}", value) for name, value in inside.items()]
    rows += work.items()
    total = sum(value for name, value in rows if not name.startswith(" "))
    rows += [("all work", total), ("from beginning to end", wall)]
    rows += [(name, seconds[name]) for name in WAITING if name in seconds]
    lines = [f"  {'stage':<22} {'ms/frame':>9} {'share':>6}"]
    for name, value in rows:
        lines.append(f"  {name:<22} {1e3 * value / max(frames, 1):9.1f} {value / max(total, 1e-9):6.1%}")
    return "\n".join(lines)
