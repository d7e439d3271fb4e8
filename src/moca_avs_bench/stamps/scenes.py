"""Clips of the benchmark: which objects meet in a scene, who is heard when, the sound, and the swap test's.

Pools per tier, distractors that can't be mistaken for what is heard, plans, and clips drawn from plans.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from moca_avs.errors import DataError, UsageError
from moca_avs_bench.stamps.compose import COVER, compose_scene, plain_ground
from moca_avs_bench.stamps.media import Background, Catalog, Cutout, Sound
from moca_avs_bench.stamps.sounds import Event, Mix, compose_sound
from moca_avs_bench.stamps.splits import TEST, TRAIN, UNSEEN, VAL

DISTRACTOR_SHARE = 0.85  # of single-source clips with at least one silent object
THIRD_SHARE = 0.3  # of those, with a second silent object
SILENT_SHARE = 0.15  # of single-source clips with one or two silent seconds
MOVING_SHARE = 0.15  # of clips whose objects drift
ALONE_SHARE = 0.3  # of training clips that show one object only, half of them on a plain ground
GAINS = (-8.0, 2.0)  # dB, of each sound

FAMILIES: dict[str, tuple[str, ...]] = {
    "plucked strings": ("guitar", "electric_guitar", "banjo", "harp"),
    "bars": ("xylophone", "triangle"),
    "bowed strings": ("violin", "cello"),
    "drums": ("drum_kit", "tom_drum", "snare_drum", "bongo", "timpani", "tambourine"),
    "metal and shakers": ("cymbal", "drum_kit", "triangle", "tambourine", "maracas", "castanets"),
    "brass": ("trumpet", "trombone", "tuba", "horn", "saxophone"),
    "woodwind": ("flute", "clarinet", "bassoon", "saxophone"),
    "reeds": ("accordion", "harmonica"),
    "keys": ("piano", "accordion"),
    "knocks": ("hammer", "castanets", "camera", "scissors"),
    "crows": ("crow", "blackbird"),
    "song birds": ("blackbird", "lark", "bird", "cuckoo", "quetzal"),
    "exotic birds": ("bird", "toucan", "quetzal", "peacock"),
    "hooting birds": ("owl", "cuckoo"),
    "poultry": ("chicken", "rooster", "turkey", "peacock"),
    "water birds": ("duck", "goose", "rubberduck", "flamingo", "heron", "penguin", "seagull", "sea_lion"),
    "birds of prey": ("vulture", "owl"),
    "insects": ("bee", "hornet", "grasshopper"),
    "equines": ("donkey", "horse", "zebra"),
    "cattle": ("cow", "bison"),
    "small cattle": ("sheep", "goat", "deer", "camel"),
    "swine": ("pig", "boar", "hippopotamus"),
    "dogs": ("dog", "fox", "wolf"),
    "cats": ("cat", "lion", "tiger"),
    "beasts that roar": ("lion", "tiger", "bear", "elephant", "hippopotamus", "gorilla", "koala"),
    "apes": ("chimp", "gorilla"),
    "sea mammals": ("dolphin", "orca", "whale", "sea_lion"),
    "small mammals": ("mouse", "squirrel", "rabbit", "ferret", "badger"),
    "motors on the road": ("car", "bus", "truck", "firetruck"),
    "engines": ("plane", "helicopter", "train", "bus", "truck", "car", "firetruck"),
    "motors of the world": ("motorcycle", "car", "bus", "truck", "boat", "rocket", "plane", "helicopter"),
    "water around": ("water", "boat", "toilet", "bottle", "washing_machine"),
    "household motors": ("vacuum_cleaner", "washing_machine"),
    "tools": ("saw", "hammer"),
    "water in the house": ("toilet", "bottle", "washing_machine"),
    "frogs and ducks": ("frog", "duck"),
}
"""Classes that sound or look alike; a class may be in several. Written down from common sense, before any
result. A silent distractor is never of the heard object's class or family."""

