"""Open-world detection: boxes around things whatever they are, and masks from them.

The paper takes the class-agnostic detector of Maaz et al. (2022): "all objects" queries to a multi-modal
detector. `OpenWorldText` asks GroundingDINO, its living relative, the same; `OwlObjectness` is another way,
the objectness head of OWLv2 (Minderer et al. 2023), which needs no words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from moca_avs.hub.huggingface import ModelSources, origin, pretrained
from moca_avs.proposals.base import BoxDetector, BoxSegmenter
from moca_avs.proposals.boxes import NMS_IOU, box_nms, inside_frame
from moca_avs.proposals.grounding_dino import Grounder

QUERIES = (
    "all objects",
    "all entities",
    "all visible entities and objects",
    "all obscure entities and objects",
)
"""Of Maaz et al., each asked by itself."""
MIN_SCORE = 0.5
"""The paper's objectness threshold."""


class OpenWorldText:
    """Boxes around everything, by asking for everything (a `BoxDetector`).

    Args:
        grounder: is asked each query by itself.
        queries: what is asked.
        nms_iou: of two boxes of any queries that overlap more, the one with the lower score goes.
    """

    def __init__(
        self, grounder: Grounder, queries: tuple[str, ...] = QUERIES, nms_iou: float = NMS_IOU
    ) -> None:
        self.grounder = grounder
        self.queries = queries
        self.nms_iou = nms_iou
        self.settings: dict[str, Any] = {
            "name": "openworld-text",
            "queries": list(queries),
            "nms_iou": nms_iou,
            "grounder": grounder.settings,
        }

    def __call__(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [H, W, 3] -> boxes float32 [P, 4] (x0, y0, x1, y1), scores float32 [P], best first."""
        found = [self.grounder(frame, [query]) for query in self.queries]
        boxes, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        kept = box_nms(boxes, scores, self.nms_iou)
        return boxes[kept], scores[kept]


class OwlObjectness:
    """Boxes that OWLv2's objectness head takes for things (a `BoxDetector`).

    Args:
        sources: where the weights come from.
        device: to compute on.
        nms_iou: of two boxes that overlap more, the one with the lower score goes.

    Raises:
        WeightsError: if they are missing, damaged, or no OWLv2.
    """

    def __init__(
        self, sources: ModelSources | None = None, device: str = "cpu", *, nms_iou: float = NMS_IOU
    ) -> None:
        from transformers import Owlv2ForObjectDetection, Owlv2ImageProcessorPil

        sources = sources or ModelSources()
        self.device = device
        self.nms_iou = nms_iou
        self._model = pretrained(Owlv2ForObjectDetection, "owlv2", sources).to(device)
        self._processor = pretrained(Owlv2ImageProcessorPil, "owlv2", sources)
        self.settings: dict[str, Any] = {
            "name": "owl-objectness",
            "nms_iou": nms_iou,
            "weights": origin("owlv2", sources),
        }

    @torch.no_grad()
    def __call__(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [H, W, 3] -> boxes float32 [P, 4] (x0, y0, x1, y1), scores float32 [P], best first."""
        pixels = self._processor(frame, return_tensors="pt")["pixel_values"].float().to(self.device)
        grid, _ = self._model.image_embedder(pixels)
        tokens = grid.flatten(1, 2)
        scores = self._model.objectness_predictor(tokens)[0].sigmoid().numpy(force=True)
        center, extent = self._model.box_predictor(tokens, grid)[0].split(2, dim=1)
        # The processor pads the frame to a square, below and to the right.
        corners = torch.cat([center - extent / 2, center + extent / 2], dim=1) * max(frame.shape[:2])
        boxes, scores = inside_frame(corners.numpy(force=True), scores, (frame.shape[0], frame.shape[1]))
        kept = box_nms(boxes, scores, self.nms_iou)
        return boxes[kept], scores[kept]


class BoxProposals:
    """Detector, then segmenter (a `Proposer`): the paper's cascade of open-world detection and SAM.

    Args:
        detector: gives boxes.
        segmenter: gives their masks.
        min_score: boxes with at most this score are left out.
    """

    def __init__(self, detector: BoxDetector, segmenter: BoxSegmenter, min_score: float = MIN_SCORE) -> None:
        self.detector = detector
        self.segmenter = segmenter
        self.min_score = min_score
        self.settings: dict[str, Any] = {
            "name": "box-proposals",
            "min_score": min_score,
            "detector": detector.settings,
            "segmenter": segmenter.settings,
        }

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> bool [P, H, W], best box first; masks with nothing in them are left out."""
        boxes, scores = self.detector(frame)
        masks = self.segmenter(frame, boxes[scores > self.min_score])
        return masks[masks.any(axis=(1, 2))]
