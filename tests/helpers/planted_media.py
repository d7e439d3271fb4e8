"""A color, a tone and a bar planted in each second of each clip, for tests of every layout."""

import numpy as np
from PIL import Image

RATE = 16000


def hertz(clip, second):
    """A tone of its own for each second of each clip."""
    return 300 * (clip + 1) + 25 * second


def color(clip, second):
    """A color of its own for each second of each clip, far enough apart to survive JPEG."""
    return np.array([20 * second + 20, 40 * clip + 10, 220 - 20 * second], np.uint8)


def image(clip, second, height, width):
    return np.ascontiguousarray(np.broadcast_to(color(clip, second), (height, width, 3)))


def sound_of(clip, seconds):
    time = np.arange(RATE) / RATE
    parts = [0.4 * np.sin(2 * np.pi * hertz(clip, s) * time) for s in range(seconds)]
    return np.concatenate(parts).astype(np.float32)


def strongest(sound, rate):
    """Hz of the loudest part."""
    return np.abs(np.fft.rfft(sound, rate)).argmax()


def put(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
