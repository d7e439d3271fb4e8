"""Work beside other work: items made ahead of whoever needs them, and things done behind whoever gave them.

Few items at once, everything in order. An error in a thread is raised where its item is asked for, or where
the next thing is given or the block is left. Threads see the context variables of whoever started them
(`moca_avs.utils.profiler`, `moca_avs.io.open.collect_warnings`), and are gone when the block is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from itertools import islice
from typing import Any, TypeVar, cast

S = TypeVar("S")
T = TypeVar("T")
_END: Any = object()
_SHARING: ContextVar[int] = ContextVar("sharing", default=1)


@contextmanager
def prefetch(items: Iterable[T], depth: int = 1) -> Iterator[Iterator[T]]:
    """Make up to `depth` items in a thread before they are asked for.

    When the block is left the item in the making is waited for; generators are closed.

    Args:
        items: walked in the thread only.
        depth: at least 1; so many more items are in memory than without.
    """
    iterator, context = iter(items), copy_context()
    pool = ThreadPoolExecutor(1, "moca-ahead")

    def ask() -> Future[T]:
        return pool.submit(context.run, cast(Callable[..., T], next), iterator, _END)

    try:
        yield _asked(deque(ask() for _ in range(depth)), ask)
    finally:
        pool.shutdown(cancel_futures=True)
        if isinstance(iterator, Generator):
            iterator.close()


@contextmanager
def parallel_map(work: Callable[[S], T], items: Iterable[S], workers: int = 1) -> Iterator[Iterator[T]]:
    """Do the same to several items at once, ahead of who needs the results; they come in the items' order.

    When the block is left the items in work are waited for, the others are not begun.

    Args:
        work: asked from `workers` threads at once.
        items: walked in this thread.
        workers: at least 1; up to twice as many results are in memory.
    """
    pool, waiting = ThreadPoolExecutor(workers, "moca-beside"), iter(items)
    sharing = _SHARING.get() * workers

    def begin(item: S) -> Future[T]:
        context = copy_context()  # one can't be entered by two threads
        context.run(_SHARING.set, sharing)
        return pool.submit(context.run, work, item)

    def results() -> Iterator[T]:
        while coming:
            result = coming.popleft().result()
            coming.extend(map(begin, islice(waiting, 1)))
            yield result

    try:
        coming = deque(map(begin, islice(waiting, 2 * workers)))
        yield results()
    finally:
        pool.shutdown(cancel_futures=True)


def available_threads() -> int:
    """Threads that work in this thread may use: its share of torch's where `parallel_map` divides them."""
    import torch

    return max(1, torch.get_num_threads() // _SHARING.get())


def _asked(coming: deque[Future[T]], ask: Callable[[], Future[T]]) -> Iterator[T]:
    while (item := coming.popleft().result()) is not _END:
        coming.append(ask())
        yield item


class BackgroundWriter:
    """Does what it is given in a thread, one thing after the other; use it as a context manager.

    Leaving the block waits for everything given. After something failed nothing more is done. By Ctrl-C it is
    left without a word of what failed.

    Args:
        depth: at least 1; giving more than so many unfinished things waits.
    """

    def __init__(self, depth: int = 1) -> None:
        self._depth = depth
        self._coming: deque[Future[None]] = deque()

    def __enter__(self) -> BackgroundWriter:
        self._pool, self._context = ThreadPoolExecutor(1, "moca-behind"), copy_context()
        return self

    def __call__(self, work: Callable[[], object]) -> None:
        """Have it done; raises what an earlier thing raised."""
        self._collect(self._depth - 1)
        before = self._coming[-1] if self._coming else None
        self._coming.append(self._pool.submit(self._context.run, _after, before, work))

    def _collect(self, left: int) -> None:
        while len(self._coming) > left:
            self._coming.popleft().result()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown()
        if kind is None or issubclass(kind, Exception):
            self._collect(0)


def _after(before: Future[None] | None, work: Callable[[], object]) -> None:
    """Do it, unless what came before failed (its error is this one's then)."""
    if before is not None:
        before.result()
    work()
