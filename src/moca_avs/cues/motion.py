"""What a video's own frames tell: what moves, and what moves with the sound.

Both cues read small gray frames at the video's own rate around the frame that is looked at
(`Clip.motion_window`), within its shot. A still image has none, so neither cue says anything of it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

from moca_avs.clip import Clip
from moca_avs.model.shots import same_shot

RATE = 25.0
"""Hz to which movement and sound are brought before they are compared."""
FEWEST = 12
"""Movements that can be compared with a sound: about half a second."""
FINE, COARSE = 0.04, 0.6
"""Seconds (standard deviations of Gaussians): quicker changes are noise, slower ones are no events."""
LAG = 0.2
"""Seconds by which movement and sound may be apart: encoders shift them, and sound takes 3 ms a meter."""
NEIGHBORHOOD = 0.15
"""Share of the longer side over which movement is averaged: hands and sticks move, not single pixels."""
STILL = 0.02
"""Root mean square of a position's movement, in log gray levels, that is noise."""


def motion(clip: Clip, index: int) -> np.ndarray | None:
    """How much moves at each position, but for the camera: mean of log(1 + gray levels changed per frame).

    It does not hear. Returns float32 [h, w], at least 0; None where the clip has no motion frames.
    """
    moved = movement(clip, index)
    return None if moved is None else moved[0].mean(0, dtype=np.float32)


def synchrony(clip: Clip, index: int) -> np.ndarray | None:
    """Which positions move when the sound begins: correlation of movement with the sound's onsets.

    The correlation at the best lag within `LAG`, less the mean of what equally many lags give at other, wrong
    times: so that neither movement that goes on all the time nor a sound with many onsets counts.

    Returns float32 [h, w] in [-2, 2], 0 where movement and sound have nothing in common; None without motion
    frames, or where nothing can be compared.
    """
    moved = movement(clip, index)
    if moved is None:
        return None
    energy, times = moved
    grid = np.arange(times[0], times[-1], 1 / RATE)
    levels = loudness(clip, grid)
    if len(grid) < FEWEST or levels is None:
        return None
    onsets = np.maximum(np.diff(ndimage.gaussian_filter1d(levels, FINE * RATE), prepend=levels[:1]), 0)
    # Positions that share most of their neighborhood are not computed twice.
    size = max(1, round(NEIGHBORHOOD * max(energy.shape[1:])))
    step = max(1, size // 3)
    energy = ndimage.uniform_filter(energy, (0, size, size))[:, step // 2 :: step, step // 2 :: step]
    place = np.interp(grid, times, np.arange(len(times)))
    before = place.astype(int)
    after, share = np.minimum(before + 1, len(times) - 1), (place - before)[:, None, None]
    resampled = energy[before] * (1 - share) + energy[after] * share
    return correlation(_events(resampled), _events(onsets))


def _events(values: np.ndarray) -> np.ndarray:
    """Changes over time [T, ...] that are neither noise nor slow."""
    fine, coarse = (ndimage.gaussian_filter1d(values, one * RATE, axis=0) for one in (FINE, COARSE))
    return fine - coarse


def correlation(movement_: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """Of movement [T, h, w] with a sound [T], near lags against far ones: float32 [h, w]; see `synchrony`."""
    steps, near = len(sound), round(LAG * RATE)
    lags = np.arange(-steps // 2, steps // 2 + 1)
    padded = np.pad(sound, steps)
    shifted = np.stack([padded[steps - lag : 2 * steps - lag] for lag in lags])  # [L, T]: sound[t - lag]
    products = shifted.astype(np.float32) @ movement_.reshape(steps, -1).astype(np.float32)
    peak = products[np.abs(lags) <= near].max(0)
    others = ndimage.maximum_filter1d(products, 2 * near + 1, axis=0)[np.abs(lags) > 3 * near]
    if len(others):
        peak = peak - others.mean(0)
    noise = STILL * np.sqrt(steps)
    norm = np.sqrt((movement_**2).sum(0) + noise**2) * max(float(np.linalg.norm(sound)), 1e-6)
    return (peak.reshape(movement_.shape[1:]) / norm).astype(np.float32)


def loudness(clip: Clip, times: np.ndarray) -> np.ndarray | None:
    """Level of the sound after each of evenly spaced times, in dBFS, at least -80: float64 [T].

    None where the clip has no sound around any of them.
    """
    # All in samples since the recording's zero: what comes out does not depend on where the clip begins.
    edges = np.round(np.append(times, times[-1] + 1 / RATE) * clip.sample_rate).astype(int)
    edges -= round(clip.sound_start * clip.sample_rate)
    if not clip.sound.size or edges[-1] <= 0 or edges[0] >= len(clip.sound):
        return None
    heard = edges.clip(0, len(clip.sound))
    power = np.square(clip.sound[heard[0] : heard[-1]], dtype=np.float64)
    sums = np.diff(np.concatenate([[0.0], np.cumsum(power)])[heard - heard[0]])
    return 10 * np.log10(np.maximum(sums / np.maximum(np.diff(edges), 1), 1e-8))


@lru_cache(maxsize=1)  # both cues ask for the same frame, one after the other
def movement(clip: Clip, index: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Gray levels that change from each motion frame to the next, camera motion removed.

    Returns:
        (log(1 + levels), float32 [M, h, w]; the later frames' times in seconds, float64 [M]), or None: fewer
        than `FEWEST` are within reach.
    """
    import cv2

    frames, times = clip.motion_window(index)
    if len(frames) <= FEWEST:
        return None
    kept = same_shot(frames, times, clip.times[index])
    frames, times = frames[kept], times[kept]
    if len(frames) <= FEWEST:
        return None
    blurred = [cv2.GaussianBlur(frame.astype(np.float32), (0, 0), 1.0) for frame in frames]
    height, width = frames.shape[1:]
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    energy = np.empty((len(frames) - 1, height, width), np.float32)
    for out, before, after in zip(energy, blurred[:-1], blurred[1:], strict=True):
        np.abs(after - before, out=out)
        # phaseCorrelate multiplies its arguments by the window in place.
        (x, y), _ = cv2.phaseCorrelate(before.copy(), after.copy(), window)
        if abs(x) <= width / 4 and abs(y) <= height / 4:  # more is a wrong match
            shift = np.array([[1, 0, x], [0, 1, y]], np.float32)
            moved = cv2.warpAffine(before, shift, (width, height), borderMode=cv2.BORDER_REPLICATE)
            np.minimum(out, np.abs(after - moved), out=out)
    return np.log1p(energy), times[1:]
