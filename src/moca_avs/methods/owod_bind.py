"""OWOD-BIND (paper section 4.1, II): boxes around anything, kept where they sound. Nothing is trained."""

from __future__ import annotations

from itertools import starmap
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moca_avs.clip import Clip, Segmentation
from moca_avs.encoders.base import AudioVisualEncoder
from moca_avs.methods.config import BaselineConfig
from moca_avs.methods.hearing import (
    Answer,
    Labeller,
    answered,
    encoder_settings,
    frames_and_sounds,
    versions,
)
from moca_avs.methods.regions import (
    box_crops,
    cosines,
    embedded,
    nothing,
    painted,
    passing,
    together,
)
from moca_avs.proposals.base import BoxDetector, BoxSegmenter
from moca_avs.proposals.shapes import box_masks
from moca_avs.remembering import ByFrame
from moca_avs.stages import stage


class OwodBind:
    """Class-agnostic boxes -> those whose crops match the sound -> masks -> their union.

    Args:
        encoder: frozen; holds crops and sounds in one space.
        detector: finds boxes and how much each looks like an object.
        segmenter: boxes to masks.
        config: ``objectness`` (the paper's tau_BB), ``bind_threshold`` (tau_BIND) and ``score``.
        labeller: says what the masks are; None: `Segmentation.labels` stays None.
    """

    def __init__(
        self,
        encoder: AudioVisualEncoder,
        detector: BoxDetector,
        segmenter: BoxSegmenter,
        config: BaselineConfig | None = None,
        labeller: Labeller | None = None,
    ) -> None:
        self.config = config or BaselineConfig()
        self.encoder, self.detector, self.segmenter = encoder, detector, segmenter
        self.labeller = labeller
        self._seen: ByFrame[tuple[np.ndarray, Tensor]] = ByFrame()
        self.settings: dict[str, Any] = {
            "method": "owod-bind",
            **self.config.to_dict(),
            "encoder": encoder_settings(encoder),
            "detector": detector.settings,
            "segmenter": segmenter.settings,
            "labels": None if labeller is None else labeller.settings,
            "versions": versions(),
        }

    @torch.inference_mode()
    def __call__(self, clip: Clip) -> Segmentation:
        """Segment every frame of a clip.

        Returns:
            Masks at source size. `scores` are the highest cosine of a box with the sound. Heat at a pixel is
            (1 + cosine) / 2 of the best box that covers it, 0 where none does. `reasons`: "", "silent", "no
            sound", "no box" (nothing looks like an object), "below threshold", "no mask".
        """
        return answered(
            clip,
            self.config,
            self.encoder.grid,
            self.settings,
            lambda rows: starmap(self._answer, frames_and_sounds(self.encoder, clip, rows, self.config)),
            self.labeller,
        )

    def _answer(self, frame: np.ndarray, sound: Tensor) -> Answer:
        boxes, regions = self._seen(frame, lambda: self._look(frame))
        if not len(boxes):
            return nothing(frame, self.encoder.grid, "no box")
        cosine = cosines(regions, sound)
        heat = painted(box_masks(boxes, frame.shape[:2]), (1 + cosine) / 2, self.encoder.grid)
        taken = passing(cosine, self.config)
        if not taken.any():
            return nothing(frame, heat, "below threshold")
        with stage("proposals"):
            masks = self.segmenter(frame, boxes[taken])
        return together(masks, heat, float(cosine[taken].max()))

    def _look(self, frame: np.ndarray) -> tuple[np.ndarray, Tensor]:
        """Boxes that look like objects, float32 [P, 4], and what they show, [P, E]."""
        with stage("proposals"):
            boxes, scores = self.detector(frame)
        boxes = boxes[scores > self.config.objectness]
        return boxes, embedded(self.encoder, box_crops(frame, boxes), self.config.crop_batch)
