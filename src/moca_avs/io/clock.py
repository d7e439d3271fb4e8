"""Times of frames whose stamps can't be believed: they run backwards, or jump by hours."""

from __future__ import annotations

import math

LONGEST_GAP = 60.0
"""Seconds. A longer gap in a track's time stamps is believed only if something else speaks for it: the length
that the header states, or the other track."""
# Stamps that go back by less are merely out of order, in seconds.
_DISORDER = 1.0


class Clock:
    """Gives each frame a time after the one before it.

    Args:
        usual: seconds from one frame to the next.
        stated: length that the header states, in seconds; up to there any gap is believed. 0: it states none.
        sought: the first frame is not the video's first.
        timed: frames have a length of their own (`length`), which a gap must not exceed by much.

    Attributes:
        jumps: how many times the stamps jumped, forward beyond belief or backward by more than a second;
            what follows a jump comes right after what is before it.
        longest: of these jumps, in seconds.
    """

    def __init__(self, usual: float, stated: float, sought: bool = False, timed: bool = False) -> None:
        self._usual, self._stated, self._sought = min(usual, LONGEST_GAP), stated + _DISORDER, sought
        self._timed, self._length = timed, math.inf
        self._shift = 0.0
        self._last: float | None = None
        self.jumps, self.longest = 0, 0.0

    def time(self, stamp: float | None) -> float:
        """The time of the next frame by its stamp (None: it has none); both in seconds."""
        last = self._last
        if stamp is None:
            self._last = 0.0 if last is None else last + self._usual
        elif last is None and (self._sought or self._believed(0.0, stamp)):
            self._last = stamp
        elif last is not None and self._believed(last, stamp + self._shift):
            moved = stamp + self._shift
            self._last = moved if moved > last else last + self._usual
        else:
            due = 0.0 if last is None else last + self._usual
            self.jumps += 1
            self.longest = max(self.longest, abs(stamp + self._shift - due))
            # Back to where they were before they jumped?
            back = last is not None and last < stamp and self._believed(last, stamp)
            self._last = stamp if back else due
            self._shift = self._last - stamp
        return self._last

    def _believed(self, last: float, time: float) -> bool:
        most = min(self._stated, last + 2 * self._length)
        return last - _DISORDER <= time <= max(last + LONGEST_GAP, most)

    def length(self, seconds: float) -> float:
        """For how long the frame at the last time is shown, of what it says itself (0: nothing)."""
        if self._timed:
            self._length = seconds
        most = max(LONGEST_GAP, self._stated - (self._last or 0.0))
        return min(seconds, most) if seconds > 0 else self._usual
