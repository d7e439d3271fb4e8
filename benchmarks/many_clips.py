"""A hundred thousand two-second clips: files, bytes and memory by 1,000 real runs, extrapolated.

    python benchmarks/many_clips.py --out many_clips.json
    python benchmarks/many_clips.py --quick

One clip (320 x 240, 25 frames a second, a moving square and its sound) stands under as many names as there
are inputs. The method is the disk of examples/center_method.py, since what is measured is what surrounds a
method. Each kind of output is run in a process of its own, which then does the same again: everything
is found finished.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import finish, machine, options, peak_mib, table

from moca_avs.inference.index import RunIndex
from moca_avs.inference.inputs import find_inputs, plan
from moca_avs.inference.job import SegmentOptions
from moca_avs.inference.segment import segment_all
from moca_avs.io.write_video import write_video

CLIPS, QUICK_CLIPS, ALL = 1000, 40, 100_000
OUTPUTS = {
    "everything": ("overlay", "masks", "heatmaps", "json"),
    "masks, json": ("masks", "json"),
    "json": ("json",),
}
RATE = 16000


def main() -> None:
    """Measure, print a table."""
    arguments = options(__doc__).parse_args()
    about, count = machine(), QUICK_CLIPS if arguments.quick else CLIPS
    figures, rows = {}, []
    with tempfile.TemporaryDirectory() as temporary:
        videos = Path(temporary) / "videos"
        videos.mkdir()
        clip = write_clip(Path(temporary) / "clip.mp4")
        for number in range(count):
            (videos / f"{number:06d}.mp4").symlink_to(clip)
        for name, outputs in OUTPUTS.items():
            out = Path(temporary) / name
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found = pool.apply(run, (videos, out, outputs))
            entries = list(out.rglob("*"))
            found["entries"] = len(entries) / count
            found["kib"] = sum(entry.stat().st_blocks for entry in entries) / 2 / count
            figures |= {f"{name}: {key}": value for key, value in found.items()}
            memory = found["mib"] + (found["mib"] - found["mib_at_half"]) * 2 * (ALL - count) / count
            rows.append(
                (
                    name,
                    f"{found['entries']:.1f}",
                    f"{found['kib']:.0f} KiB",
                    f"{found['seconds'] / count * 1000:.0f} ms",
                    f"{found['again'] / count * 1000:.1f} ms",
                    f"{found['entries'] * ALL / 1e6:.2f} million",
                    f"{found['kib'] * ALL / 2**20:.1f} GiB",
                    f"{found['mib']:.0f} -> {memory:.0f} MiB",
                )
            )
    head = (
        "outputs",
        "entries a clip",
        "on disk",
        "time",
        "again",
        f"entries of {ALL:,}",
        "on disk",
        "peak memory",
    )
    print(table(head, rows))
    finish(figures, about, arguments.out)


def write_clip(path: Path) -> Path:
    """Two seconds of a moving square that is heard."""
    frames = np.full((50, 240, 320, 3), 60, np.uint8)
    for index, frame in enumerate(frames):
        frame[80:160, 4 * index : 4 * index + 80] = 220, 180, 40
    sound = np.sin(np.arange(2 * RATE) * 2 * np.pi * 440 / RATE).astype(np.float32) / 4
    return write_video(path, frames, np.arange(50) / 25, sound, RATE)


def run(videos: Path, out: Path, outputs: tuple[str, ...]) -> dict[str, float]:
    """Segment all, twice; seconds and peak memory (MiB), also at half of the clips."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    from center_method import CenterDisk, DiskConfig

    jobs = plan(find_inputs([str(videos)])[0], out)
    method, chosen, at_half = CenterDisk(DiskConfig()), SegmentOptions(outputs=outputs), 0.0
    start = time.perf_counter()
    with RunIndex(out) as index:
        for number, outcome in enumerate(segment_all(jobs, lambda: method, chosen, progress=False)):
            index.add(outcome)
            if outcome.state != "done":
                raise SystemExit(f"{outcome.job.name}: {outcome.state}, {outcome.message}")
            if number == len(jobs) // 2:
                at_half = peak_mib()
    middle = time.perf_counter()
    for outcome in segment_all(jobs, lambda: method, chosen, progress=False):
        if outcome.state != "skipped":
            raise SystemExit(f"{outcome.job.name} is not known as finished")
    end = time.perf_counter()
    return {"seconds": middle - start, "again": end - middle, "mib": peak_mib(), "mib_at_half": at_half}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
