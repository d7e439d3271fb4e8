"""Which of a video's frames are looked at: one every so often, or all."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace

from moca_avs.io.frames import TOLERANCE, Shown


def sampled(
    frames: Iterator[Shown], fps: float, start: float, end: float, phase: float = 0.0
) -> Iterator[Shown]:
    """The frame on screen at start + (k + phase) / fps, for every k until `end` or the video's own end.

    Where the first frame comes late, it stands for the times before it. Where the last interval, cut short by
    the end, does not reach its moment, its last frame is taken, at that frame's time.
    """
    step = 0
    held: Shown | None = None
    stop = end
    for shown in frames:
        while held is not None and shown.time > (due := start + (step + phase) / fps) + TOLERANCE:
            if due >= end - TOLERANCE:
                break
            yield Shown(due, 1 / fps, held.raw)
            step += 1
        if held is not None and shown.time >= end - TOLERANCE:
            break
        held = shown
    else:
        if held is None:
            return
        stop = min(end, held.time + max(held.duration, 2 * TOLERANCE))
    while (begin := start + step / fps) < stop - TOLERANCE:
        due = start + (step + phase) / fps
        yield Shown(due if due < stop - TOLERANCE else max(begin, held.time), 1 / fps, held.raw)
        step += 1


def native(
    frames: Iterator[Shown], start: float, end: float, held: bool = False
) -> Generator[Shown, None, None]:
    """Every frame that begins in [start, end); with `held`, first the one that is on screen at `start`."""
    before: Shown | None = None  # the latest frame that begins before `start`
    for shown in frames:
        if shown.time < start - TOLERANCE:
            before = shown if held else None
            continue
        if before is not None and shown.time > start + TOLERANCE:
            yield replace(before, time=start, duration=shown.time - start)
        before = None
        if shown.time >= end - TOLERANCE:
            return
        yield shown
    if before is not None and (left := before.time + before.duration - start) > TOLERANCE:
        yield replace(before, time=start, duration=left)
