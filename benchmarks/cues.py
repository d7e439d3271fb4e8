"""Milliseconds per looked-at frame of each cue, of proposals, and of all, against the inference up to 0.1.

    python benchmarks/cues.py --out cues.json
    python benchmarks/cues.py --quick

The video is 360p at 25 frames a second, looked at once a second. Old: `lite-soundnet`, the preset up to 0.1,
whose one cue is the cosine of image and sound. New: `lite`, all cues. Both without adapters, in turn.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import measuring
from video import make_video

from moca_avs import load, read_clip
from moca_avs.hub.cache import cache_dir
from moca_avs.inference.inputs import JobSpec
from moca_avs.inference.job import JobResult, SegmentOptions
from moca_avs.inference.segment import segment_file
from moca_avs.proposals.masks import downscale
from moca_avs.proposals.regions import RegionProposer

HEIGHT = 360
SYSTEMS = {
    "old": {"name": "lite-soundnet"},
    "semantic alone": {"name": "lite", "cues": "semantic"},
    "new": {"name": "lite"},
}


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print."""
    parser, about = measuring.options(__doc__), measuring.machine()
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    seconds, repeats = (10, 1) if options.quick else (40, options.repeats)
    video = make_video(cache_dir() / "benchmarks" / f"video_{HEIGHT}p_{seconds}s.mp4", seconds, HEIGHT)
    frames = read_clip(video, 1.0).frames
    walls: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    parts: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats + 1):
            for name, given in SYSTEMS.items():
                method = load(**given, method="frozen", device="cpu")
                job = JobSpec(video, Path(folder) / f"{name} {repeat}")
                result = JobResult(job)

                def work(job=job, method=method, result=result) -> None:
                    segment_file(job, lambda: method, SegmentOptions(fps=1.0), result, progress=False)

                took = measuring.seconds_of(work)
                if repeat:  # the first turn has what is slow only once
                    walls[name].append(1e3 * took / len(frames))
                    for part, spent in result.seconds.items() if name == "new" else ():
                        parts.setdefault(part, []).append(1e3 * spent / len(frames))
    regions = RegionProposer()
    small = [downscale(frame, method.config.working_side) for frame in frames]
    proposed = [measuring.seconds_of(lambda one=one: regions(one)) for one in small]
    rows = [(name, f"{median(all_):.0f} ({min(all_):.0f}–{max(all_):.0f})") for name, all_ in walls.items()]
    rows += [(f"new: {part}", f"{median(all_):.1f}") for part, all_ in parts.items()]
    rows += [("classical proposals by themselves", f"{1e3 * median(proposed):.0f}")]
    print(measuring.table(("what", "ms per looked-at frame"), rows))
    ratio = median(walls["new"]) / median(walls["old"])
    figures = {
        "cues_new_over_old": round(ratio, 3),
        "classical_proposals_ms": round(1e3 * median(proposed), 1),
        **{f"{name}_ms": round(median(all_), 1) for name, all_ in walls.items()},
    }
    measuring.finish(figures, about, options.out)


if __name__ == "__main__":
    main()
