"""The small world of `color_world` as the other kinds of dataset: class maps, and one image a sample."""

from dataclasses import replace

import numpy as np

from helpers.color_world import COLORS, ColorWorld, hears, listener, painter
from moca_avs_bench.metrics.localization import boxes_map

CLASSES = ("background", "cat", "cow", "dog", "unseen")


class ClassWorld(ColorWorld):
    """Every clip with a class index for each pixel."""

    name, kind, classes = "classes", "semantic", CLASSES

    def load(self, sample_id):
        sample = super().load(sample_id)
        labels = sample.masks.astype(np.uint8) * np.uint8(CLASSES.index(sample.category))
        return replace(sample, labels=labels, classes=CLASSES)


class PlaceWorld(ColorWorld):
    """The first frame of every clip, its objects' box as the truth."""

    name, kind = "places", "localization"

    def load(self, sample_id):
        sample = super().load(sample_id)
        clip, seen = sample.clip, (sample.clip.frames[0] == COLORS[sample.category]).all(-1)
        rows, columns = np.nonzero(seen)
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / len(seen)
        first = replace(
            clip, frames=clip.frames[:1], times=clip.times[:1], sound_times=np.array([len(clip) / 2])
        )
        return replace(
            sample, clip=first, masks=seen[None], objects=(), swapped=None, consensus=boxes_map(box[None])
        )


def namer(clip):
    """`listener`, naming the class that it hears."""
    said = listener(clip)
    heard = [hears(clip.window(t, 0.5)) for t in range(len(clip))]
    index = np.array([CLASSES.index(name) if name else 0 for name in heard], np.uint8)
    return replace(said, labels=said.masks.astype(np.uint8) * index[:, None, None])


def long_listener(clip):
    """Heats whatever has the color of the loudest tone of the whole clip."""
    return listener(
        replace(clip, sound_times=np.full(len(clip), np.abs(clip.sound).argmax() / clip.sample_rate))
    )


def sign_painter(clip):
    """`painter`, naming everything a cat."""
    said = painter(clip)
    return replace(said, labels=said.masks.astype(np.uint8))
