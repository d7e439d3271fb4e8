"""A method of one's own: a disk in the center of every audible frame. What a method that cannot see gets.

    MOCA_AVS_PLUGINS=examples/center_method.py moca segment band.mp4 -o out --method center-disk
    MOCA_AVS_PLUGINS=examples/center_method.py moca eval --root stamps --method center-disk --out center.json

`FrameMethod` does the rest: the silence gate, batches, masks at source size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from moca_avs import register_method
from moca_avs.methods.base import ClipFrame, FrameMethod, FramePrediction, versions
from moca_avs.methods.config import MethodConfig
from moca_avs.methods.factory import MethodParts
from moca_avs.proposals.masks import downscale


@dataclass(frozen=True)
class DiskConfig(MethodConfig):
    """Fields are the method's settings: ``--set radius=.3``."""

    radius: float = 0.35
    """Of the disk, as a share of the shorter side."""


class CenterDisk(FrameMethod):
    """A disk in the center; it takes no encoder, so none is loaded."""

    def __init__(self, config: DiskConfig) -> None:
        self.config: DiskConfig = config
        self.grid = 16
        self.settings = {"method": "center-disk", **config.to_dict(), "versions": versions()}

    def predict_frames(self, frames: list[ClipFrame]) -> Iterator[FramePrediction]:
        """A prediction for each audible frame, on a copy of at most ``working_side`` pixels."""
        for frame in frames:
            height, width = downscale(frame.image, self.config.working_side).shape[:2]
            mask = self._disk(height, width)
            yield FramePrediction(mask, self._disk(16, 16).astype(np.float16), 1.0, "")

    def _disk(self, height: int, width: int) -> np.ndarray:
        rows, columns = np.mgrid[:height, :width]
        reach = self.config.radius * min(height, width)
        return np.hypot(rows - (height - 1) / 2, columns - (width - 1) / 2) <= reach


def build(config: DiskConfig, parts: MethodParts) -> CenterDisk:
    """`parts` would give the encoder, proposers and taggers; nothing is built that isn't asked for."""
    return CenterDisk(config)


register_method("center-disk", build, "a disk in the center", config=DiskConfig, replace=True)
