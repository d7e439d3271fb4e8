"""Trains the binding of `lite`: the sound head that puts YAMNet into the image network's space.

    python recipes/lite/bind.py --out OUT   # about an hour on an idle core, see README.md

What the trainer gets is frames and the sound that was playing: no mask, no class name, no box. The generator
(`moca_avs_bench.stamps`) knows the classes, to put a dog and a bark together; everything is drawn from the
train side of the split. The loss is InfoNCE between sounds and images of a batch; an image's score is a soft
maximum over its positions, so where the sound comes from is never told.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from moca_avs.encoders.lite import AudioHead, LiteEncoder
from moca_avs.io.audio import resample
from moca_avs_bench.stamps.media import RATE, Catalog, Sound
from moca_avs_bench.stamps.scenes import Pool
from moca_avs_bench.stamps.sounds import Event, compose_sound
from moca_avs_bench.stamps.training_scenes import draw_frame

SEED = 0
SCENES = 6000  # images
WINDOWS = 16  # variants of each recording
SPEEDS = (0.85, 1.18)
MEMBERS = 6
FOLDS = 3  # member m never hears the recordings of fold m % FOLDS: what it says of them is said unheard
JOINT_DIM = 128
DROPOUT = 0.4
COMMON = 0.5  # share of what all sounds have in common that is taken out
STEPS, BATCH = 300, 64
LR, WEIGHT_DECAY = 1e-3, 0.05
TEMPERATURE, SHARPNESS = 0.07, 0.07  # tau of InfoNCE; beta of the soft maximum over positions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for binding.safetensors and bind.jsonl"
    )
    parser.add_argument(
        "--media", choices=("world", "full", "core"), default="world", help="whose recordings are heard"
    )
    parser.add_argument("--scenes", type=int, default=SCENES, metavar="N", help=f"images ({SCENES})")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "bind.jsonl").open("w") as log:

        def tell(**entry: object) -> None:
            log.write(json.dumps(entry) + "\n")
            log.flush()
            print(entry, flush=True)

        encoder = LiteEncoder(binding=None)
        pool = Pool.of(Catalog.load(arguments.media), "train")
        maps, heard = images(encoder, pool, arguments.scenes, tell)
        windows = listen(encoder, heard, tell)
        head = train(maps, heard, windows, tell)
        head.save(arguments.out / "binding.safetensors", {"heard": sorted({s.source for s in heard})})


@torch.no_grad()
def images(encoder: LiteEncoder, pool: Pool, count: int, tell) -> tuple[Tensor, list[Sound]]:
    """Logit maps float16 [N, 1000, h, w] of composed frames, and the sound that plays with each."""
    rng = np.random.default_rng([SEED, 1])
    maps, heard, frames, start = [], [], [], time.time()
    for index in range(count):
        frame, sound = draw_frame(pool, rng, encoder.image_size)
        frames.append(jittered(frame, rng) if rng.random() < 0.5 else frame)
        heard.append(sound)
        if len(frames) == 16 or index == count - 1:
            state = encoder.image_state(encoder.prepare_images(np.stack(frames)))
            maps.append(encoder.logit_map(state).half())
            frames = []
        if (index + 1) % 400 == 0:
            tell(images=index + 1, seconds=round(time.time() - start, 1))
    return torch.cat(maps), heard


def jittered(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other colors, contrast and brightness, sometimes gray: the head shall not know a photo by its tint."""
    image = frame.astype(np.float32) / 255
    gray = image.mean(-1, keepdims=True)
    if rng.random() < 0.25:
        image = np.repeat(gray, 3, axis=-1)
    else:
        tint = (np.eye(3) + rng.normal(0, 0.12, (3, 3))).astype(np.float32)
        image = (gray + (image - gray) * rng.uniform(0.4, 1.5)) @ tint.T
    image = np.clip(image, 0, 1) ** rng.uniform(0.6, 1.6)
    image = (image - 0.5) * rng.uniform(0.6, 1.3) + 0.5 + rng.uniform(-0.15, 0.15)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def listen(encoder: LiteEncoder, heard: list[Sound], tell) -> dict[str, Tensor]:
    """Sound features [WINDOWS, F] of every recording, each window cut, tuned, colored and noisy anew."""
    rng = np.random.default_rng([SEED, 2])
    found: dict[str, Tensor] = {}
    for sound in sorted(set(heard), key=lambda s: s.source):
        inputs = [encoder.prepare_audio(window(sound.samples(), rng), RATE) for _ in range(WINDOWS)]
        found[sound.source] = torch.cat(
            [encoder.sound_features(torch.stack(inputs[i : i + 4])) for i in range(0, WINDOWS, 4)]
        )
    tell(recordings=len(found))
    return found


