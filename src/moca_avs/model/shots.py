"""Shots: where a video cuts, and what belongs together between two cuts.

Hard cuts only; a fade or a whip pan is no cut. The rule compares a step with those around it (as
AdaptiveDetector of PySceneDetect does), with checks for what that takes for cuts: flashes and fast motion.
"""

from __future__ import annotations

import numpy as np

# A step's size in those usual around it, times one minus the correlation across it, must reach this: where
# all moves fast, only an unlike picture is a cut. On 28 real clips cuts reach 3, all else less than 2.3.
_STANDS_OUT = 2.6
# Frames on each side whose steps are the reference: about a third of a second at 30 frames/s.
_REFERENCE = 11
# Frames whose median stands for a side of the cut. Of five, one or two odd ones (a flash) change nothing.
_SIDE = 5
# The lasting change must be about as large as the step: smaller after a flash, larger where things just move.
_LASTING = (0.6, 1.7)
# Correlation of gray levels across the cut: light that is switched on leaves it high.
_CORRELATION = 0.7
# Smaller steps (gray levels of 255) are noise, whatever they stand out from.
_SMALLEST = 6.0
# Steps below this are repeated frames (15 frames/s in a video of 30) and tell nothing of the scene's speed.
_REPEATED = 0.1
# Times are rounded by containers; seconds.
_ROUNDING = 1e-3


def find_cuts(frames: np.ndarray, times: np.ndarray) -> np.ndarray:
    """When new shots begin.

    A cut is a step between two frames that stands out from the steps around it, lasts, and leaves a picture
    that hardly correlates with the one before. What happens more than half a second away does not matter, so
    a stretch of a video and the whole video agree but near the stretch's ends.

    Args:
        frames: gray uint8 [M, h, w], small (`Clip.motion_frames`).
        times: float64 [M] in seconds, increasing.

    Returns:
        float64 [C] in seconds: for each cut the time of the first frame after it.
    """
    gray = frames.astype(np.float32)
    steps = np.abs(np.diff(gray, axis=0)).mean((1, 2)) if len(gray) > 1 else np.zeros(0, np.float32)
    cuts = []
    for step in np.flatnonzero(steps >= _SMALLEST):
        size = steps[step]
        if size < steps[max(step - _SIDE, 0) : step + _SIDE + 1].max():
            continue
        around = steps[max(step - _REFERENCE, 0) : step + _REFERENCE + 1]
        around = around[(around > _REPEATED) & (around != size)]
        usual = max(float(np.median(around)), 1.0) if len(around) else 1.0
        if size < _STANDS_OUT / 2 * usual:  # whatever the correlation
            continue
        before = np.median(gray[max(step + 1 - _SIDE, 0) : step + 1], axis=0)
        after = np.median(gray[step + 1 : step + 1 + _SIDE], axis=0)
        lasting = float(np.abs(after - before).mean())
        alike = _correlation(before, after)
        lasts = _LASTING[0] * size <= lasting <= _LASTING[1] * size
        if lasts and alike < _CORRELATION and size * (1 - alike) >= _STANDS_OUT * usual:
            cuts.append(times[step + 1])
    return np.array(cuts, np.float64)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of gray levels, in [-1, 1]; 0 where either is flat (a picture and black have nothing in common)."""
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size > 0 else 0.0


def shot_numbers(times: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """int64 [n]: how many cuts lie before what is shown at each of `times` (float [n], seconds)."""
    return np.searchsorted(cuts, np.asarray(times) + _ROUNDING, side="right")


def same_shot(frames: np.ndarray, times: np.ndarray, now: float) -> np.ndarray:
    """Which of the frames belong to the shot on screen at `now` (seconds): bool [M].

    Args:
        frames: as in `find_cuts`.
        times: as in `find_cuts`.
        now: seconds.
    """
    cuts = find_cuts(frames, times)
    same: np.ndarray = shot_numbers(times, cuts) == shot_numbers(np.array([now]), cuts)
    return same
