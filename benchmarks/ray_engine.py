"""`moca segment --engine ray`: two workers against one, and one against the local engine.

    python benchmarks/ray_engine.py
    python benchmarks/ray_engine.py --quick

Every run segments the same videos with `lite` and moca at 1 frame per second and begins with nothing: it
starts Ray, then workers load the method. Seconds count from the moment the first worker has loaded it; what
was before is the start-up. Runs take turns. Two workers with one thread each have as many threads as the one
with two, which is the fair comparison; `ray2_over_1` compares workers of one thread.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from measuring import Timing, finish, machine, options, table
from video import make_video

from moca_avs import load
from moca_avs.hub.cache import cache_dir
from moca_avs.inference.inputs import JobSpec, plan
from moca_avs.inference.job import SegmentOptions
from moca_avs.inference.ray import RayConfig, segment_on_ray
from moca_avs.inference.segment import segment_all
from moca_avs.methods.base import Method

RUNS = {  # workers, threads of each; 0 workers: the local engine
    "local, 1 thread": (0, 1),
    "1 worker, 1 thread": (1, 1),
    "2 workers, 1 thread": (2, 1),
    "1 worker, 2 threads": (1, 2),
}
LOCAL, ONE, TWO, WIDE = RUNS


@dataclass(frozen=True)
class Loading:
    """Loads the method and leaves the time at which that was done."""

    folder: str

    def __call__(self) -> Method:
        """The method."""
        method = load("lite", device="cpu")
        with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".time", delete=False) as file:
            file.write(repr(time.time()))
        return method


def main() -> None:
    """Measure, print, write."""
    parser = options(__doc__)
    parser.add_argument("--videos", type=int, default=8, help="how many")
    parser.add_argument("--seconds", type=int, default=10, help="length of each, a multiple of 5")
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    if given.quick:
        given.videos, given.seconds, given.repetitions = 2, 5, 1
    about = machine()
    video = make_video(cache_dir() / "benchmarks" / f"video_{given.seconds}.mp4", given.seconds)
    work: dict[str, list[float]] = {name: [] for name in RUNS}
    start: dict[str, list[float]] = {name: [] for name in RUNS}
    for _ in range(given.repetitions):
        for name, (workers, threads) in RUNS.items():
            before, after = measured(video, given.videos, workers, threads)
            start[name].append(before)
            work[name].append(after)
    report(work, start, given.videos * given.seconds, about, given.out)


def measured(video: Path, videos: int, workers: int, threads: int) -> tuple[float, float]:
    """Seconds until the first worker had loaded the method, and from then to the end."""
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        copies = [shutil.copy(video, room / f"{index}.mp4") for index in range(videos)]
        jobs, loading = plan([Path(copy) for copy in copies], room / "out"), Loading(folder)
        begin = time.time()
        run(jobs, loading, workers, threads)
        end = time.time()
        loaded = min(float(file.read_text()) for file in room.glob("*.time"))
    return loaded - begin, end - loaded


def run(jobs: Sequence[JobSpec], loading: Callable[[], Method], workers: int, threads: int) -> None:
    """Segment; whatever fails ends the benchmark."""
    if workers:
        config = RayConfig(workers, threads)
        outcomes = segment_on_ray(
            jobs, loading, SegmentOptions(), config, progress=False, say=lambda line: None
        )
    else:
        torch.set_num_threads(threads)
        outcomes = segment_all(jobs, loading, SegmentOptions(), progress=False)
    for outcome in outcomes:
        if outcome.state != "done":
            raise SystemExit(f"{outcome.job.name}: {outcome.state}: {outcome.message}")


def report(
    work: dict[str, list[float]],
    start: dict[str, list[float]],
    frames: int,
    about: dict[str, object],
    out: Path | None,
) -> None:
    """Print the table and the figures."""
    timing = {name: Timing(tuple(seconds)) for name, seconds in work.items()}
    starting = {name: Timing(tuple(seconds)) for name, seconds in start.items()}
    rows = [
        (name, f"{timing[name]:1}", f"{frames / timing[name].median:.3g}", f"{starting[name]:1}")
        for name in RUNS
    ]
    print(table(("", "seconds: median (min–max)", "frames per second", "start-up seconds"), rows))
    finish(
        {
            "ray2_over_1": timing[ONE].median / timing[TWO].median,
            "ray2_over_1_with_two_threads": timing[WIDE].median / timing[TWO].median,
            "ray1_over_local": timing[ONE].median / timing[LOCAL].median,
            "ray_start_seconds": starting[ONE].median - starting[LOCAL].median,
            "seconds": {name: value.figures() for name, value in timing.items()},
        },
        about,
        out,
    )


if __name__ == "__main__":
    main()
