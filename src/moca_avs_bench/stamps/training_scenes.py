"""Frames to train on: objects small and large, people, photos as they are; each with the sound that plays."""

from __future__ import annotations

import numpy as np
from PIL import Image

from moca_avs_bench.stamps.compose import COVER
from moca_avs_bench.stamps.media import Sound
from moca_avs_bench.stamps.scenes import Pool, draw_scene

AS_IN_TESTS = 0.4  # share of frames whose objects are as small as in the benchmark
ALONE_SHARE, PLAIN_SHARE = 0.3, 0.15
LARGE = {1: (0.1, 0.65), 2: (0.08, 0.4), 3: (0.06, 0.25)}
"""Number of objects -> smallest and largest part of the frame that each covers, in the other frames."""
AS_IT_IS = 0.5  # share of single objects with whole photos that are shown in their own photo


def draw_frame(pool: Pool, rng: np.random.Generator, size: int = 384) -> tuple[np.ndarray, Sound]:
    """One frame, and the sound of one of its objects.

    A class is drawn in proportion to the root of how many independent sounds it has, be it heard or silent;
    so people, whose voices are the most recorded, are often there and as often say nothing.

    Args:
        pool: of the train side.
        rng: source of every choice.
        size: side in pixels.

    Returns:
        uint8 [size, size, 3], and a sound of the first object.
    """
    count = 1 if rng.random() < ALONE_SHARE else int(rng.integers(2, 4))
    weights = {name: float(np.sqrt(len(groups))) for name, groups in pool.sounds.items()}
    classes = pool.draw_classes(rng, count, weights=weights)
    whole = [cutout for cutout in pool.cutouts[classes[0]] if cutout.kind in ("whole", "scene")]
    if count == 1 and whole and rng.random() < AS_IT_IS:
        photo = whole[int(rng.integers(len(whole)))].picture()
        return cropped(photo, rng, size), pool.draw_sound(rng, classes[0])
    cover = COVER if rng.random() < AS_IN_TESTS else LARGE[count]
    scene = draw_scene(pool, rng, classes, size, plain=rng.random() < PLAIN_SHARE, cover=cover)
    return scene.frame, scene.sounds[0]


def cropped(photo: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """Most of a photo, stretched to a square as the encoder does, maybe mirrored: uint8 [size, size, 3]."""
    height, width = (round(side * rng.uniform(0.75, 1.0)) for side in photo.shape[:2])
    y, x = int(rng.integers(photo.shape[0] - height + 1)), int(rng.integers(photo.shape[1] - width + 1))
    part = photo[y : y + height, x : x + width]
    image = Image.fromarray(part).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image)[:, :: -1 if rng.random() < 0.5 else 1]
