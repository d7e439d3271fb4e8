"""Clips of the benchmark: a scene, who is heard when, its sound, and the sound of the swap test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moca_avs_bench.stamps.scenes import Pool, Scene, draw_scene
from moca_avs_bench.stamps.sounds import Event, Mix, compose_sound

DISTRACTOR_SHARE = 0.85  # of single-source clips with at least one silent object
THIRD_SHARE = 0.3  # of those, with a second silent object
SILENT_SHARE = 0.15  # of single-source clips with one or two silent seconds
MOVING_SHARE = 0.15  # of clips whose objects drift
ALONE_SHARE = 0.3  # of training clips that show one object only, half of them on a plain ground
GAINS = (-8.0, 2.0)  # dB, of each sound


@dataclass(frozen=True)
class Plan:
    """What is decided about a clip before anything is drawn.

    Attributes:
        layout: "s4", "ms3" or "v2" (ten seconds, AVSS).
        tier: one of `scenes.TIERS`.
        index: within layout and tier.
        category: class of the first object.
        unit: index of the duplicate group its sound comes from.
    """

    layout: str
    tier: str
    index: int
    category: str
    unit: int

    @property
    def split(self) -> str:
        """Official split: "train", "val" or "test"."""
        return self.tier.partition("-")[0]

    @property
    def letter(self) -> str:
        """Tier as reported: "A", "B", "C", or "" in training."""
        return self.tier.partition("-")[2]

    @property
    def name(self) -> str:
        """Unique in the whole benchmark (AVSS mixes the layouts), such as ``cow_s4_valA_0012``."""
        return f"{self.category}_{self.layout}_{self.tier.replace('-', '')}_{self.index:04d}"

    @property
    def seconds(self) -> int:
        """Length, and number of frames."""
        return 10 if self.layout == "v2" else 5


@dataclass(frozen=True, eq=False)
class ClipData:
    """A whole clip.

    Attributes:
        plan: what it was drawn from.
        scene: its images (one frame a second) and objects.
        moving: whether objects drift; if not, all frames are equal.
        active: bool [N, seconds], which object is heard in which second.
        mix: its sound.
        swap: a wholly silent object, and a sound in which it is heard and no other one, in the same seconds
            as `mix` holds any; None where there is no such object.
    """

    plan: Plan
    scene: Scene
    moving: bool
    active: np.ndarray
    mix: Mix
    swap: tuple[int, Mix] | None

    def truth(self) -> np.ndarray:
        """Bool [T, H, W]: pixels of everything that is heard in each second."""
        return (self.scene.masks & self.active[:, :, None, None]).any(axis=0)


def plan_clips(pool: Pool, layout: str, tier: str, count: int, seed: int) -> list[Plan]:
    """Plans that use every independent sound of the pool equally often (give or take one), shuffled."""
    rng = np.random.default_rng([seed, *layout.encode(), *tier.encode()])
    units = pool.units()
    order = [i for _ in range(-(-count // len(units))) for i in rng.permutation(len(units))]
    return [Plan(layout, tier, index, *units[order[index]]) for index in range(count)]


def draw_clip(plan: Plan, pool: Pool, seed: int, size: int) -> ClipData:
    """The clip of a plan; equal for equal plans, seeds, sizes and pools.

    Args:
        plan: of `plan_clips`.
        pool: of the plan's tier.
        seed: of the whole benchmark.
        size: side of the images in pixels.
    """
    rng = np.random.default_rng([seed, plan.index, *plan.layout.encode(), *plan.tier.encode()])
    alone = plan.layout == "s4" and plan.tier == "train" and rng.random() < ALONE_SHARE
    count = 1 if alone else _object_count(plan.layout, rng)
    plain = bool(alone and rng.random() < 0.5)
    moving = bool(rng.random() < MOVING_SHARE)
    classes = pool.draw_classes(rng, count, plan.category)
    scene = draw_scene(pool, rng, classes, size, plan.seconds, moving, plain, plan.unit)
    active = _single(rng, count, plan.seconds) if plan.layout == "s4" else _changing(rng, count, plan.seconds)
    mix = compose_sound(_events(scene, active, rng), plan.seconds, rng)
    silent = np.flatnonzero(~active.any(axis=1))
    swap = None
    if silent.size and plan.split != "train":
        heard = np.zeros_like(active)
        heard[silent[0]] = active.any(axis=0)
        swap = int(silent[0]), compose_sound(_events(scene, heard, rng), plan.seconds, rng)
    return ClipData(plan, scene, moving, active, mix, swap)


def _object_count(layout: str, rng: np.random.Generator) -> int:
    if layout != "s4":
        return int(rng.integers(2, 4))
    if rng.random() >= DISTRACTOR_SHARE:
        return 1
    return 3 if rng.random() < THIRD_SHARE else 2


def _single(rng: np.random.Generator, count: int, seconds: int) -> np.ndarray:
    """The first object is heard, in some clips not in every second: bool [N, seconds]."""
    active = np.zeros((count, seconds), bool)
    active[0] = True
    if rng.random() < SILENT_SHARE:
        active[0, rng.choice(seconds, int(rng.integers(1, 3)), replace=False)] = False
    return active


def _changing(rng: np.random.Generator, count: int, seconds: int) -> np.ndarray:
    """One to all objects are heard, each in a run of its own; what is heard changes: bool [N, seconds].

    At most two fifths of the seconds are silent.
    """
    heard = int(rng.integers(1, count + 1))
    while True:
        active = np.zeros((count, seconds), bool)
        for index in range(heard):
            start = int(rng.integers(0, seconds - 1))
            length = int(rng.integers(1, max(2, seconds * 4 // 5) + 1))
            active[index, start : start + length] = True
        changes = (active[:, 1:] != active[:, :-1]).any()
        if changes and (~active.any(axis=0)).sum() <= seconds * 2 // 5:
            return active


def _events(scene: Scene, active: np.ndarray, rng: np.random.Generator) -> list[Event]:
    return [
        Event(sound.samples(), row, float(rng.uniform(*GAINS)))
        for sound, row in zip(scene.sounds, active, strict=True)
    ]
