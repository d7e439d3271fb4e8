"""Small gray copies of every frame of a video, kept around the frames that are looked at.

The looked-at frames are a second apart or so: too far to see how things move. The decoder passes all frames
anyway, so the small copies cost only their scaling; in turn a looked-at frame is held back until what follows
it is decoded.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from PIL import Image

from moca_avs.clip import MOTION_SECONDS
from moca_avs.io.frames import TOLERANCE, Shown, ToGray, fitted_size

SMALL = 64, 16
"""Pixels of a small frame: its longer side, and what the shorter one has at least."""
_MOST_PER_SECOND = 30
# Frames are held back in at most this many bytes; beyond it they get less of what follows them.
_HELD_BYTES = 2**27


def small_copies(frames: np.ndarray) -> np.ndarray:
    """RGB uint8 [T, H, W, 3] -> gray uint8 [T, h, w] of the size `SMALL`; a pixel is the mean of its area."""
    height, width = fitted_size(frames.shape[1], frames.shape[2], *SMALL)
    grays = (Image.fromarray(frame).convert("L") for frame in frames)
    return np.stack([np.asarray(gray.resize((width, height), Image.Resampling.BOX)) for gray in grays])


class MotionFrames:
    """Walks through a video once: looked-at frames come out, small frames around them are kept.

    Args:
        frames: every frame of the video in order, from `MOTION_SECONDS` before the first looked-at one on.
        aspect: width / height of their pixels, to be made square.
    """

    def __init__(self, frames: Iterator[Shown], aspect: Fraction = Fraction(1)) -> None:
        self.frames = self._noting(frames)
        self._gray = ToGray(*SMALL, aspect)
        self._bytes = 1
        self._decoded = -np.inf  # time of the last frame that was decoded
        self._chosen = -np.inf  # time of the last one that was looked at
        self._around: deque[tuple[float, np.ndarray]] = deque()  # near a looked-at frame
        self._recent: deque[tuple[float, np.ndarray]] = deque()  # may yet be near one
        self._reach: deque[tuple[float, float]] = deque()  # looked-at frames, and what was decoded by then

    def _noting(self, frames: Iterator[Shown]) -> Iterator[Shown]:
        """Pass frames on; keep a small copy of at most 30 a second, evenly spaced where they are."""
        last = -np.inf
        for shown in frames:
            # A frame is looked at no earlier than the one before this: what is too old for that goes.
            oldest = self._decoded - MOTION_SECONDS - 2 * TOLERANCE
            while self._recent and self._recent[0][0] < oldest:
                old = self._recent.popleft()
                if old[0] <= self._chosen + MOTION_SECONDS:
                    self._around.append(old)
            self._decoded = shown.time
            if shown.time >= last + 1 / _MOST_PER_SECOND - 2 * TOLERANCE:
                last = shown.time
                self._recent.append((last, self._gray(shown.raw)))
                self._bytes = 2 * shown.raw.height * shown.raw.width
            yield shown

    def held_back(self, chosen: Iterator[Shown]) -> Iterator[Shown]:
        """The looked-at frames, each once `MOTION_SECONDS` after it are decoded or the video has ended.

        Args:
            chosen: made from `frames`; where it stops earlier, `frames` is walked on.
        """
        waiting: deque[Shown] = deque()
        for one in chosen:
            waiting.append(one)
            self._chosen = one.time
            while waiting and (
                self._decoded >= waiting[0].time + MOTION_SECONDS or len(waiting) * self._bytes > _HELD_BYTES
            ):
                self._reach.append((waiting[0].time, self._decoded))
                yield waiting.popleft()
        while waiting:
            while self._decoded < waiting[0].time + MOTION_SECONDS and next(self.frames, None) is not None:
                pass
            self._reach.append((waiting[0].time, np.inf))
            yield waiting.popleft()

    def forget(self, time: float) -> None:
        """Let go of what is near no frame looked at from `time` (seconds) on."""
        while self._around and self._around[0][0] < time - MOTION_SECONDS:
            self._around.popleft()
        while self._reach and self._reach[0][0] < time:
            self._reach.popleft()

    def around(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is within `MOTION_SECONDS` of looked-at frames; what lies before it is forgotten.

        Args:
            times: float64 [T] in seconds, increasing, none before those of the call before.

        Returns:
            Gray uint8 [M, h, w] and their times, float64 [M] in seconds; and for each looked-at frame the
            time up to which they count, float64 [T] (`Clip.motion_reach`), whatever others in the clip see.
        """
        self.forget(times[0])
        kept = [*self._around, *self._recent]
        found = np.array([time for time, _ in kept], np.float64)
        low, high = times - MOTION_SECONDS - TOLERANCE, times + MOTION_SECONDS + TOLERANCE
        near = np.any((found[:, None] >= low) & (found[:, None] <= high), axis=1)
        images = np.stack([image for _, image in kept])
        reach = np.array([decoded for _, decoded in itertools.islice(self._reach, len(times))])
        return images[near], found[near], reach
