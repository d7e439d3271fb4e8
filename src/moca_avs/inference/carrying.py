"""Masks of the frames between the looked-at ones: carried by optical flow, within the interval and the shot.

The flow is OpenCV's dense inverse search (Kroeger et al., ECCV 2016). Followed pixel by pixel, its errors at
the edge of what moves would eat the mask within a second. So it is averaged inside the mask, over a quarter
of the mask's size, and the mask moves with that: rigid and slowly bending things keep their shape. And flow
leads from what was looked at, as far as it was followed, to the next frame: errors don't add up.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moca_avs.clip import Segmentation
from moca_avs.io.frames import TOLERANCE, ToGray, fitted_size, shown_frames
from moca_avs.io.motion_frames import SMALL
from moca_avs.io.sampling import native
from moca_avs.model.shots import find_cuts, shot_numbers

# Flow is computed where the mask is, on at most this many pixels along the longer side.
FLOW_SIDE = 160
# Frames wait for their mask in gray at most this large, so that a small mask still has FLOW_SIDE pixels.
GRAY_SIDE = 320
# What surrounds the mask's box on each side, in sizes of the box and of the frame: room for it to move.
_ROOM = (1.0, 0.2)
# The scale over which flow is averaged, in square roots of the mask's area.
_SMOOTHING = 0.25
# No mask is carried further than this from the frame that was looked at, in seconds.
REACH = 5.0
# Frames beyond both ends of an interval, without which a cut or flash near its ends can't be judged.
_CONTEXT = 12
# What is written at once holds at most this many bytes of masks (but at least one).
_BLOCK_BYTES = 2**26
# Flow is trusted this many pixels from the mask's edge: nearer, its patches see the background too.
_EDGE = 4
# Averages are computed at a quarter of the flow's size.
_COARSE = 4


class MaskTrack:
    """Follows the mask of one frame through frames that come after it, or before it in reverse order.

    Args:
        mask: bool [H, W], not empty.
        gray: the frame it belongs to, uint8 [h, w] of any size.
    """

    def __init__(self, mask: np.ndarray, gray: np.ndarray) -> None:
        import cv2

        self._crop, self._source = _around(mask, gray.shape)
        height, width = (part.stop - part.start for part in self._crop)
        scale = FLOW_SIDE / max(height, width)
        self._size = max(round(width * scale), 16), max(round(height * scale), 16)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        # At the coarser scales of the presets small things stand still.
        self._flow.setFinestScale(0)
        self._flow.setPatchStride(4)
        self._flow.setVariationalRefinementIterations(0)
        self._grid = np.stack(np.meshgrid(*(np.arange(side, dtype=np.float32) for side in self._size)), -1)
        self._shape = mask.shape
        self._large = mask[self._source].astype(np.uint8) * 255
        self._first = cv2.resize(self._large, self._size, interpolation=cv2.INTER_AREA)
        self._gray = self._part(gray)
        self._template = self._gray.astype(np.float32)
        self._place, self._coverage = self._grid, self._first

    def _part(self, gray: np.ndarray) -> np.ndarray:
        import cv2

        return cv2.resize(gray[self._crop], self._size, interpolation=cv2.INTER_AREA)

    def step(self, gray: np.ndarray) -> np.ndarray:
        """Go to the next frame, uint8 [h, w]; where each place in it was in the first frame (see `mask`)."""
        import cv2

        now = self._part(gray)
        share = self._coverage.astype(np.float32) / 255
        looks = _sampled(self._template, self._place)
        expected = np.round(share * looks + (1 - share) * self._gray).astype(np.uint8)
        flow = self._motion(self._flow.calc(expected, now, None))
        self._gray = now
        # Where a pixel came from: the motion at that place, not here.
        before = _sampled(flow, self._grid - flow)
        self._place = _sampled(self._place, self._grid - before)
        self._coverage = cv2.remap(self._first, self._place, None, cv2.INTER_LINEAR)
        return self._place

    def _motion(self, flow: np.ndarray) -> np.ndarray:
        """Averages of the flow over places well inside the mask, float32 [h, w, 2]."""
        import cv2

        coverage = self._coverage.astype(np.float32) / 255
        inside = np.clip(2 * cv2.blur(coverage, (2 * _EDGE + 1,) * 2) - 1, 0, 1) + 1e-3 * coverage + 1e-9
        weighted = np.dstack([flow * inside[..., None], inside])
        coarse = cv2.resize(
            weighted,
            tuple(max(side // _COARSE, 1) for side in self._size),
            interpolation=cv2.INTER_AREA,
        )
        sigma = max(_SMOOTHING * float(np.sqrt(coverage.sum())) / _COARSE, 0.5)
        mean = cv2.GaussianBlur(coarse, (0, 0), sigma)
        return cv2.resize(
            mean[..., :2] / np.maximum(mean[..., 2:], 1e-9), self._size, interpolation=cv2.INTER_LINEAR
        )

    def mask(
        self, place: np.ndarray, labels: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The carried mask bool [H, W] (and labels uint8 [H, W]) by what `step` gave."""
        import cv2

        height, width = self._large.shape
        ratio = np.array([width, height], np.float32) / np.array(self._size, np.float32)
        place = (cv2.resize(place, (width, height), interpolation=cv2.INTER_LINEAR) + 0.5) * ratio - 0.5
        mask = np.zeros(self._shape, bool)
        mask[self._source] = cv2.remap(self._large, place, None, cv2.INTER_LINEAR) > 127
        if labels is None:
            return mask, None
        named = np.zeros(self._shape, np.uint8)
        named[self._source] = cv2.remap(labels[self._source], place, None, cv2.INTER_NEAREST)
        return mask, named * mask


