"""SAM-BIND (paper section 4.1, III): masks of anything, kept where they sound. Nothing is trained."""

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
from moca_avs.methods.regions import cosines, embedded, masked_crops, nothing, painted, passing, together
from moca_avs.proposals.base import Proposer, remembering
from moca_avs.remembering import ByFrame


class SamBind:
    """Mask proposals -> those whose masked crops match the sound -> their union.

    Args:
        encoder: frozen; holds crops and sounds in one space.
        proposer: finds masks (SAM under a grid of points, filtered by quality and overlap).
        config: ``bind_threshold`` and ``score``; the paper names no threshold of its own for this baseline.
        labeller: says what the masks are; None: `Segmentation.labels` stays None.
    """

    def __init__(
        self,
        encoder: AudioVisualEncoder,
        proposer: Proposer,
        config: BaselineConfig | None = None,
        labeller: Labeller | None = None,
    ) -> None:
        self.config = config or BaselineConfig()
        self.encoder, self.proposer, self.labeller = encoder, remembering(proposer), labeller
        self._seen: ByFrame[Tensor] = ByFrame()
        self.settings: dict[str, Any] = {
            "method": "sam-bind",
            **self.config.to_dict(),
            "encoder": encoder_settings(encoder),
            "proposer": proposer.settings,
            "labels": None if labeller is None else labeller.settings,
            "versions": versions(),
        }

    @torch.inference_mode()
    def __call__(self, clip: Clip) -> Segmentation:
        """Segment every frame of a clip.

        Returns:
            Masks at source size. `scores` are the highest cosine of a proposal with the sound. Heat at a
            pixel is (1 + cosine) / 2 of the best proposal that covers it, 0 where none does. `reasons`: "",
            "silent", "no sound", "no proposal", "below threshold".
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
        masks = self.proposer(frame)
        masks = masks[masks.any((1, 2))]
        if not len(masks):
            return nothing(frame, self.encoder.grid, "no proposal")
        regions = self._seen(
            frame, lambda: embedded(self.encoder, masked_crops(frame, masks), self.config.crop_batch)
        )
        cosine = cosines(regions, sound)
        heat = painted(masks, (1 + cosine) / 2, self.encoder.grid)
        taken = passing(cosine, self.config)
        if not taken.any():
            return nothing(frame, heat, "below threshold")
        return together(masks[taken], heat, float(cosine[taken].max()))