TIERS: dict[str, tuple[str, str, str]] = {
    "train": (TRAIN, TRAIN, TRAIN),
    "val-B": (TRAIN, VAL, VAL),
    "val-A": (VAL, VAL, VAL),
    "test-B": (TRAIN, TEST, TEST),
    "test-A": (TEST, TEST, TEST),
    "test-C": (UNSEEN, UNSEEN, TEST),
}
"""Tier -> sides of its images, sounds and backgrounds. B: seen images, new sounds; A: new images, new sounds;
C: classes never trained on."""


def confusable(first: str, second: str) -> bool:
    """Whether two classes are the same or share a family."""
    if first == second:
        return True
    return any(first in members and second in members for members in FAMILIES.values())


@dataclass(frozen=True, eq=False)
class Pool:
    """What the scenes of one tier are made of.

    Attributes:
        cutouts: class -> its cut-outs.
        sounds: class -> duplicate groups of its sounds.
        backgrounds: photos.
    """

    cutouts: dict[str, list[Cutout]]
    sounds: dict[str, list[list[Sound]]]
    backgrounds: list[Background]

    @classmethod
    def of(cls, catalog: Catalog, tier: str) -> Pool:
        """Classes that have both images and sounds on the tier's sides.

        Raises:
            UsageError: for an unknown tier.
        """
        if tier not in TIERS:
            raise UsageError(f"tier must be one of {', '.join(TIERS)}, found {tier!r}")
        image_side, sound_side, ground_side = TIERS[tier]
        images: dict[str, list[Cutout]] = defaultdict(list)
        groups: dict[str, dict[str, list[Sound]]] = defaultdict(lambda: defaultdict(list))
        for cutout in catalog.cutouts:
            if cutout.side == image_side and (cutout.kind != "cartoon" or tier == "train"):
                images[cutout.category].append(cutout)
        for sound in catalog.sounds:
            if sound.side == sound_side:
                groups[sound.category][sound.group].append(sound)
        classes = sorted(set(images) & set(groups))
        return cls(
            {c: images[c] for c in classes},
            {c: [groups[c][g] for g in sorted(groups[c])] for c in classes},
            [b for b in catalog.backgrounds if b.side == ground_side],
        )

    @property
    def classes(self) -> list[str]:
        """Sorted names."""
        return sorted(self.cutouts)

    def units(self) -> list[tuple[str, int]]:
        """(class, index of the duplicate group): the independent sounds of the pool."""
        return [(c, i) for c in self.classes for i in range(len(self.sounds[c]))]

    def draw_classes(
        self,
        rng: np.random.Generator,
        count: int,
        first: str | None = None,
        weights: dict[str, float] | None = None,
    ) -> list[str]:
        """`count` classes no two of which can be mistaken for each other, `first` leading if given.

        Each class is as likely as its weight says; without weights all are equally likely.

        Raises:
            DataError: if the pool holds no such set.
        """

        def pick(names: list[str]) -> str:
            if weights is None:
                return str(rng.choice(names))
            share = np.array([weights[name] for name in names])
            return str(rng.choice(names, p=share / share.sum()))

        for _ in range(100):
            chosen = [first if first is not None else pick(self.classes)]
            while len(chosen) < count:
                rest = [c for c in self.classes if not any(confusable(c, other) for other in chosen)]
                if not rest:
                    break
                chosen.append(pick(rest))
            else:
                return chosen
        raise DataError(f"no {count} classes among {', '.join(self.classes)} can be told apart")

    def draw_cutout(self, rng: np.random.Generator, category: str) -> Cutout:
        """A cut-out of the class; a cartoon only where there is nothing else, or one time in four."""
        real = [c for c in self.cutouts[category] if c.kind != "cartoon"]
        choice = self.cutouts[category] if not real or rng.random() < 0.25 else real
        return choice[int(rng.integers(len(choice)))]

    def draw_sound(self, rng: np.random.Generator, category: str, unit: int | None = None) -> Sound:
        """A sound of the class: a duplicate group, then one file of it."""
        groups = self.sounds[category]
        group = groups[int(rng.integers(len(groups))) if unit is None else unit]
        return group[int(rng.integers(len(group)))]


