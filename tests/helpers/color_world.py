"""A world of colors and tones: each color (or its animal) hums its own, so what sounds is known by its color.

`image`, `video`: three still boxes. `ColorWorld`: a test set of two moving things, and with `ClassWorld` and
`PlaceWorld` the other kinds of dataset. `ColorPairs`: a training set. Below them methods that hear.
"""

from dataclasses import dataclass, replace

import numpy as np

from moca_avs.clip import Clip, Segmentation
from moca_avs.data.base import Sample, SceneObject
from moca_avs.errors import DataError
from moca_avs_bench.metrics.localization import boxes_map

COLORS = {"dog": (255, 0, 0), "cat": (0, 255, 0), "cow": (0, 0, 255)}
NAMES = ("red", "green", "blue")
CLASSES = ("background", "cat", "cow", "dog", "unseen")


@dataclass(frozen=True)
class Tones:
    """A sine for each color at one sample rate."""

    rate: int
    hertz: tuple[float, float, float]

    def tone(self, name, seconds=1.0, level=0.5, phase=0.0):
        """The sine of a color or an animal, `level` its amplitude: float64 [seconds * rate]."""
        hertz = self.hertz[(NAMES if name in NAMES else list(COLORS)).index(name)]
        time = np.arange(round(seconds * self.rate)) / self.rate
        return level * np.sin(2 * np.pi * hertz * time + phase)

    def strengths(self, sound, rate=None):
        """Amplitude of each tone in a sound: float64 [3], up to a factor."""
        time = np.arange(len(sound)) / (rate or self.rate)
        return np.array([abs((sound * np.exp(-2j * np.pi * hz * time)).mean()) for hz in self.hertz])


LOW, HIGH = Tones(2000, (100.0, 250.0, 600.0)), Tones(16_000, (300.0, 1200.0, 4000.0))
RATE, FRAMES, SIDE = LOW.rate, 5, 128
PLACES = {
    "red": (slice(8, 56), slice(8, 56)),
    "green": (slice(64, 120), slice(16, 64)),
    "blue": (slice(40, 100), slice(76, 120)),
}


def image(seed=0):
    """Three colored boxes on gray, and the mask of each."""
    rng = np.random.default_rng(seed)
    frame = np.full((SIDE, SIDE, 3), 110.0)
    masks = {}
    for channel, (name, place) in enumerate(PLACES.items()):
        color = np.full(3, 40.0)
        color[channel] = 220
        frame[place] = color
        masks[name] = np.zeros((SIDE, SIDE), bool)
        masks[name][place] = True
    frame += rng.normal(0, 4, frame.shape)
    return frame.clip(0, 255).astype(np.uint8), masks


def video(heard, room=-55.0):
    """One second per name ("" is silence), a frame in the middle of each; room noise (dBFS) everywhere."""
    rng = np.random.default_rng(0)
    sound = [LOW.tone(name, level=np.sqrt(2) * 0.1) if name else np.zeros(RATE) for name in heard]
    sound = np.concatenate(sound) + 10 ** (room / 20) * rng.standard_normal(len(heard) * RATE)
    frame, masks = image()
    truth = np.stack([masks.get(name, np.zeros((SIDE, SIDE), bool)) for name in heard])
    times = np.arange(len(heard)) + 0.5
    return Clip(np.stack([frame] * len(heard)), times, sound.astype(np.float32), RATE), truth


def hears(sound):
    """The animal whose tone is strongest in a sound, "" in silence."""
    if not sound.size or np.abs(sound).max() < 0.01:
        return ""
    return list(COLORS)[LOW.strengths(sound).argmax()]


