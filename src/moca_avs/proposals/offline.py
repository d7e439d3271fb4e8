"""Boxes from mask proposals, and masks for boxes: `lite`'s stand-ins for an open-world detector and SAM.

Grounding without text: where the image network sees a class, or what makes a sound by a hand-made table.
`lite`'s stand-ins for GroundingDINO.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from moca_avs.cues.tags import PRIOR_SHARE, TEMPERATURE, tag_heat
from moca_avs.encoders.audio_tagging import imagenet_label
from moca_avs.encoders.audioset import audioset_labels, table_hash
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


class _Maps:
    """What the two grounders by class maps share: ImageNet's logits over a frame, and boxes around hot parts.

    A box goes around every connected part (8 neighbors) above `share` of a map's highest value.
    """

    labels: tuple[str, ...]

    def __init__(self, encoder: LiteEncoder, box_threshold: float, share: float, name: str) -> None:
        self.encoder, self.box_threshold, self.share = encoder, box_threshold, share
        self._index = {label: index for index, label in enumerate(self.labels)}
        self._looked: FrameCache[np.ndarray] = FrameCache(8)
        self.settings: dict[str, Any] = {
            "name": name,
            "weights": encoder.weights_hash(),
            "image_size": encoder.image_size,
            "box_threshold": box_threshold,
            "share": share,
        }

    def __call__(self, frame: np.ndarray, phrases: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [H, W, 3] and phrases among `labels` -> boxes float32 [P, 4] (pixels), scores float32 [P].

        Raises:
            UsageError: for a phrase that is no such label.
        """
        unknown = [phrase for phrase in phrases if phrase not in self._index]
        if unknown:
            raise UsageError(
                f"class maps are found by label ({self.labels[0]!r}, ...), not by text: {unknown[0]!r}"
            )
        looked = self._looked(frame, lambda: self._prepare(self._logits(frame)))
        boxes, scores = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
        for phrase in phrases:
            heat = self._heat(looked, self._index[phrase])
            corners, peaks = self._hot_parts(heat, frame.shape[:2])
            found = self._score(peaks)
            boxes.append(corners[found > self.box_threshold])
            scores.append(found[found > self.box_threshold])
        return np.concatenate(boxes), np.concatenate(scores)

    def _prepare(self, logits: np.ndarray) -> np.ndarray:
        """What is kept of a frame, from its logits [1000, h, w]."""
        raise NotImplementedError

    def _heat(self, looked: np.ndarray, index: int) -> np.ndarray:
        """Map of one label, [h, w]."""
        raise NotImplementedError

    def _score(self, peaks: np.ndarray) -> np.ndarray:
        """Scores in [0, 1] of parts whose highest values are `peaks`."""
        raise NotImplementedError

    @torch.inference_mode()
    def _logits(self, frame: np.ndarray) -> np.ndarray:
        """Of ImageNet's classes at every position, float32 [1000, h, w]."""
        state = self.encoder.image_state(self.encoder.prepare_images(frame[None]))
        return self.encoder.logit_map(state)[0].cpu().numpy()

    def _hot_parts(self, heat: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Boxes in pixels [P, 4] and highest values [P] of a map's [h, w] hot parts."""
        labels, count = ndimage.label(heat > max(self.share * heat.max(), 0), np.ones((3, 3)))
        peaks = np.array([heat[labels == part].max() for part in range(1, count + 1)], np.float32)
        cell = np.array([size[1] / heat.shape[1], size[0] / heat.shape[0]] * 2, np.float32)
        corners = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
        return np.array(corners, np.float32).reshape(-1, 4) * cell, peaks


class ClassMapGrounder(_Maps):
    """Boxes around the hot parts of an ImageNet class's map; phrases are "imagenet 207".

    A class's map is its logit at every position, less the mean over all classes there (which follows how much
    of anything is there), in units of the standard deviation over all classes and positions of the image. A
    part's score is the logistic function of its highest value less `offset`.

    Args:
        encoder: its image trunk is used.
        box_threshold: least score of a box.
        share: of the map's highest value, above which a position belongs to a box.
        offset: standard deviations at which the score is one half.
    """

    labels = tuple(imagenet_label(index) for index in range(1000))

    def __init__(
        self, encoder: LiteEncoder, box_threshold: float = 0.35, share: float = 0.5, offset: float = 2.0
    ) -> None:
        super().__init__(encoder, box_threshold, share, "class-maps")
        self.offset = offset
        self.settings["offset"] = offset

    def _prepare(self, logits: np.ndarray) -> np.ndarray:
        maps = logits - logits.mean(0)
        return maps / maps.std(ddof=1)

    def _heat(self, looked: np.ndarray, index: int) -> np.ndarray:
        return looked[index]

    def _score(self, peaks: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(self.offset - peaks))


class AudiosetMapGrounder(_Maps):
    """Boxes around what looks like the source of a sound; phrases are AudioSet's names ("Bark").

    Hand-made knowledge, nothing trained: a label's map is `moca_avs.cues.tags.tag_heat` of that tag alone, by
    the table of `moca_avs.encoders.audioset`. A part's score is x / (x + `half`), x its highest value. Where
    a narrow tag's object is in the picture its highest value is mostly above 4, where it isn't below 2; a
    wide tag ("Animal") does not exceed 1000 classes over its own number.

    Args:
        encoder: its image trunk is used.
        box_threshold: least score of a box.
        share: of the map's highest value, above which a position belongs to a box.
        half: heat at which the score is one half.
    """

    labels = audioset_labels()

    def __init__(
        self, encoder: LiteEncoder, box_threshold: float = 0.35, share: float = 0.5, half: float = 3.0
    ) -> None:
        super().__init__(encoder, box_threshold, share, "audioset-maps")
        self.half = half
        self.settings |= {"half": half, "table": table_hash(), "tag_heat": [TEMPERATURE, PRIOR_SHARE]}

    def _prepare(self, logits: np.ndarray) -> np.ndarray:
        return logits

    def _heat(self, looked: np.ndarray, index: int) -> np.ndarray:
        scores = np.zeros(len(self.labels), np.float32)
        scores[index] = 1
        return tag_heat(scores, looked)

    def _score(self, peaks: np.ndarray) -> np.ndarray:
        return peaks / (peaks + self.half)
