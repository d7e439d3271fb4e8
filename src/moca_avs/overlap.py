"""Work beside other work: items made ahead of whoever needs them, and things done behind whoever gave them.

One thread each, few items at once, everything in order. An error in the thread is raised where its item is
asked for, or where the next thing is given or the block is left. The thread sees the context variables of
whoever started it (`moca_avs.stages`, `moca_avs.media.opening.noting`), and is gone when the block is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar, cast

T = TypeVar("T")
_END: Any = object()


@contextmanager
def ahead(items: Iterable[T], depth: int = 1) -> Iterator[Iterator[T]]:
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


def _asked(coming: deque[Future[T]], ask: Callable[[], Future[T]]) -> Iterator[T]:
    while (item := coming.popleft().result()) is not _END:
        coming.append(ask())
        yield item


class Behind:
    """Does what it is given in a thread, one thing after the other; use it as a context manager.

    Leaving the block waits for everything given. After something failed nothing more is done. By Ctrl-C it is
    left without a word of what failed.

    Args:
        depth: at least 1; giving more than so many unfinished things waits.
    """

    def __init__(self, depth: int = 1) -> None:
        self._depth = depth
        self._coming: deque[Future[None]] = deque()

    def __enter__(self) -> Behind:
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