@dataclass(frozen=True, eq=False)
class Scene:
    """A composite, before anything sounds.

    Attributes:
        frames: uint8 [T, H, W, 3].
        masks: bool [N, T, H, W], visible pixels of each object.
        cutouts: N.
        sounds: N, the sound each object makes (or would make).
        background: source of the photo, "plain" for a plain ground.
    """

    frames: np.ndarray
    masks: np.ndarray
    cutouts: tuple[Cutout, ...]
    sounds: tuple[Sound, ...]
    background: str

    @property
    def frame(self) -> np.ndarray:
        """The first frame, uint8 [H, W, 3]."""
        return self.frames[0]

    @property
    def categories(self) -> tuple[str, ...]:
        """Class of each object."""
        return tuple(cutout.category for cutout in self.cutouts)


def draw_scene(
    pool: Pool,
    rng: np.random.Generator,
    classes: list[str],
    size: int = 384,
    frames: int = 1,
    moving: bool = False,
    plain: bool = False,
    unit: int | None = None,
    cover: tuple[float, float] = COVER,
) -> Scene:
    """Draw cut-outs and sounds of the given classes and compose them on a photo of the pool.

    Args:
        pool: where to draw from.
        rng: source of every choice.
        classes: of the objects; the order of depth is drawn.
        size: side in pixels.
        frames: T.
        moving: whether objects drift.
        plain: a plain ground instead of a photo.
        unit: index of the duplicate group that the first object's sound is taken from; None draws it.
        cover: smallest and largest part of the image that an object covers.
    """
    cutouts = [pool.draw_cutout(rng, c) for c in classes]
    sounds = [pool.draw_sound(rng, c, unit if i == 0 else None) for i, c in enumerate(classes)]
    if plain:
        ground, name = plain_ground(rng, size), "plain"
    else:
        photo = pool.backgrounds[int(rng.integers(len(pool.backgrounds)))]
        ground, name = photo.pixels(), photo.source
    depth = rng.permutation(len(classes))
    images, masks = compose_scene(
        ground, [cutouts[i].rgba() for i in depth], rng, size, frames, moving, cover
    )
    return Scene(images, masks[np.argsort(depth)], tuple(cutouts), tuple(sounds), name)


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
    if alone:
        count = 1
    elif plan.layout != "s4":
        count = int(rng.integers(2, 4))
    elif rng.random() >= DISTRACTOR_SHARE:
        count = 1
    else:
        count = 3 if rng.random() < THIRD_SHARE else 2
    plain = bool(alone and rng.random() < 0.5)
    moving = bool(rng.random() < MOVING_SHARE)
    classes = pool.draw_classes(rng, count, plan.category)
    scene = draw_scene(pool, rng, classes, size, plan.seconds, moving, plain, plan.unit)
    if plan.layout == "s4":  # the first object is heard, in some clips not in every second
        active = np.zeros((count, plan.seconds), bool)
        active[0] = True
        if rng.random() < SILENT_SHARE:
            active[0, rng.choice(plan.seconds, int(rng.integers(1, 3)), replace=False)] = False
    else:
        active = _changing(rng, count, plan.seconds)
    mix = compose_sound(_events(scene, active, rng), plan.seconds, rng)
    silent = np.flatnonzero(~active.any(axis=1))
    swap = None
    if silent.size and plan.split != "train":
        heard = np.zeros_like(active)
        heard[silent[0]] = active.any(axis=0)
        swap = int(silent[0]), compose_sound(_events(scene, heard, rng), plan.seconds, rng)
    return ClipData(plan, scene, moving, active, mix, swap)


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
