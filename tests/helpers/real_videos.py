"""A folder of short videos with a manifest: a box of one color moves on gray, and its tone is heard."""

import csv

import numpy as np

from helpers.color_models import colored
from helpers.color_world import HIGH, NAMES
from helpers.media_files import make_video
from moca_avs.clip import Segmentation

SECONDS, FPS, LOOKED_AT = 7, 10, 4.0
BOX = (0.25, 0.5, 0.5, 1.0)
"""Where the colored box is at `LOOKED_AT`, as shares of the frame."""


def write_video(path, name, height=64, width=96, silent=False):
    """The box hums from the start to the end; every other frame it is higher up, but not near `LOOKED_AT`."""
    frames = np.full((SECONDS * FPS, height, width, 3), 110, np.uint8)
    left, top, right, bottom = (np.array(BOX) * (width, height, width, height)).astype(int)
    for index, frame in enumerate(frames):
        up = height // 4 if index % 2 and abs(index - LOOKED_AT * FPS) > 2 else 0
        frame[top - up : bottom - up, left:right] = 40
        frame[top - up : bottom - up, left:right, NAMES.index(name)] = 220
    sound = HIGH.tone(name, SECONDS, level=0 if silent else 0.4).astype(np.float32)
    return make_video(path, frames, sound, HIGH.rate, fps=FPS)


def write_world(root, names=("red", "green", "blue", "red"), silent=(), sizes=(), quiet_boxes=()):
    """One video per color, `0.mp4`, `1.mp4`, ...; the manifest tells them by words. Returns `root`."""
    rows = []
    for index, name in enumerate(names):
        size = sizes[index] if index < len(sizes) else (64, 96)
        write_video(root / f"{index}.mp4", name, *size, silent=index in silent)
        rows.append(
            {
                "file": f"{index}.mp4",
                "what_sounds": f"{name} hum (a box)",
                "time_s": LOOKED_AT,
                "sounding_boxes": ",".join(str(corner) for corner in BOX),
                "silent_boxes": "0.6,0,1,0.4" if index in quiet_boxes else "",
                "kind": name,
            }
        )
    write_manifest(root, rows)
    return root


def write_manifest(root, rows):
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def loudest(clip, index=0):
    """The color whose tone is loudest in the second around a frame."""
    sound = clip.window(index, 1.0)
    return NAMES[HIGH.strengths(sound, clip.sample_rate).argmax()] if sound.size else ""


class ColorListener:
    """Masks what has the color of what it hears; without its hearing, whatever is red."""

    def __init__(self, hears=True):
        self.hears = hears
        self.settings = {"method": "colors", "hears": hears}

    def deaf(self):
        return ColorListener(hears=False)

    def __call__(self, clip):
        masks = np.stack(
            [
                colored(frame, loudest(clip, index) if self.hears else "red")
                for index, frame in enumerate(clip.frames)
            ]
        )
        scores = np.ones(len(clip), np.float32)
        return Segmentation(
            masks, masks[:, ::2, ::3].astype(np.float16), scores, ("",) * len(clip), clip.times
        )
