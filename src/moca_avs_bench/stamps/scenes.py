"""Classes that sound or look alike. A silent distractor is never of the heard object's class or family.

Written down from common sense, before any result; a class may belong to several families.

Which objects meet in a scene: pools per tier, distractors that can't be mistaken, and their sounds.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from moca_avs.errors import DataError, UsageError
from moca_avs_bench.stamps.compose import compose_scene, plain_ground
from moca_avs_bench.stamps.media import Background, Catalog, Cutout, Sound
from moca_avs_bench.stamps.splits import TEST, TRAIN, UNSEEN, VAL

FAMILIES: dict[str, tuple[str, ...]] = {
    "plucked strings": ("guitar", "electric_guitar", "banjo", "harp"),
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
    "household motors": ("vacuum_cleaner", "washing_machine"),
    "tools": ("saw", "hammer"),
    "water in the house": ("toilet", "bottle", "washing_machine"),
    "frogs and ducks": ("frog", "duck"),
}


def confusable(first: str, second: str) -> bool:
    """Whether two classes are the same or share a family."""
    if first == second:
        return True
    return any(first in members and second in members for members in FAMILIES.values())


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

    def draw_classes(self, rng: np.random.Generator, count: int, first: str | None = None) -> list[str]:
        """`count` classes no two of which can be mistaken for each other, `first` leading if given.

        Raises:
            DataError: if the pool holds no such set.
        """
        for _ in range(100):
            chosen = [first if first is not None else str(rng.choice(self.classes))]
            while len(chosen) < count:
                rest = [c for c in self.classes if not any(confusable(c, other) for other in chosen)]
                if not rest:
                    break
                chosen.append(str(rng.choice(rest)))
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
    """
    cutouts = [pool.draw_cutout(rng, c) for c in classes]
    sounds = [pool.draw_sound(rng, c, unit if i == 0 else None) for i, c in enumerate(classes)]
    if plain:
        ground, name = plain_ground(rng, size), "plain"
    else:
        photo = pool.backgrounds[int(rng.integers(len(pool.backgrounds)))]
        ground, name = photo.pixels(), photo.source
    depth = rng.permutation(len(classes))
    images, masks = compose_scene(ground, [cutouts[i].rgba() for i in depth], rng, size, frames, moving)
    return Scene(images, masks[np.argsort(depth)], tuple(cutouts), tuple(sounds), name)


def sample_scene(
    catalog: Catalog,
    tier: str,
    rng: np.random.Generator,
    n_objects: int = 2,
    size: int = 384,
    frames: int = 1,
    moving: bool = False,
    plain: bool = False,
) -> Scene:
    """A scene of `n_objects` classes that can't be mistaken for each other, drawn from a tier of `TIERS`."""
    pool = Pool.of(catalog, tier)
    return draw_scene(pool, rng, pool.draw_classes(rng, n_objects), size, frames, moving, plain)
