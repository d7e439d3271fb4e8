"""Masks carried by optical flow: frames a second, IoU with the true masks half a second and a second on.

A textured disk moves, turns and grows over a textured ground that moves otherwise; 30 frames/s.

    python benchmarks/carry_masks.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from measuring import finish, in_turn, machine, options, table

from moca_avs.clip import Segmentation
from moca_avs.inference.carrying import MaskCarrier
from moca_avs.io.write_video import write_video

RATE = 30
CASES = {  # radius of the disk, its pixels a frame, those of the ground; of 360 lines
    "large": (130, 4.0, -1.0),
    "middle": (70, 4.0, 1.5),
    "fast": (70, 8.0, 1.5),
    "small": (25, 4.0, 1.5),
    "tiny": (15, 3.0, 0.0),
    "pan": (70, 0.0, 8.0),
}


def texture(height: int, width: int, seed: int) -> np.ndarray:
    """Noise of several scales, float32 [height, width] in 0..255."""
    rng, total = np.random.default_rng(seed), np.zeros((height, width), np.float32)
    for size in (4, 8, 16, 32, 64):
        noise = rng.random((height // size + 2, width // size + 2)).astype(np.float32) * size**0.5
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return (total - total.min()) / np.ptp(total) * 255


def frames_and_masks(case: str, height: int, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """uint8 [H, W, 3] and bool [H, W] of each frame."""
    radius, speed, ground = (value * height / 360 for value in CASES[case])
    width = round(height * 8 / 9) * 2
    room = int(abs(ground) * count) + 1
    back, front = texture(height, width + room, 1), texture(height, width, 101)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for step in range(count):
        # There and back, once in four seconds.
        moved = speed * (RATE - abs(step % (2 * RATE) - RATE))
        scale, angle = 1 + 0.004 * (step % RATE), 0.01 * step
        right, down = (x - width * 0.3 - moved) / scale, (y - height * 0.42 - 0.4 * moved) / scale
        u = np.cos(angle) * right + np.sin(angle) * down
        v = -np.sin(angle) * right + np.cos(angle) * down
        mask = v**2 + (u / 1.4) ** 2 < radius**2
        thing = cv2.remap(
            front,
            (u + width / 2).astype(np.float32),
            (v + height / 2).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        at = (x + (ground * step if ground >= 0 else room + ground * step)).astype(np.float32)
        picture = np.where(mask, thing, cv2.remap(back, at, y, cv2.INTER_LINEAR))
        noisy = picture + np.random.default_rng(step).normal(0, 2, picture.shape)
        yield np.repeat(np.clip(noisy, 0, 255).astype(np.uint8)[..., None], 3, axis=2), mask


def main() -> None:
    """Measure, print, write."""
    arguments = options(__doc__).parse_args()
    about, rows, figures = machine(), [], {}
    sizes = [(case, 360) for case in CASES] + [("middle", 1080)]
    for case, height in sizes[:1] if arguments.quick else sizes:
        frames, masks = zip(*frames_and_masks(case, height, 2 * RATE + 1), strict=True)
        with tempfile.TemporaryDirectory() as folder:
            path = write_video(Path(folder) / "a.mp4", frames, np.arange(len(frames)) / RATE)
            given = Segmentation(  # looked at once, at its beginning: carried for two seconds
                masks[0][None], np.zeros((1, 7, 7), np.float16), np.ones(1, np.float32), ("",), np.zeros(1)
            )
            found: list[np.ndarray] = []

            def carry(
                path: Path = path, given: Segmentation = given, found: list[np.ndarray] = found
            ) -> None:
                parts = list(MaskCarrier(path, 0.5, 0.0, None).expand(given))
                found[:] = [mask for part in parts for mask in part.masks]

            taken = in_turn({"carry": carry}, 1 if arguments.quick else 3)["carry"]
        overlap = [(one & two).sum() / (one | two).sum() for one, two in zip(found, masks, strict=False)]
        rate = len(found) / taken.median
        rows.append([f"{case}, {height}p", f"{rate:.0f}", f"{overlap[15]:.2f}", f"{overlap[30]:.2f}"])
        figures[f"carry_{case}_{height}p"] = {
            "frames_per_second": rate, "iou_half_second": overlap[15], "iou_second": overlap[30]
        }  # fmt: skip
    print(table(["object", "frames/s, decoding included", "IoU after .5 s", "after 1 s"], rows))
    finish(figures, about, arguments.out)


if __name__ == "__main__":
    main()
