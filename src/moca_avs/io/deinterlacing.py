"""Interlaced frames hold two moments, line by line: what moves looks like a comb. Here they become one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import av

from moca_avs.io.color import filter_graph

_FEWEST_LINES, _FEWEST_COLUMNS = 4, 3  # what bwdif works on


class Deinterlacer:
    """Frames in, as many frames out in the same order, interlaced ones deinterlaced (FFmpeg's bwdif).

    Missing lines are guessed from the frames before and after. So from the first interlaced frame on each
    frame comes out when the next one is given.
    """

    def __init__(self) -> None:
        self._graph: Any = None
        self._kind: tuple[int, int, str] | None = None

    def __call__(self, frame: Any | None) -> list[Any]:
        """What is ready once a frame (None: the end) is given; frames that need nothing are passed on."""
        ready = []
        kind = None if frame is None else (frame.width, frame.height, frame.format.name)
        if self._graph is not None and kind != self._kind:
            self._graph.vpush(None)
            ready = self._pulled()
            self._graph = None
        if frame is None:
            return ready
        if self._graph is None:
            small = frame.height < _FEWEST_LINES or frame.width < _FEWEST_COLUMNS
            if small or not frame.interlaced_frame:
                return [*ready, frame]
            self._graph = filter_graph(frame, [("bwdif", {"mode": "send_frame", "deint": "interlaced"})])
            self._kind = kind
        self._graph.vpush(frame)
        return ready + self._pulled()

    def _pulled(self) -> list[Any]:
        with suppress(av.error.BlockingIOError, av.error.EOFError):  # the next one is not ready; the end
            return [self._graph.vpull(), *self._pulled()]
        return []
