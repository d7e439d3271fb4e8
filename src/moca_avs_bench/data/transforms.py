"""Images of any size to the square at which the public scripts evaluate."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIDE = 224
"""Pixels per side at which AVSS and the localization sets are evaluated (aspect squashed)."""


def resize_square(frame: np.ndarray, side: int) -> np.ndarray:
    """Uint8 [H, W, 3] -> uint8 [side, side, 3], bilinear."""
    if frame.shape[:2] == (side, side):
        return frame
    return np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BILINEAR))


def resize_square_labels(labels: np.ndarray, side: int) -> np.ndarray:
    """Uint8 [H, W] -> uint8 [side, side], each pixel the nearest one's value."""
    if labels.shape == (side, side):
        return labels
    return np.asarray(Image.fromarray(labels).resize((side, side), Image.Resampling.NEAREST))
