"""What stands out in the image, whatever is heard (U2-Netp; Qin et al. 2020): the paper's saliency rows.

The paper's saliency systems (iGAN, LGVT) see no sound either; this one is smaller and can be had offline.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from moca_avs.clip import Clip, Segmentation
from moca_avs.errors import UsageError
from moca_avs.methods.base import versions
from moca_avs.proposals.saliency import INPUT_SIDE, SaliencyProposer
from moca_avs.utils.frame_cache import FrameCache
from moca_avs.utils.profiler import record

GRID = 80  # positions per side of the heat map: the network's own 320 in means of 4 x 4


class Saliency:
    """Deaf: the salient map above a threshold is the mask of every frame, silent ones included.

    Args:
        network: gives the map; None takes the pinned U2-Netp.
        threshold: of the map, scaled to 0..1 over the image; strictly above counts.

    Raises:
        UsageError: if the threshold is not in 0..1.
        WeightsError: if the weights can't be had or read.
    """

    def __init__(self, network: SaliencyProposer | None = None, threshold: float = 0.5) -> None:
        if not 0 <= threshold <= 1:
            raise UsageError(f"threshold must be in 0..1, found {threshold}")
        self.network = network or SaliencyProposer()
        self.threshold = threshold
        self._maps: FrameCache[np.ndarray] = FrameCache()
        self.settings: dict[str, Any] = {
            "method": "saliency",
            "threshold": threshold,
            "weights": self.network.settings["weights"],
            "versions": versions(),
        }

    def __call__(self, clip: Clip) -> Segmentation:
        """Segment every frame of a clip; its sound is not looked at.

        Returns:
            Masks at source size. Heat is the salient map, 80 x 80. `scores` are its mean inside the mask, 0
            where there is none; `reasons` are "" or "nothing salient".
        """
        size = clip.frames.shape[1:3]
        masks = np.zeros((len(clip), *size), bool)
        heatmaps = np.zeros((len(clip), GRID, GRID), np.float16)
        scores = np.zeros(len(clip), np.float32)
        for index, frame in enumerate(clip.frames):
            with record("proposals"):
                salient = self._maps(frame, partial(self.network.saliency, frame))
            step = INPUT_SIDE // GRID
            heatmaps[index] = salient.reshape(GRID, step, GRID, step).mean((1, 3))
            fine = np.asarray(Image.fromarray(salient).resize(size[::-1], Image.Resampling.BILINEAR))
            masks[index] = fine > self.threshold
            scores[index] = fine[masks[index]].mean() if masks[index].any() else 0.0
        reasons = tuple("" if mask.any() else "nothing salient" for mask in masks)
        return Segmentation(masks, heatmaps, scores, reasons, clip.times, self.settings)