def window(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One or two seconds of a recording in a room: float32."""
    if rng.random() < 0.7:
        samples = resample(samples, RATE, round(RATE * rng.uniform(*SPEEDS)))
    seconds = 2 if rng.random() < 0.7 else 1
    event = Event(samples, np.ones(seconds, bool), float(rng.uniform(-10, 3)))
    sound = compose_sound([event], seconds, rng).sound
    if rng.random() < 0.5:  # a tilt of up to 10 dB across the band
        spectrum = np.fft.rfft(sound)
        tilt = rng.uniform(-10, 10) * (np.linspace(0, 1, len(spectrum)) - 0.3)
        sound = np.fft.irfft(spectrum * 10 ** (tilt / 20), len(sound))
    return sound.astype(np.float32)


def train(maps: Tensor, heard: list[Sound], windows: dict[str, Tensor], tell) -> AudioHead:
    """InfoNCE over batches of frames and the recordings they were heard with, each recording once.

    Every member of the ensemble draws batches of its own, from two thirds of the recordings: heads that saw
    the same batches err alike.
    """
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)  # dropout
    rng = np.random.default_rng([SEED, 3])
    everything = torch.cat(list(windows.values()))
    head = AudioHead(everything.shape[1], MEMBERS, DROPOUT, JOINT_DIM, generator)
    head.set_statistics(everything)
    positions = maps[::6].permute(0, 2, 3, 1).flatten(0, 2)
    chosen = torch.randperm(len(positions), generator=generator)[:20_000]
    head.set_axes(positions[chosen].float())
    joint = torch.cat([head.project(m.float().permute(0, 2, 3, 1)).flatten(1, 2) for m in maps.split(64)])
    joint = F.normalize(joint, dim=-1)  # [N, positions, E]
    sources = np.array([sound.source for sound in heard])
    folds = np.array([fold(sound) for sound in heard])
    optimizer = torch.optim.AdamW(head.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    head.train()
    for step in range(STEPS):
        batches = [draw_rows(sources, folds != m % FOLDS, rng) for m in range(MEMBERS)]
        size = min(map(len, batches))  # "core" has fewer recordings than BATCH in some folds
        batches = [rows[:size] for rows in batches]
        sounds = [[windows[source][rng.integers(WINDOWS)] for source in sources[rows]] for rows in batches]
        vectors = head.members(torch.stack([torch.stack(batch) for batch in sounds]))
        pairs = zip(vectors, (joint[rows] for rows in batches), strict=True)
        loss = torch.stack([contrast(*pair) for pair in pairs]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 10 == 0:
            tell(step=step + 1, loss=round(float(loss.detach()) / MEMBERS, 4))
    head.eval().set_common(everything, COMMON)
    return head


def fold(sound: Sound) -> int:
    """Which fold a recording (with its duplicates) belongs to, in 0..FOLDS - 1."""
    return int(hashlib.sha256(sound.group.encode()).hexdigest()[:6], 16) % FOLDS


def draw_rows(sources: np.ndarray, allowed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Up to BATCH allowed frames of different recordings, as often as the world shows them.

    Drawing recordings instead would fill a batch with those of a few much recorded animals, each the
    others' negative.
    """
    rows = rng.permutation(np.flatnonzero(allowed))
    _, first = np.unique(sources[rows], return_index=True)
    return rows[np.sort(first)[:BATCH]]


def contrast(sounds: Tensor, images_: Tensor) -> Tensor:
    """Symmetric InfoNCE of unit sounds [B, E] and unit positions [B, n, E]."""
    cosine = torch.einsum("ie,jne->ijn", sounds, images_)
    soft = SHARPNESS * (torch.logsumexp(cosine / SHARPNESS, -1) - math.log(cosine.shape[-1]))
    own = torch.arange(len(sounds))
    return (F.cross_entropy(soft / TEMPERATURE, own) + F.cross_entropy(soft.T / TEMPERATURE, own)) / 2


if __name__ == "__main__":
    main()
