"""The color world to train on: a colored rectangle on gray noise with its own tone, two frames a clip."""

import numpy as np

from helpers.color_world import COLORS

RATE, SIDE = 16_000, 64
TONES = {"dog": 300.0, "cat": 1200.0, "cow": 4000.0}


def tone(name, seconds=0.5, phase=0.0):
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * TONES[name] * time + phase)).astype(np.float32)


def image(names, rng):
    """A frame with a rectangle for each name, left to right, and their masks."""
    frame = rng.integers(70, 110, (SIDE, SIDE, 3)).astype(np.uint8)
    masks = np.zeros((len(names), SIDE, SIDE), bool)
    width = SIDE // len(names)
    for k, name in enumerate(names):
        top, left = rng.integers(0, SIDE // 2), k * width + rng.integers(0, max(width - 28, 1))
        masks[k, top : top + 28, left : left + 28] = True
        frame[masks[k]] = COLORS[name]
    return frame, masks


class ColorPairs:
    """`clips` clips of two frames; classes take turns."""

    def __init__(self, clips=12, seed=0):
        rng = np.random.default_rng(seed)
        self.names = [list(COLORS)[i // 2 % 3] for i in range(2 * clips)]
        self.frames = [image([name], rng)[0] for name in self.names]
        self.sounds = [tone(name, phase=rng.random() * 6) for name in self.names]
        self.seed = seed

    def __len__(self):
        return len(self.frames)

    def frame(self, index):
        return self.frames[index]

    def sound(self, index):
        return self.sounds[index], RATE

    def clip_id(self, index):
        return f"clip{index // 2}"

    def fingerprint(self):
        return f"color pairs {len(self)} {self.seed}"
