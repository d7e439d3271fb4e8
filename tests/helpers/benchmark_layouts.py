"""S4, MS3 and VGG-SS on disk, as officially laid out: colored boxes that hum. And an encoder for them."""

import csv
import json

import numpy as np
import torch
from torch.nn import functional as F

from helpers.color_models import ColorProposer
from helpers.color_world import LOW, NAMES
from helpers.tiny_encoders import ColorEncoder
from moca_avs.io.audio import write_audio
from moca_avs.io.image import write_image

SIDE, SECONDS = 48, 5


class TableEncoder(ColorEncoder):
    """`ColorEncoder` for images of any size, with as many blocks as the tables adapt."""

    name, image_blocks, audio_blocks = "lite", 12, 7

    def __init__(self, image_size=64, dilate=False):
        super().__init__()
        self.image_size, self.grid = image_size, 8

    def adapter_pairs(self, placement, count):
        if placement == "interleaved":
            return [(11 - 2 * i, 6 - i) for i in reversed(range(count))]
        return super().adapter_pairs(placement, count)

    def image_stem(self, images):
        self.images_encoded += len(images)
        color = F.avg_pool2d(images, self.image_size // self.grid)
        return torch.cat([color - color.mean(1, keepdim=True), torch.full_like(color[:, :1], 0.3)], 1)


def color_proposer(sources, device):
    return ColorProposer()


def clip(rng):
    """Frames [5, S, S, 3], the truth [5, S, S], a sound, the class heard: two still boxes, one hums."""
    names = [str(name) for name in rng.permutation(NAMES)[:2]]
    frame, truth = np.full((SIDE, SIDE, 3), 110, np.uint8), np.zeros((SECONDS, SIDE, SIDE), bool)
    half = SIDE // 2
    for k, name in enumerate(names):
        top, left = rng.integers(0, half - 4), rng.integers(k * half, k * half + 6)
        height, width = rng.integers(12, half, 2)
        place = (slice(top, top + height), slice(left, min(left + width, (k + 1) * half)))
        frame[place] = [220 if channel == name else 40 for channel in NAMES]
        if k == 0:
            truth[:, place[0], place[1]] = True
    on = np.ones(SECONDS, bool)
    on[rng.integers(SECONDS)] = rng.random() < 0.5
    truth &= on[:, None, None]
    sound = LOW.tone(names[0], SECONDS, level=0.3) * np.repeat(on, LOW.rate)
    return np.stack([frame] * SECONDS), truth, sound.astype(np.float32), names[0]


def build_world(root, train=16, test=4):
    """Write all of it under `root`."""
    s4, ms3, vggss = [["name", "category", "split"]], [["name", "split"]], []
    for index in range(train + test):
        split, name = "train" if index < train else "test", f"clip{index:02d}"
        frames, truth, sound, heard = clip(np.random.default_rng(index))
        s4.append([name, heard, split])
        single, multi = root / "Single-source/s4_data", root / "Multi-sources/ms3_data"
        for i, (frame, mask) in enumerate(zip(frames, truth, strict=True), 1):
            mask = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, 2)
            _put(single / f"visual_frames/{split}/{heard}/{name}/{name}_{i}.png", frame)
            _put(single / f"gt_masks/{split}/{heard}/{name}/{name}_{i}.png", mask)
            if split == "test":
                _put(multi / f"visual_frames/{name}/{name}.mp4_{i}.png", frame)
                _put(multi / f"gt_masks/{split}/{name}/{name}_{i}.png", mask)
        _sound(single / f"audio_wav/{split}/{heard}/{name}.wav", sound)
        if split == "test":
            ms3.append([name, split])
            _sound(multi / f"audio_wav/{split}/{name}.wav", sound)
            _put(root / f"VGG-SS/frames/{name}.jpg", frames[0])
            _sound(root / f"VGG-SS/audio/{name}.wav", sound)
            vggss.append({"file": name, "class": heard, "bbox": [_box(truth.any(0))]})
    _table(root / "Single-source/s4_meta_data.csv", s4)
    _table(root / "Multi-sources/ms3_meta_data.csv", ms3)
    (root / "VGG-SS/vggss.json").write_text(json.dumps(vggss))
    return root


def _put(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)


def _sound(path, sound):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, sound, LOW.rate)


def _table(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def _box(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    corners = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return [float(corner) / SIDE for corner in corners]
