"""Peak memory of an evaluation over 10 and over 1,000 synthetic videos; each is a source file of its own.

    python benchmarks/evaluation_memory.py
    python benchmarks/evaluation_memory.py --quick    # 100 videos in place of 1,000

Memory is the whole process's, torch and all; what the clips hold does not count up.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from measuring import finish, machine, options, peak_mib, table

from moca_avs.clip import Clip, Segmentation
from moca_avs.data.base import Sample
from moca_avs_bench.evaluation.evaluate import evaluate
from moca_avs_bench.metrics.localization import boxes_map

SIDE, RATE, CLASSES = 64, 8000, 71
KINDS = {"s4": "region", "avss": "semantic", "vggss": "localization"}


class Synthetic:
    """Noise with a random box that sounds; `videos` clips, made when asked for."""

    split = "test"

    def __init__(self, name: str, videos: int) -> None:
        self.name, self.kind = name, KINDS[name]
        self.frames = {"s4": 5, "avss": 10, "vggss": 1}[name]
        self.ids = [f"video{i:06d}" for i in range(videos)]

    def __len__(self) -> int:
        return len(self.ids)

    def categories(self) -> dict[str, str]:
        """70 classes in turn."""
        return {name: f"class{class_of(name)}" for name in self.ids}

    def load(self, sample_id: str) -> Sample:
        """One clip, drawn from its number."""
        rng = np.random.default_rng(int(sample_id[5:]))
        frames = rng.integers(0, 256, (self.frames, SIDE, SIDE, 3), np.uint8)
        left, top = rng.random(2) * 0.6
        box = np.array([[left, top, left + 0.3, top + 0.3]])
        mask = np.zeros((SIDE, SIDE), bool)
        mask[int(top * SIDE) : int((top + 0.3) * SIDE), int(left * SIDE) : int((left + 0.3) * SIDE)] = True
        masks = np.repeat(mask[None], self.frames, axis=0)
        sound = rng.normal(0, 0.1, self.frames * RATE).astype(np.float32)
        clip = Clip(frames, np.arange(self.frames) + 0.5, sound, RATE, sample_id)
        category = f"class{class_of(sample_id)}"
        labels = masks * np.uint8(class_of(sample_id))
        semantic = {"labels": labels, "classes": tuple(map(str, range(CLASSES)))}
        return Sample(
            sample_id,
            clip,
            masks,
            category,
            sample_id,
            **(semantic if self.kind == "semantic" else {}),
            consensus=boxes_map(box) if self.kind == "localization" else None,
        )


def class_of(sample_id: str) -> int:
    """1 ... 70."""
    return int(sample_id[5:]) % (CLASSES - 1) + 1


def guess(clip: Clip) -> Segmentation:
    """Masks and classes from the sound's samples: nothing that makes sense, but other every time."""
    level = np.abs(clip.sound[: clip.frames[..., 0].size]).reshape(clip.frames.shape[:3])
    masks = level > 0.1
    return Segmentation(
        masks,
        np.clip(level[:, ::4, ::4], 0, 1).astype(np.float16),
        masks.mean((1, 2)).astype(np.float32),
        ("",) * len(clip),
        clip.times,
        labels=masks * np.uint8(int(1e6 * level[0, 0, 0]) % (CLASSES - 1) + 1),
    )


def in_own_process(kind: str, videos: int) -> float:
    """MiB at most held by a new process that evaluates so many videos of one kind of dataset."""
    command = [sys.executable, __file__, "--kind", kind, "--videos", str(videos)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def main() -> None:
    """Print a table and the figures; or, given --videos, one number for `in_own_process`."""
    parser = options(__doc__)
    parser.add_argument("--kind", choices=KINDS, default="s4")
    parser.add_argument("--videos", type=int)
    arguments = parser.parse_args()
    if arguments.videos is not None:
        report = evaluate(guess, Synthetic(arguments.kind, arguments.videos))
        if report.tiers["all"].samples != arguments.videos:
            sys.exit(f"evaluated {report.tiers['all'].samples} videos, expected {arguments.videos}")
        print(peak_mib())
        return
    about, many = machine(), 100 if arguments.quick else 1000
    found = {kind: [in_own_process(kind, videos) for videos in (10, many)] for kind in KINDS}
    rows = [[kind, f"{a:.1f}", f"{b:.1f}", f"{b / a:.3f}"] for kind, (a, b) in found.items()]
    print(table(["kind", "10 videos, MiB", f"{many:,} videos, MiB", "ratio"], rows))
    grown = {kind: few_many[1] / few_many[0] for kind, few_many in found.items()}
    figures = {"evaluation_memory_many_over_few": max(grown.values()), "videos": many, "mib": found}
    finish(figures, about, arguments.out)


if __name__ == "__main__":
    main()
