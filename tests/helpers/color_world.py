"""A small world for tests: colored rectangles, each class with its own tone, and methods that hear."""

import numpy as np

from moca_avs.clip import Clip, Segmentation
from moca_avs.data.base import Sample, SceneObject
from moca_avs.errors import DataError

RATE, SIDE, FRAMES = 2000, 24, 5
COLORS = {"dog": (255, 0, 0), "cat": (0, 255, 0), "cow": (0, 0, 255)}
TONES = {"dog": 100.0, "cat": 250.0, "cow": 600.0}


def tone(name, on):
    """float32 [FRAMES * RATE]: the class's tone in the seconds where `on`."""
    wave = np.sin(2 * np.pi * TONES[name] * np.arange(FRAMES * RATE) / RATE)
    return (0.5 * wave * np.repeat(on, RATE)).astype(np.float32)


def hears(sound):
    """The class whose tone is strongest in a sound, "" in silence."""
    if not sound.size or np.abs(sound).max() < 0.01:
        return ""
    time = np.arange(len(sound)) / RATE
    power = {name: abs((sound * np.exp(-2j * np.pi * hz * time)).mean()) for name, hz in TONES.items()}
    return max(power, key=power.get)


class ColorWorld:
    """`size` clips of two objects: one sounds (with silent seconds), the other only under the swap."""

    name, split = "colors", "test"

    def __init__(self, size, broken=(), side=SIDE, tiers=("A", "B")):
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
            clip=self._clip(sample_id, frames, tone(loud, on)),
            masks=boxes[0] & on[:, None, None],
            category=loud,
            cluster=f"{loud}{int(sample_id[4:]) % 4}.wav",
            tier=self.tiers[int(sample_id[4:]) % len(self.tiers)],
            objects=things,
            swapped=(self._clip(sample_id, frames, tone(quiet, on)), boxes[1] & on[:, None, None]),
        )

    def _clip(self, sample_id, frames, sound):
        times = np.arange(FRAMES, dtype=float)
        return Clip(frames, times, sound, RATE, source=sample_id, sound_times=times + 0.5)


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
