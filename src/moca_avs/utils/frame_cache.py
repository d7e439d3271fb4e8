"""Keeps what was computed of the last frames: the same frame meets several sounds, and videos stand still."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import numpy as np

CACHED_FRAMES = 16  # more than a clip of 10 has, seen again with another sound

T = TypeVar("T")


def frame_key(frame: np.ndarray) -> bytes:
    """SHA-256 of a frame's shape and pixels."""
    return hashlib.sha256(str(frame.shape).encode() + frame.tobytes()).digest()


class FrameCache(Generic[T]):
    """What was computed of each of the last frames, by their pixels; threads may ask side by side.

    Args:
        frames: how many are kept; the one that was used longest ago goes first.
        key: of a frame; equal where the value is. With one of its own a frame need not be an array.
    """

    def __init__(self, frames: int = CACHED_FRAMES, key: Callable[[Any], bytes] = frame_key) -> None:
        self.frames, self._key = frames, key
        self._found: OrderedDict[bytes, Future[T]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, frame: Any, compute: Callable[[], T]) -> T:
        """The value of one frame (uint8 [H, W, 3]); `compute` is called only where the frame is new."""
        return self.batch([frame], lambda _: [compute()])[0]

    def batch(self, frames: Sequence[Any], compute: Callable[[list[int]], Iterable[T]]) -> list[T]:
        """The values of several frames.

        Args:
            frames: uint8 [H, W, 3] each; equal ones are computed once.
            compute: indices of the frames that are new -> their values, in that order. What it raises reaches
                everybody who waits for these frames, and is not kept.
        """
        keys = [self._key(frame) for frame in frames]
        new: dict[bytes, int] = {}
        futures: dict[bytes, Future[T]] = {}
        with self._lock:
            for index, key in enumerate(keys):
                if key not in self._found:
                    self._found[key], new[key] = Future(), index
                self._found.move_to_end(key)
                futures[key] = self._found[key]
            while len(self._found) > self.frames:
                self._found.popitem(last=False)
        if new:
            try:
                for key, value in zip(new, compute(list(new.values())), strict=True):
                    futures[key].set_result(value)
            except BaseException as error:
                with self._lock:
                    for key in new:
                        self._found.pop(key, None)
                for key in new:
                    if not futures[key].done():
                        futures[key].set_exception(error)
                raise
        return [futures[key].result() for key in keys]
