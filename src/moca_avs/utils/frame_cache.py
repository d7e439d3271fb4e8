"""Keeps what was found in the last frames: the same image meets several sounds, and videos stand still."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

import numpy as np

CACHED_FRAMES = 16  # frames: more than a clip of 10 has, asked about again with another sound

T = TypeVar("T")


class FrameCache(Generic[T]):
    """What was found in each of the last frames, by their pixels; threads may ask side by side.

    Args:
        frames: how many are kept.
    """

    def __init__(self, frames: int = CACHED_FRAMES) -> None:
        self.frames = frames
        self._found: OrderedDict[bytes, Future[T]] = OrderedDict()
        self._changing = threading.Lock()

    def __call__(self, frame: np.ndarray, find: Callable[[], T]) -> T:
        """What `find` gives for this frame, asked only where it is new; what it raises is forgotten."""
        key = frame_key(frame)
        with self._changing:
            new = key not in self._found
            found = self._found.setdefault(key, Future())
            self._found.move_to_end(key)
            if len(self._found) > self.frames:
                self._found.popitem(last=False)
        if new:
            try:
                found.set_result(find())
            except BaseException as error:  # whoever waits for this frame must hear of it too
                found.set_exception(error)
                with self._changing:
                    self._found.pop(key, None)
                raise
        return found.result()


def frame_key(frame: np.ndarray) -> bytes:
    """SHA-256 of a frame's shape and pixels."""
    return hashlib.sha256(str(frame.shape).encode() + frame.tobytes()).digest()
