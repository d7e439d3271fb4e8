"""Class-agnostic mask proposals: what stands in a picture, whatever it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from moca_avs.proposals.matching import areas, overlaps
from moca_avs.proposals.resizing import resized_masks
from moca_avs.remembering import REMEMBERED, ByFrame
from moca_avs.stages import stage

WORKING_SIDE = 384  # pixels; no proposer here sees finer than this


class Proposer(Protocol):
    """Finds things in a frame.

    Attributes:
        settings: JSON-able, what is needed to make it again, weights' hashes included.
    """

    settings: dict[str, Any]

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> bool [P, H, W], P >= 0, best or largest first; deterministic."""
        ...


def is_parallel(proposer: Proposer) -> bool:
    """Whether a proposer may be asked for several frames side by side: it says so by ``parallel = True``."""
    return getattr(proposer, "parallel", False)


class BoxDetector(Protocol):
    """Finds boxes around things, whatever they are (an open-world detector)."""

    settings: dict[str, Any]

    def __call__(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [H, W, 3] -> boxes float32 [P, 4] (x0, y0, x1, y1 in pixels), scores float32 [P]."""
        ...


class BoxSegmenter(Protocol):
    """Turns boxes into masks (SAM)."""

    settings: dict[str, Any]

    def __call__(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] and float32 [P, 4] -> bool [P, H, W], in the order of the boxes."""
        ...


class Joined:
    """Several proposers as one; of near-equal masks the first stays.

    Args:
        proposers: asked in this order.
        max_iou: two proposals that overlap more are the same.
    """

    def __init__(self, proposers: Sequence[Proposer], max_iou: float = 0.9) -> None:
        self.proposers = tuple(proposers)
        self.max_iou = max_iou
        self.parallel = all(map(is_parallel, proposers))
        self.settings: dict[str, Any] = {
            "name": "joined",
            "max_iou": max_iou,
            "proposers": [p.settings for p in proposers],
        }

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> bool [P, H, W]."""
        return distinct(np.concatenate([proposer(frame) for proposer in self.proposers]), self.max_iou)


class Remembering:
    """Keeps the last frames' proposals: the same picture meets several sounds, and films stand still.

    Args:
        proposer: asked where a frame is new.
        frames: how many answers are kept, packed to one bit a pixel.
    """

    def __init__(self, proposer: Proposer, frames: int = REMEMBERED) -> None:
        self.proposer = proposer
        self.settings, self.parallel = proposer.settings, is_parallel(proposer)
        self._answers: ByFrame[tuple[np.ndarray, tuple[int, ...]]] = ByFrame(frames)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> bool [P, H, W]."""
        with stage("proposals"):
            bits, shape = self._answers(frame, lambda: self._packed(frame))
            return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).view(bool)

    def _packed(self, frame: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
        masks = self.proposer(frame)
        return np.packbits(masks), masks.shape


def remembering(proposer: Proposer) -> Remembering:
    """The proposer with a memory: itself if it has one already, so that no frame is hashed and kept twice."""
    return proposer if isinstance(proposer, Remembering) else Remembering(proposer)


def distinct(masks: np.ndarray, max_iou: float = 0.9) -> np.ndarray:
    """Drop every mask (bool [P, H, W]) that overlaps an earlier kept one by more than `max_iou`."""
    area, kept = areas(masks), np.zeros(len(masks), bool)
    # Masks whose areas differ too much can't overlap that much, which settles most pairs at no cost.
    bound = np.minimum(area[:, None], area) / np.maximum(np.maximum(area[:, None], area), 1)
    for index, near in enumerate(bound > max_iou):
        rivals = np.flatnonzero(near & kept)
        shared = overlaps((masks[rival] for rival in rivals), masks[index])
        iou = shared / np.maximum(area[rivals] + area[index] - shared, 1)
        kept[index] = not (iou > max_iou).any()
    return masks if kept.all() else masks[kept]


def on_small_copy(
    frame: np.ndarray, propose: Callable[[np.ndarray], np.ndarray], side: int = WORKING_SIDE
) -> np.ndarray:
    """Propose on a copy whose longer side is at most `side` pixels; masks come back at frame size."""
    small = shrunk(frame, side)
    masks = propose(small)
    if small.shape == frame.shape:
        return masks
    return resized_masks(masks, frame.shape[:2])


def shrunk(frame: np.ndarray, side: int = WORKING_SIDE) -> np.ndarray:
    """uint8 [H, W, 3] -> the same picture with a longer side of at most `side`; itself if small enough."""
    height, width = frame.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return frame
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))
