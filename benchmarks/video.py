"""The video that benchmarks segment: cut-outs of real things drift over real photos, heard in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from moca_avs.hub import debian
from moca_avs.io.write_video import write_video
from moca_avs_bench.demo import PACKAGES, PAIRS, unseen_media
from moca_avs_bench.stamps.media import RATE as HERTZ
from moca_avs_bench.stamps.scenes import Pool, Scene, draw_scene
from moca_avs_bench.stamps.sounds import Event, compose_sound

SCENE = 5  # seconds; the two things of a scene take turns every second


def make_video(path: Path, seconds: int, height: int = 360, fps: int = 25) -> Path:
    """Write a 16:9 video in H.264 and AAC; one that is there already is kept.

    Args:
        path: an MP4.
        seconds: its length, a multiple of 5.
        height: in pixels.
        fps: frames per second.
    """
    if path.is_file():
        return path
    debian.unpacked_all(PACKAGES)
    pool, scenes = unseen_media(), seconds // SCENE
    drawn = [_scene(pool, index, height, 1) for index in range(scenes)]
    sound = np.concatenate([_sound(scene, index) for index, scene in enumerate(drawn)])
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(scenes * SCENE * fps) / fps
    return write_video(path, _images(pool, scenes, height, fps), times, sound, HERTZ)


def _scene(pool: Pool, index: int, height: int, frames: int) -> Scene:
    rng = np.random.default_rng([index, height])
    return draw_scene(pool, rng, list(PAIRS[index % len(PAIRS)]), width_of(height), frames, moving=True)


def width_of(height: int) -> int:
    """Of a 16:9 image, even: 640 for 360."""
    return round(height * 8 / 9) * 2


def _images(pool: Pool, scenes: int, height: int, fps: int) -> Iterator[np.ndarray]:
    for index in range(scenes):
        frames = _scene(pool, index, height, SCENE * fps).frames
        top = (frames.shape[1] - height) // 2
        yield from frames[:, top : top + height]


def _sound(scene: Scene, index: int) -> np.ndarray:
    turns = np.arange(SCENE) % 2
    events = [Event(one.samples(), turns == turn) for turn, one in enumerate(scene.sounds)]
    return compose_sound(events, SCENE, np.random.default_rng([1, index])).sound