class ColorWorld:
    """`size` clips of two objects: one sounds (with silent seconds), the other only under the swap."""

    name, split = "colors", "test"

    def __init__(self, size, broken=(), side=24, tiers=("A", "B")):
        self.size, self.broken, self.side, self.tiers = size, set(broken), side, tiers
        self.loaded = []

    @property
    def ids(self):
        return [f"clip{i:04d}" for i in range(self.size)]

    def __len__(self):
        return self.size

    def _pair(self, sample_id):
        rng = np.random.default_rng(int(sample_id[4:]))
        return rng, [str(name) for name in rng.permutation(list(COLORS))[:2]]

    def categories(self):
        return {sample_id: self._pair(sample_id)[1][0] for sample_id in self.ids}

    def load(self, sample_id):
        self.loaded.append(sample_id)
        if sample_id in self.broken:
            raise DataError(f"{sample_id}.mp4 is missing")
        rng, (loud, quiet) = self._pair(sample_id)
        side, half = self.side, self.side // 2
        frames = np.full((FRAMES, side, side, 3), 90, np.uint8)
        boxes = np.zeros((2, FRAMES, side, side), bool)
        for t in range(FRAMES):
            for k in range(2):
                top, height, width = rng.integers(0, half), rng.integers(3, half), rng.integers(3, half)
                boxes[k, t, top : top + height, k * half : k * half + width] = True
        frames[boxes[0]], frames[boxes[1]] = COLORS[loud], COLORS[quiet]
        on = rng.random(FRAMES) > 0.3
        things = (
            SceneObject(boxes[0], on, loud, f"{loud}.png", f"{loud}.wav"),
            SceneObject(boxes[1], np.zeros(FRAMES, bool), quiet, f"{quiet}.png"),
        )
        return Sample(
            id=sample_id,
            clip=self._clip(sample_id, frames, loud, on),
            masks=boxes[0] & on[:, None, None],
            category=loud,
            cluster=f"{loud}{int(sample_id[4:]) % 4}.wav",
            tier=self.tiers[int(sample_id[4:]) % len(self.tiers)],
            objects=things,
            swapped=(self._clip(sample_id, frames, quiet, on), boxes[1] & on[:, None, None]),
        )

    def _clip(self, sample_id, frames, name, on):
        times = np.arange(FRAMES, dtype=float)
        sound = (LOW.tone(name, FRAMES) * np.repeat(on, RATE)).astype(np.float32)
        return Clip(frames, times, sound, RATE, source=sample_id, sound_times=times + 0.5)


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


def rectangles(names, rng, side):
    """A frame of gray noise with a rectangle for each animal, left to right, and their masks."""
    frame = rng.integers(70, 110, (side, side, 3)).astype(np.uint8)
    masks = np.zeros((len(names), side, side), bool)
    width = side // len(names)
    for k, name in enumerate(names):
        top, left = rng.integers(0, side // 2), k * width + rng.integers(0, max(width - 28, 1))
        masks[k, top : top + 28, left : left + 28] = True
        frame[masks[k]] = COLORS[name]
    return frame, masks


class ColorPairs:
    """To train on: `clips` clips of two frames, a rectangle that hums high in each; classes take turns."""

    side = 64

    def __init__(self, clips=12, seed=0):
        rng = np.random.default_rng(seed)
        self.names = [list(COLORS)[i // 2 % 3] for i in range(2 * clips)]
        self.frames = [rectangles([name], rng, self.side)[0] for name in self.names]
        self.sounds = [HIGH.tone(name, 0.5, phase=rng.random() * 6).astype(np.float32) for name in self.names]
        self.seed = seed

    def __len__(self):
        return len(self.frames)

    def frame(self, index):
        return self.frames[index]

    def sound(self, index):
        return self.sounds[index], HIGH.rate

    def clip_id(self, index):
        return f"clip{index // 2}"

    def fingerprint(self):
        return f"color pairs {len(self)} {self.seed}"


def color_heat(frame, name):
    """float16 [12, 12]: how much each place has the color of a class."""
    if not name:
        return np.full((12, 12), 0.5, np.float16)
    like = (frame == COLORS[name]).all(-1).astype(float)
    step = len(frame) // 12
    return like.reshape(12, step, 12, step).mean((1, 3)).astype(np.float16)


def listener(clip):
    """Masks whatever has the color of what is heard; half a second around each frame, silence = empty."""
    heard = [hears(clip.window(t, 0.5)) for t in range(len(clip))]
    masks = [(f == COLORS.get(name, (1, 2, 3))).all(-1) for f, name in zip(clip.frames, heard, strict=True)]
    heat = [color_heat(f, name) for f, name in zip(clip.frames, heard, strict=True)]
    return said(clip, np.stack(masks), np.stack(heat), ["" if name else "silent" for name in heard])


def painter(clip):
    """Masks everything red, deaf."""
    masks = (clip.frames == COLORS["dog"]).all(-1)
    return said(clip, masks, np.stack([color_heat(f, "dog") for f in clip.frames]), [""] * len(clip))


class AdaptedListener:
    """Its masks come from its own sound, its heat from what its adapters hear."""

    def __init__(self):
        self.settings = {"method": "adapted", "window": 0.5, "sites": (1, 2)}

    supports_adapter_audio = True

    def __call__(self, clip, adapter_clip=None):
        own, adapted = listener(clip), listener(clip if adapter_clip is None else adapter_clip)
        return said(clip, own.masks, adapted.heatmaps, own.reasons)


def said(clip, masks, heat, reasons):
    scores = masks.mean((1, 2)).astype(np.float32)
    return Segmentation(masks, heat, scores, tuple(reasons), clip.times)


def foreground(frame):
    """Whatever is not gray, as one proposal, and an empty one."""
    return np.stack([(frame != 90).any(-1), np.zeros(frame.shape[:2], bool)])


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
