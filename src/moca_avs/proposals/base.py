"""Class-agnostic mask proposals: what stands in an image, whatever it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from moca_avs.proposals.masks import drop_duplicates
from moca_avs.utils.frame_cache import CACHED_FRAMES, FrameCache
from moca_avs.utils.profiler import record


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


class JoinedProposer:
    """Several proposers as one; of near-equal masks the first stays.

    A proposer that has an attribute ``joint_limit`` (int) lets no more proposals than that come out of what
    it is joined into; of several the least counts. Proposals of the proposers asked first stay.

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
        limits = [p.joint_limit for p in proposers if hasattr(p, "joint_limit")]
        self.limit = min(limits, default=None)
        if limits:  # joined settings of proposers without a limit are hashed as they always were
            self.settings["limit"] = self.limit

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> bool [P, H, W]."""
        masks = np.concatenate([proposer(frame) for proposer in self.proposers])
        return drop_duplicates(masks, self.max_iou)[: self.limit]


class CachedProposer:
    """Keeps the last frames' proposals: the same image meets several sounds, and videos stand still.

    Args:
        proposer: asked where a frame is new.
        frames: how many answers are kept, packed to one bit a pixel.
    """

    def __init__(self, proposer: Proposer, frames: int = CACHED_FRAMES) -> None:
        self.proposer = proposer
        self.settings, self.parallel = proposer.settings, is_parallel(proposer)
        if hasattr(proposer, "joint_limit"):
            self.joint_limit: int = proposer.joint_limit
        self._answers: FrameCache[tuple[np.ndarray, tuple[int, ...]]] = FrameCache(frames)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> bool [P, H, W]."""
        with record("proposals"):
            bits, shape = self._answers(frame, lambda: self._packed(frame))
            return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).view(bool)

    def _packed(self, frame: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
        masks = self.proposer(frame)
        return np.packbits(masks), masks.shape


def cached_proposer(proposer: Proposer) -> CachedProposer:
    """The proposer with a memory: itself if it has one already, so that no frame is hashed and kept twice."""
    return proposer if isinstance(proposer, CachedProposer) else CachedProposer(proposer)