def _sampled(values: np.ndarray, places: np.ndarray) -> Any:
    import cv2

    return cv2.remap(values, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _around(mask: np.ndarray, gray: Sequence[int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The mask's box with room around it, in pixels of the gray frame and of the mask."""
    crop, source = [], []
    for axis in (0, 1):
        hit = np.flatnonzero(mask.any(1 - axis))
        length, scale = mask.shape[axis], gray[axis] / mask.shape[axis]
        room = _ROOM[0] * (hit[-1] + 1 - hit[0]) + _ROOM[1] * length
        low = int(max(hit[0] - room, 0) * scale)
        high = min(int(np.ceil((hit[-1] + 1 + room) * scale)), gray[axis])
        crop.append(slice(low, high))
        source.append(slice(round(low / scale), round(high / scale)))
    return (crop[0], crop[1]), (source[0], source[1])


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A frame of the video that has no mask yet, in two sizes; empty ones where no mask can reach it."""

    time: float
    gray: np.ndarray
    small: np.ndarray


class MaskCarrier:
    """Makes of the results of looked-at frames a result for every frame of the video, in bounded memory.

    A frame between two cuts that was not looked at gets the mask of the frame looked at in its interval of
    1 / fps seconds, carried by optical flow, with its score, heat and reason. Beyond a cut the mask is empty
    ("cut"), and further away than `REACH` too ("too far"). `Segmentation.carried_from` tells which these are.

    Args:
        source: the video.
        fps: frames looked at per second.
        start: of the stretch, in seconds: where intervals are counted from.
        end: of the stretch, in seconds; None means the video's end.
    """

    def __init__(self, source: str | Path, fps: float, start: float, end: float | None) -> None:
        self._fps, self._start = fps, start
        last = math.inf if end is None else end
        self._coming = native(shown_frames(source, start), start, last, held=True)
        self._frames: deque[_Waiting] = deque()
        self._to_gray = ToGray(GRAY_SIDE)

    def close(self) -> None:
        """Close the video."""
        self._coming.close()

    def expand(self, result: Segmentation) -> Iterator[Segmentation]:
        """Results of all frames in the intervals of looked-at ones, which come in the order of time."""
        for row in range(len(result)):
            frames = self._carried(result, row)
            size = max(1, _BLOCK_BYTES // result.masks[row].size)
            while block := list(itertools.islice(frames, size)):
                times, masks, labels, reasons, origins = zip(*block, strict=True)
                lost = np.array([reason != result.reasons[row] for reason in reasons])
                scores = np.where(lost, np.float32(0), result.scores[row])
                heat = np.repeat(result.heatmaps[row : row + 1], len(block), axis=0)
                yield Segmentation(
                    masks=np.stack(masks),
                    heatmaps=heat * ~lost[:, None, None],
                    scores=scores,
                    reasons=reasons,
                    times=np.array(times),
                    settings=result.settings,
                    labels=None if result.labels is None else np.stack(labels),
                    carried_from=np.array(origins),
                )

    def _carried(
        self, result: Segmentation, row: int
    ) -> Iterator[tuple[float, np.ndarray, np.ndarray | None, str, float]]:
        """Time, mask, labels, reason and `carried_from` of every frame in the interval of a looked-at one."""
        looked_at, reason = float(result.times[row]), result.reasons[row]
        number = math.floor((looked_at - self._start + TOLERANCE) * self._fps)
        begin, end = (self._start + edge / self._fps - TOLERANCE for edge in (number, number + 1))
        self._read(looked_at, begin, end)
        times = np.array([frame.time for frame in self._frames])
        inside = [index for index, time in enumerate(times) if begin <= time < end]
        if not inside:
            return
        anchor = max(int(np.searchsorted(times, looked_at + TOLERANCE, "right")) - 1, 0)
        mask, labels = result.masks[row], None if result.labels is None else result.labels[row]
        first, last = self._shot_around(anchor, times, looked_at)
        carried = self._tracks(mask, labels, anchor, range(max(first, inside[0]), min(last, inside[-1] + 1)))
        nothing = np.zeros_like(mask)
        for index in inside:
            here, named, why = nothing, None if labels is None else np.zeros_like(labels), reason
            if first <= index < last:
                if index == anchor:
                    here, named = mask, labels
                elif mask.any():
                    here, named = next(carried)
            elif mask.any():
                why = "too far" if abs(times[index] - looked_at) > REACH + TOLERANCE else "cut"
            yield times[index], here, named, why, math.nan if index == anchor else looked_at

    def _read(self, looked_at: float, begin: float, end: float) -> None:
        """Have the frames of an interval at hand, and a few on both sides."""
        import cv2

        frames = self._frames
        while len(frames) > _CONTEXT and frames[_CONTEXT].time < begin:
            frames.popleft()
        past = sum(frame.time >= end for frame in frames)
        while past < _CONTEXT:
            shown = next(self._coming, None)
            if shown is None:
                return
            gray = small = np.zeros((0, 0), np.uint8)
            near = min(abs(shown.time - looked_at), abs(shown.time - looked_at - 1 / self._fps))
            if near <= REACH + 1:
                gray = self._to_gray(shown.raw)
                height, width = fitted_size(gray.shape[0], gray.shape[1], *SMALL)
                small = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
            frames.append(_Waiting(shown.time, gray, small))
            past += shown.time >= end

    def _shot_around(self, anchor: int, times: np.ndarray, looked_at: float) -> tuple[int, int]:
        """The frames [first, last) that a mask can be carried to."""
        known = [index for index, frame in enumerate(self._frames) if frame.small.size]
        if not self._frames[anchor].gray.size:
            return anchor, anchor + 1
        cuts = find_cuts(np.stack([self._frames[index].small for index in known]), times[known])
        shots = shot_numbers(times, cuts)
        same = np.flatnonzero((shots == shots[anchor]) & (np.abs(times - looked_at) <= REACH + TOLERANCE))
        return min(int(same[0]), anchor), max(int(same[-1]), anchor) + 1

    def _tracks(
        self, mask: np.ndarray, labels: np.ndarray | None, anchor: int, wanted: range
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Masks and labels of the wanted frames in order, without the looked-at one."""
        frames = self._frames
        if wanted.start < anchor:
            track = MaskTrack(mask, frames[anchor].gray)
            places = [track.step(frames[index].gray) for index in range(anchor - 1, wanted.start - 1, -1)]
            while places:
                yield track.mask(places.pop(), labels)
        if anchor + 1 < wanted.stop:
            track = MaskTrack(mask, frames[anchor].gray)
            for index in range(anchor + 1, wanted.stop):
                place = track.step(frames[index].gray)
                if index >= wanted.start:
                    yield track.mask(place, labels)
