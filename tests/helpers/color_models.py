"""What the baselines are made of, in a world of colors and tones."""

from typing import ClassVar

import numpy as np
from scipy import ndimage

from helpers.color_world import LOW, NAMES
from helpers.tiny_encoders import ColorEncoder


def colored(frame, name):
    """bool [H, W]: where a frame is mostly of one color."""
    channel = NAMES.index(name)
    others = np.delete(frame.astype(int), channel, 2).max(2)
    return ndimage.binary_opening(frame[..., channel] - others > 60, np.ones((3, 3)))


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


class ToneTagger:
    """Hears tones; a tone's probability is its share of the power of all three."""

    labels = ("silence", *NAMES)
    settings: ClassVar = {"name": "tones"}

    def __call__(self, sound, sample_rate):
        power = LOW.strengths(sound, sample_rate) ** 2
        return np.array([0.0, *(power / power.sum())], np.float32)


class ColorGrounder:
    """Finds colors by name, with a score of .8."""

    settings: ClassVar = {"name": "colors"}

    def __init__(self):
        self.asked = []

    def __call__(self, frame, phrases):
        self.asked.append(list(phrases))
        masks = [colored(frame, phrase) for phrase in phrases]
        boxes = [box_of(mask) for mask in masks if mask.any()]
        return np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.8, np.float32)


class ColorDetector:
    """Boxes around everything colored, of objectness .9, and one around the whole frame, of .4."""

    settings: ClassVar = {"name": "color boxes"}

    def __init__(self):
        self.asked = 0

    def __call__(self, frame):
        self.asked += 1
        masks = [colored(frame, name) for name in NAMES]
        boxes = [[0, 0, frame.shape[1], frame.shape[0]], *(box_of(mask) for mask in masks if mask.any())]
        scores = np.full(len(boxes), 0.9, np.float32)
        scores[0] = 0.4
        return np.array(boxes, np.float32), scores


class ColorSegmenter:
    """Everything colored inside a box."""

    settings: ClassVar = {"name": "color masks"}

    def __call__(self, frame, boxes):
        masks = np.zeros((len(boxes), *frame.shape[:2]), bool)
        anything = np.any([colored(frame, name) for name in NAMES], axis=0)
        for mask, (left, top, right, bottom) in zip(masks, np.round(boxes).astype(int), strict=True):
            mask[top:bottom, left:right] = anything[top:bottom, left:right]
        return masks


class ColorProposer:
    """Every colored thing, and the ground around them."""

    settings: ClassVar = {"name": "colors"}

    def __call__(self, frame):
        masks = [colored(frame, name) for name in NAMES]
        return np.array([mask for mask in masks if mask.any()] + [~np.any(masks, axis=0)], bool)


class CropEncoder(ColorEncoder):
    """Colors and tones meet, for whole images too."""

    def embed_images(self, images):
        return self.image_stem(images).mean((2, 3))
