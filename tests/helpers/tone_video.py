"""A video of three colored boxes, each with its own tone."""

import numpy as np

from helpers.tiny_encoders import ColorEncoder
from moca_avs.clip import Clip

RATE, SIDE = ColorEncoder.rate, 128
TONES = {"red": 100.0, "green": 250.0, "blue": 600.0}
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


def tone(name, seconds=1.0, dbfs=-20.0):
    time = np.arange(round(seconds * RATE)) / RATE
    return np.sqrt(2) * 10 ** (dbfs / 20) * np.sin(2 * np.pi * TONES[name] * time)


def video(heard, room=-55.0):
    """One second per name ("" is silence), a frame in the middle of each; room noise everywhere."""
    rng = np.random.default_rng(0)
    sound = np.concatenate([tone(name) if name else np.zeros(RATE) for name in heard])
    sound = sound + 10 ** (room / 20) * rng.standard_normal(len(sound))
    frame, masks = image()
    truth = np.stack([masks.get(name, np.zeros((SIDE, SIDE), bool)) for name in heard])
    times = np.arange(len(heard)) + 0.5
    return Clip(np.stack([frame] * len(heard)), times, sound.astype(np.float32), RATE), truth
