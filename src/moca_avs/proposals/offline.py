"""Boxes from mask proposals, and masks for boxes: `lite`'s stand-ins for an open-world detector and SAM.

Grounding without text: where the image network sees a class. `lite`'s stand-in for GroundingDINO.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from moca_avs.encoders.audio_tagging import imagenet_label
from moca_avs.encoders.lite import LiteEncoder
from moca_avs.errors import UsageError
from moca_avs.proposals.base import Proposer
from moca_avs.proposals.boxes import bounding_boxes, box_iou, box_masks, box_nms
from moca_avs.utils.frame_cache import FrameCache


class ProposalBoxes:
    """Boxes around mask proposals; what stands out looks like an object.

    A box's objectness is the mean saliency inside its proposal's mask.

    Args:
        proposer: gives the masks.
        saliency: frame uint8 [H, W, 3] -> float [h, w] in [0, 1] (`SaliencyProposer.saliency`).
        max_iou: of boxes that overlap more, only the one with the highest objectness stays.
    """

    def __init__(
        self, proposer: Proposer, saliency: Callable[[np.ndarray], np.ndarray], max_iou: float = 0.8
    ) -> None:
        self.proposer, self.saliency, self.max_iou = proposer, saliency, max_iou
        self.settings: dict[str, Any] = {
            "name": "proposal-boxes",
            "max_iou": max_iou,
            "proposer": proposer.settings,
        }

    def __call__(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [H, W, 3] -> boxes float32 [P, 4], objectness float32 [P] in [0, 1], the highest first."""
        masks = self.proposer(frame)
        masks = masks[masks.any((1, 2))]
        size = frame.shape[1], frame.shape[0]
        salient = Image.fromarray(self.saliency(frame).astype(np.float32))
        salient_map = np.asarray(salient.resize(size, Image.Resampling.BILINEAR))
        objectness = np.array([salient_map[mask].mean() for mask in masks], np.float32).clip(0, 1)
        boxes = bounding_boxes(masks)
        kept = box_nms(boxes, objectness, self.max_iou)
        return boxes[kept], objectness[kept]


class ProposalSegmenter:
    """For each box the mask proposal whose own box fits it best; the box itself where none fits.

    Args:
        proposer: gives the masks.
        min_iou: least overlap of the two boxes.
    """

    def __init__(self, proposer: Proposer, min_iou: float = 0.3) -> None:
        self.proposer, self.min_iou = proposer, min_iou
        self.settings: dict[str, Any] = {
            "name": "proposal-segmenter",
            "min_iou": min_iou,
            "proposer": proposer.settings,
        }

    def __call__(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] and float32 [P, 4] -> bool [P, H, W], in the order of the boxes."""
        masks = box_masks(boxes, frame.shape[:2])
        proposals = self.proposer(frame)
        if len(proposals) and len(boxes):
            iou = box_iou(boxes, bounding_boxes(proposals))
            fits = iou.max(1) > self.min_iou
            masks[fits] = proposals[iou.argmax(1)[fits]]
        return masks


_INDEX = {imagenet_label(index): index for index in range(1000)}


class ClassMapGrounder:
    """Boxes around the hot parts of a class's map.

    A class's map is its logit at every position, less the mean over all classes there (which follows how much
    of anything is there). A box goes around every
    connected part (8 neighbours) above half of the map's highest value; its score is the logistic function of
    its highest value in units of the standard deviation over all classes and positions of the image, less
    `offset`.

    Args:
        encoder: its image trunk is used.
        box_threshold: least score of a box.
        share: of the map's highest value, above which a position belongs to a box.
        offset: standard deviations at which the score is one half.
    """

    def __init__(
        self, encoder: LiteEncoder, box_threshold: float = 0.35, share: float = 0.5, offset: float = 2.0
    ) -> None:
        self.encoder = encoder
        self.box_threshold, self.share, self.offset = box_threshold, share, offset
        self._maps: FrameCache[np.ndarray] = FrameCache(8)
        self.settings: dict[str, Any] = {
            "name": "class-maps",
            "weights": encoder.weights_hash(),
            "image_size": encoder.image_size,
            "box_threshold": box_threshold,
            "share": share,
            "offset": offset,
        }

    def __call__(self, frame: np.ndarray, phrases: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [H, W, 3] and ImageNet labels ("imagenet 207") -> boxes float32 [P, 4], scores float32 [P].

        Raises:
            UsageError: for a phrase that is no such label.
        """
        unknown = [phrase for phrase in phrases if phrase not in _INDEX]
        if unknown:
            raise UsageError(f'class maps are found by label ("imagenet 207"), not by text: {unknown[0]!r}')
        maps = self._maps(frame, lambda: self._look(frame))
        found = [self._boxes(maps[_INDEX[phrase]], frame.shape[:2]) for phrase in phrases]
        boxes = [boxes for boxes, _ in found] or [np.zeros((0, 4), np.float32)]
        scores = [scores for _, scores in found] or [np.zeros(0, np.float32)]
        return np.concatenate(boxes), np.concatenate(scores)

    @torch.inference_mode()
    def _look(self, frame: np.ndarray) -> np.ndarray:
        """Standardized class maps, float32 [1000, h, w]."""
        state = self.encoder.image_stem(self.encoder.prepare_images(frame[None]))
        for index in range(self.encoder.image_blocks):
            state = self.encoder.image_block(index, state)
        maps = self.encoder.logit_map(state)[0]
        maps = maps - maps.mean(0)
        return (maps / maps.std()).cpu().numpy()

    def _boxes(self, heat: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Boxes in pixels [P, 4] and scores [P] of one class's map [h, w]."""
        labels, count = ndimage.label(heat > max(self.share * heat.max(), 0), np.ones((3, 3)))
        parts = range(1, count + 1)
        peaks = np.array([heat[labels == part].max() for part in parts], np.float32)
        cell = np.array([size[1] / heat.shape[1], size[0] / heat.shape[0]] * 2, np.float32)
        corners = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
        scores = 1 / (1 + np.exp(self.offset - peaks))
        kept = scores > self.box_threshold
        return (np.array(corners, np.float32).reshape(-1, 4) * cell)[kept], scores[kept]
