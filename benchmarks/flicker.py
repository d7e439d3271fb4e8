"""Flicker of masks: IoU of consecutive masks within a shot, with evidence smoothed along it and without.

    python benchmarks/flicker.py --root FOLDER    # videos with manifest.csv (docs/reference/results.md)

Of each video the seconds around `time_s` are looked at once a second. What a mask at `time_s` is worth
is its IoU with the sounding boxes: a mask that never changes flickers least.
"""

from __future__ import annotations

import numpy as np
from measuring import finish, machine, options, table

import moca_avs
from moca_avs.clip import Clip
from moca_avs.io.video import read_clip
from moca_avs.model.shots import find_cuts, shot_numbers
from moca_avs_bench.data.video_manifest import read_manifest
from moca_avs_bench.metrics.pointing import boxes_mask, mask_iou

AROUND, MARGIN = 4, 5.0  # seconds looked at on each side of `time_s`; sound and small frames beyond
WEIGHTS = (0.0, 0.25, 0.5, 1.0)


def main() -> None:
    """Measure, print a table."""
    parser = options(__doc__)
    parser.add_argument("--root", required=True, help="folder of videos with manifest.csv")
    arguments = parser.parse_args()
    clips = []
    for entry in read_manifest(arguments.root)[: 3 if arguments.quick else None]:
        start = entry.time - min(AROUND, int(entry.time))
        clip = read_clip(entry.path, fps=1.0, start=start, end=entry.time + AROUND + 0.01, margin=MARGIN)
        row = int(np.abs(clip.times - entry.time).argmin())
        clips.append((clip, row, boxes_mask(entry.sounding, *clip.frames.shape[1:3])))
    rows = []
    for weight in WEIGHTS:
        method = moca_avs.load("lite", device="cpu", smoothing=weight)
        alike, right = [], []
        for clip, row, truth in clips:
            masks = method(clip).masks
            right.append(mask_iou(masks[row], truth))
            alike += consecutive(clip, masks)
        rows.append((weight, np.mean(alike), np.mean(np.array(alike) > 0.5), len(alike), np.mean(right)))
    head = ("smoothing", "IoU of consecutive masks", "above .5", "pairs", f"IoU with boxes, {len(clips)}")
    print(table(head, [(f"{w:g}", f"{a:.3f}", f"{s:.3f}", n, f"{r:.3f}") for w, a, s, n, r in rows]))
    figures = {f"{name}_{w:g}": value for w, a, s, n, r in rows for name, value in (("same", a), ("iou", r))}
    finish(figures, machine(), arguments.out)


def consecutive(clip: Clip, masks: np.ndarray) -> list[float]:
    """IoU of each mask with the next, where neither is empty and no cut is between them."""
    found = []
    for index in range(len(clip) - 1):
        times = clip.times[[index, index + 1]]
        first, second = shot_numbers(times, find_cuts(*clip.motion_window(index)))
        if first == second and masks[index].any() and masks[index + 1].any():
            found.append(mask_iou(masks[index], masks[index + 1]))
    return found


if __name__ == "__main__":
    main()
