"""Adapters of `lite` from what moves with the sound, and what any adapters change on a validation side.

    python recipes/lite/adapters.py train --out RUN          # objective "synchrony"
    python recipes/lite/adapters.py score --root STAMPS RUN/adapters.safetensors ...

Composites of the training side have no motion that goes with the sound, so `train` makes some: the object
that is heard bobs with the loudness of its recording, another bobs with one that is not played. What moves
with the sound is found by the cue `moca_avs.cues.motion.synchrony`, which knows neither masks nor classes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from moca_avs import Clip, TrainConfig
from moca_avs.cues.motion import RATE, synchrony
from moca_avs.encoders import build_encoder
from moca_avs.methods.moca import top_share
from moca_avs.model.adapter import load_adapters
from moca_avs.model.fusion import cosine_heatmap, from_prefix, image_prefix
from moca_avs.training.moving import moving_positions
from moca_avs.training.trainer import train
from moca_avs_bench.data import open_evaluation_set
from moca_avs_bench.metrics.bootstrap import bootstrap_difference, bootstrap_mean
from moca_avs_bench.metrics.objects import object_accuracy, upsample
from moca_avs_bench.metrics.pointing import mask_iou
from moca_avs_bench.stamps.media import RATE as SOUND_RATE
from moca_avs_bench.stamps.media import Catalog
from moca_avs_bench.stamps.scenes import Pool, draw_scene
from moca_avs_bench.stamps.sounds import Event, compose_sound
from moca_avs_bench.stamps.training_scenes import LARGE

SECONDS, WINDOW = 6, 2.0  # of the moving scene, and of sound that the trainer hears around its middle
SIDE, SWING = 64, 4.0  # of the motion frames, and how far the loudest moment moves an object there, in pixels


class MovingScenes:
    """Composites of two or three objects whose motion follows sounds (a `MovingSet`); seeded.

    Attributes:
        masks: float32 [2, SIDE, SIDE] per row, the object that is heard and the one that moves otherwise; the
            trainer does not see them.
    """

    def __init__(self, pool: Pool, count: int, size: int, seed: int = 0) -> None:
        self._name = f"moving scenes {count} {size} {seed}"
        self._frames, self._sounds, self._maps, self.masks = [], [], [], []
        for index in range(count):
            rng = np.random.default_rng([seed, 7, index])
            number = int(rng.integers(2, 4))
            scene = draw_scene(pool, rng, pool.draw_classes(rng, number), size, cover=LARGE[number])
            heard, silent = (
                compose_sound([Event(one.samples(), np.ones(SECONDS, bool))], SECONDS, rng).sound
                for one in scene.sounds[:2]
            )
            gray = cv2.resize(cv2.cvtColor(scene.frame, cv2.COLOR_RGB2GRAY), (SIDE, SIDE))
            masks = [
                cv2.resize(mask[0].astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
                for mask in scene.masks[:2]
            ]
            times = np.arange(SECONDS * RATE) / RATE
            clip = Clip(
                scene.frame[None], np.array([SECONDS / 2]), heard, SOUND_RATE,
                motion_frames=bobbing(gray, masks, [loudness(heard), loudness(silent)]), motion_times=times,
            )  # fmt: skip
            self._frames.append(scene.frame)
            self._sounds.append(clip.window(0, WINDOW))
            self._maps.append(synchrony(clip, 0))
            self.masks.append(np.stack(masks))

    def __len__(self) -> int:
        return len(self._frames)

    def frame(self, index: int) -> np.ndarray:
        """uint8 [size, size, 3]."""
        return self._frames[index]

    def sound(self, index: int) -> tuple[np.ndarray, int]:
        """(float32 [N], Hz)."""
        return self._sounds[index], SOUND_RATE

    def clip_id(self, index: int) -> str:
        """Every row is its own clip."""
        return str(index)

    def fingerprint(self) -> str:
        """Of what the scenes are drawn from and how."""
        return hashlib.sha256(self._name.encode()).hexdigest()

    def synchrony(self, index: int) -> np.ndarray | None:
        """Float32 [h, w] in [-2, 2], or None."""
        return self._maps[index]


def inside(data: MovingScenes, grid: int = 7) -> dict[str, float]:
    """How much of what moves with the sound, as the trainer sees it, is covered by which object."""
    weights = moving_positions(data, grid)
    cover = adaptive_avg_pool2d(torch.from_numpy(np.stack(data.masks)), grid)
    known = weights.flatten(1).any(1)
    heard, other = (weights[known, None] * cover[known]).sum((2, 3)).mean(0).tolist()
    chance = cover[known].mean().item()
    return {"rows": int(known.sum()), "heard": heard, "moves otherwise": other, "anywhere": chance}


def loudness(sound: np.ndarray) -> np.ndarray:
    """Of each motion frame, in decibels scaled to [0, 1]: float64 [SECONDS * RATE]."""
    parts = sound[: SECONDS * SOUND_RATE].reshape(round(SECONDS * RATE), -1).astype(np.float64)
    level = 10 * np.log10((parts**2).mean(1) + 1e-8)
    return ((level - level.max()) / 40 + 1).clip(0)


def bobbing(gray: np.ndarray, masks: list[np.ndarray], levels: list[np.ndarray]) -> np.ndarray:
    """The picture with each object moved up as its level says.

    Args:
        gray: uint8 [s, s].
        masks: float32 [s, s] in [0, 1], one for each object.
        levels: float64 [T] in [0, 1], one for each object.

    Returns:
        uint8 [T, s, s].
    """
    frames = []
    for moment in zip(*levels, strict=True):
        frame = gray.astype(np.float32)
        for mask, level in zip(masks, moment, strict=True):
            shift = np.array([[1, 0, 0], [0, 1, -SWING * level]], np.float32)
            moved, alpha = (
                cv2.warpAffine(one, shift, gray.shape, borderMode=cv2.BORDER_REPLICATE)
                for one in (gray.astype(np.float32), mask)
            )
            frame = frame * (1 - alpha) + moved * alpha
        frames.append(np.rint(frame))
    return np.stack(frames).astype(np.uint8)


@torch.no_grad()
def score(root: Path, files: list[Path], size: int) -> list[dict[str, object]]:
    """Object accuracy and IoU of the hottest tenth, without adapters and with each file's, paired.

    One frame of each single-source clip, the first in which its object is heard beside a silent one.
    "wrong" gives the adapters the sound of a clip of another class; the question stays the right one.
    """
    encoder = build_encoder("lite", image_size=size)
    adapters = [load_adapters(file, encoder) for file in files]
    until = min((one.first_block for one in adapters), default=encoder.image_blocks)
    data = open_evaluation_set("s4", root, "val")
    classes, rng, sounds, kept = data.categories(), np.random.default_rng(0), {}, []
    for name in data.ids:
        sample = data.load(name)
        if not sample.objects:
            continue
        masks = np.stack([one.mask for one in sample.objects])
        sounding = np.stack([one.sounding for one in sample.objects])
        usable = np.flatnonzero(sounding.any(0) & ~sounding.all(0) & sample.masks.any((1, 2)))
        if len(usable):
            t = int(usable[0])
            prepared = encoder.prepare_audio(sample.clip.window(t, WINDOW), sample.clip.sample_rate)
            sounds[name] = encoder.encode_audio(prepared[None])
            frame = sample.clip.frames[t : t + 1]
            kept.append((sample, frame, masks[:, t : t + 1], sounding[:, t : t + 1], sample.masks[t]))
    names = [sample.id for sample, *_ in kept]
    found: dict[str, list[tuple[float, float]]] = {}
    for sample, frame, masks, sounding, truth in kept:
        state = image_prefix(encoder, encoder.prepare_images(frame), until)
        own = sounds[sample.id]
        other = sounds[rng.choice([one for one in names if classes[one] != classes[sample.id]])]
        passes = {"frozen": (None, own)}
        for file, one in zip(files, adapters, strict=True):
            passes |= {f"{file} right": (one, own), f"{file} wrong": (one, other)}
        for label, (adapter, heard) in passes.items():
            features = from_prefix(encoder, adapter, state, heard, until)
            heat = cosine_heatmap(features, own.embedding).numpy()
            mask = top_share(upsample(heat, *truth.shape)[0], 0.1)
            told = object_accuracy(heat, masks, sounding).item(), mask_iou(mask, truth)
            found.setdefault(label, []).append(told)
    clusters = [sample.cluster for sample, *_ in kept]
    table, frozen = [], np.array(found["frozen"])
    for label, values in found.items():
        row: dict[str, object] = {"adapters": label, "clips": len(kept), "recordings": len(set(clusters))}
        for column, measure in enumerate(("object accuracy", "hottest tenth IoU")):
            ours, base = np.array(values)[:, column], frozen[:, column]
            if label == "frozen":
                told = bootstrap_mean(base, clusters)
            else:
                told = bootstrap_difference(ours, base, clusters)
            row[measure] = [round(one, 4) for one in (told.estimate, told.low, told.high)]
            if label.endswith(" right"):
                wrong = np.array(found[label.removesuffix("right") + "wrong"])[:, column]
                told = bootstrap_difference(ours, wrong, clusters)
                row[f"{measure}, right less wrong"] = [
                    round(one, 4) for one in (told.estimate, told.low, told.high)
                ]
        table.append(row)
    return table


def main() -> None:
    """Train, or print one line of JSON for each row of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--media", default="world")
    training.add_argument("--scenes", type=int, default=1000)
    training.add_argument("--steps", type=int, default=500)
    training.add_argument("--lr", type=float, default=1e-3)
    scoring = commands.add_parser("score")
    scoring.add_argument("--root", type=Path, required=True, help="stamps, for its validation side")
    scoring.add_argument("files", type=Path, nargs="+")
    for one in (training, scoring):
        one.add_argument("--image-size", type=int, default=224)
    arguments = parser.parse_args()
    if arguments.command == "score":
        for row in score(arguments.root, arguments.files, arguments.image_size):
            print(json.dumps(row), flush=True)
        return
    pool = Pool.of(Catalog.load(arguments.media), "train")
    data = MovingScenes(pool, arguments.scenes, arguments.image_size)
    print(json.dumps(inside(data)), flush=True)
    config = TrainConfig(
        objective="synchrony", steps=arguments.steps, lr=arguments.lr, image_size=arguments.image_size
    )
    train("lite", data, config, arguments.out, device="cpu")


if __name__ == "__main__":
    main()
