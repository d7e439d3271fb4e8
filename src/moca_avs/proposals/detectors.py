"""Detectors: boxes around what a phrase names (GroundingDINO), and boxes around anything (open world).

GroundingDINO (Liu et al. 2023) grounds phrases. For boxes around anything the paper takes the class-agnostic
detector of Maaz et al. (2022): "all objects" queries to a multi-modal detector. `OpenWorldText` asks
GroundingDINO the same; `OwlObjectness` is another way, the objectness head of OWLv2 (Minderer et al. 2023),
which needs no words. Weights and processors: transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from moca_avs.errors import UsageError
from moca_avs.hub.huggingface import ModelSources, origin, pretrained
from moca_avs.proposals.base import BoxDetector, BoxSegmenter
from moca_avs.proposals.boxes import NMS_IOU, box_nms, inside_frame


class Grounder(Protocol):
    """Finds boxes around what phrases name.

    Attributes:
        settings: JSON-able, what is needed to make it again.
    """

    settings: dict[str, Any]

    def __call__(self, frame: np.ndarray, phrases: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [H, W, 3] -> boxes float32 [P, 4] (x0, y0, x1, y1 in pixels) and scores float32 [P]."""
        ...


BOX_THRESHOLD = 0.35
TEXT_THRESHOLD = 0.25
"""Both of the public demo; the paper gives none."""


class GroundingDino:
    """Phrases -> boxes (a `Grounder`).

    A text holds as many phrases as its length allows; what does not fit goes into further texts, and the
    boxes of all are given, best first.

    Args:
        sources: where the weights come from.
        device: to compute on.
        box_threshold: probability (of its best word) above which a box counts.
        text_threshold: a box counts only if a word of a phrase, not a full stop, is above it.

    Raises:
        WeightsError: if weights, processor or tokenizer are missing, damaged, or no GroundingDINO.
    """

    def __init__(
        self,
        sources: ModelSources | None = None,
        device: str = "cpu",
        *,
        box_threshold: float = BOX_THRESHOLD,
        text_threshold: float = TEXT_THRESHOLD,
    ) -> None:
        from transformers import (
            BertTokenizer,
            GroundingDinoForObjectDetection,
            GroundingDinoImageProcessorPil,
            GroundingDinoProcessor,
        )

        sources = sources or ModelSources()
        name = "grounding-dino"
        self.device = device
        self.box_threshold = box_threshold
        self.text_threshold = text_threshold
        self._model = pretrained(GroundingDinoForObjectDetection, name, sources).to(device)
        images = pretrained(GroundingDinoImageProcessorPil, name, sources)
        self._tokenizer = pretrained(BertTokenizer, name, sources)
        self._processor = GroundingDinoProcessor(images, self._tokenizer)
        self._longest = int(self._model.config.max_text_len)
        self.settings: dict[str, Any] = {
            "name": name,
            "box_threshold": box_threshold,
            "text_threshold": text_threshold,
            "weights": origin(name, sources),
        }

    def __call__(self, frame: np.ndarray, phrases: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [H, W, 3] -> boxes float32 [P, 4] (x0, y0, x1, y1 in pixels), scores float32 [P], best first.

        Raises:
            UsageError: if one phrase alone is longer than a text may be.
        """
        found = [self._boxes(frame, text) for text in self.texts(phrases)]
        if not found:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        boxes, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return inside_frame(boxes, scores, (frame.shape[0], frame.shape[1]))

    def texts(self, phrases: Sequence[str]) -> list[str]:
        """Phrases as the model reads them: lower-case, each ended by a full stop, in few texts."""
        texts: list[str] = []
        room = 0
        for phrase in dict.fromkeys(clean(phrase) for phrase in phrases):
            if not phrase:
                continue
            length = len(self._tokenizer(phrase + ".")["input_ids"]) - 2  # without [CLS] and [SEP]
            if length > self._longest - 2:
                raise UsageError(
                    f"a phrase may have {self._longest - 3} word pieces, found {phrase[:60]!r}..."
                )
            if length > room:
                texts.append(phrase + ".")
                room = self._longest - 2 - length
            else:
                texts[-1] += f" {phrase}."
                room -= length
        return texts

    @torch.no_grad()
    def _boxes(self, frame: np.ndarray, text: str) -> tuple[np.ndarray, np.ndarray]:
        inputs = self._processor(
            images=frame, text=text, return_tensors="pt", input_data_format="channels_last"
        ).to(self.device)
        (found,) = self._processor.post_process_grounded_object_detection(
            self._model(**inputs),
            inputs["input_ids"],
            threshold=self.box_threshold,
            text_threshold=self.text_threshold,
            target_sizes=[frame.shape[:2]],
        )
        boxes, scores = found["boxes"].numpy(force=True), found["scores"].numpy(force=True)
        # Decoding the words of no box at all gives one empty word.
        words = found["text_labels"][: len(boxes)]
        named = np.array([bool(word.strip(" .")) for word in words], bool)
        return boxes[named], scores[named]


def clean(phrase: str) -> str:
    """A phrase without the full stops that would end it early: lower-case, single blanks."""
    return " ".join(phrase.lower().replace(".", " ").split())


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
        inputs = self._processor(frame, return_tensors="pt", input_data_format="channels_last")
        pixels = inputs["pixel_values"].float().to(self.device)
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
