"""Peak memory of segmenting an hour against a minute, each in a process of its own.

    python benchmarks/long_video.py --out long_video.json
    python benchmarks/long_video.py --quick

Both videos are 360p at 5 frames a second, look alike, and are heard in a tenth of their scenes, so that the
hour takes minutes: memory does not ask whether a frame was silent.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measuring

FPS, HEIGHT, HEARD = 5, 360, 0.1


def write_long(path: Path, seconds: int) -> Path:
    """Write minutes of the same image drifting, with noise bursts in every tenth scene of five seconds."""
    import numpy as np

    from moca_avs.io.write_video import write_video

    if path.is_file():
        return path
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (HEIGHT // 8, 1280 // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    rate = 16000
    heard = np.arange(seconds) // 5 % 10 < round(10 * HEARD)
    loud = np.where(heard, 0.2, 0.0005).astype(np.float32).repeat(rate)
    sound = rng.standard_normal(seconds * rate, np.float32) * loud
    frames = (wide[:, index % 640 : index % 640 + 640] for index in range(seconds * FPS))
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, frames, np.arange(seconds * FPS) / FPS, sound, rate)


def segment(video: Path, out: Path) -> dict[str, float]:
    """What a process of its own does: segment, tell frames, seconds and the peak of its memory."""
    from moca_avs import load
    from moca_avs.inference.inputs import JobSpec
    from moca_avs.inference.job import JobResult, SegmentOptions
    from moca_avs.inference.segment import segment_file

    job = JobSpec(video, out)
    outcome = JobResult(job)
    begin = time.perf_counter()
    segment_file(job, lambda: load("lite", "frozen", "cpu"), SegmentOptions(fps=1.0), outcome, progress=False)
    return {
        "frames": outcome.frames,
        "silent": outcome.empty["silent"] + outcome.empty["not above the recording's own floor"],
        "seconds": round(time.perf_counter() - begin, 1),
        "peak_mib": round(measuring.peak_mib(), 1),
    }


def in_its_own_process(video: Path, out: Path) -> dict[str, float]:
    """`segment` in a new Python."""
    command = [sys.executable, __file__, "--video", str(video), "--folder", str(out)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = measuring.options(__doc__)
    parser.add_argument("--video", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.video is not None:
        print(json.dumps(segment(options.video, options.folder)))
        return
    from moca_avs.hub.cache import cache_dir

    about = measuring.machine()
    place, lengths = cache_dir() / "benchmarks", {"short": 60, "long": 120 if options.quick else 3600}
    found: dict[str, object] = {}
    peaks = {}
    for name, seconds in lengths.items():
        video = write_long(place / f"long_video_{seconds}s.mp4", seconds)
        with tempfile.TemporaryDirectory() as folder:
            measured = in_its_own_process(video, Path(folder) / "out")
        found[name] = measured
        peaks[name] = measured["peak_mib"]
        print(f"| {seconds} s | " + " | ".join(f"{key} {value}" for key, value in measured.items()) + " |")
    found["long_video_growth_mib"] = round(peaks["long"] - peaks["short"], 1)
    measuring.finish(found, about, options.out)


if __name__ == "__main__":
    main()
