"""Seconds of segmenting a video against the sum of the bare forwards of the frozen models it needs.

    python benchmarks/segmenting.py --out segmenting.json
    python benchmarks/segmenting.py --quick

The video is 360p at 25 frames a second, looked at once a second by the default method (moca, lite). Bare
forwards: sound trunk, image trunk and U2-Netp on what that video gives them, each as the method calls it, one
after the other. Superpixels are no network, but nobody could do without them either: both shares are given.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import measuring
import torch
from video import make_video

from moca_avs import load, read_clip
from moca_avs.hub.cache import cache_dir
from moca_avs.inference.inputs import JobSpec
from moca_avs.inference.job import JobResult, SegmentOptions
from moca_avs.inference.segment import CHUNK_FRAMES, segment_file
from moca_avs.methods.base import encode_windows
from moca_avs.methods.moca import Moca
from moca_avs.model.fusion import image_prefix, last_state
from moca_avs.proposals.masks import downscale
from moca_avs.proposals.saliency import SaliencyProposer
from moca_avs.proposals.superpixels import SuperpixelProposer

SECONDS, HEIGHT = 40, 360


def fresh() -> Moca:
    """The default method, remembering nothing yet."""
    method = load("lite-soundnet", "moca", "cpu")
    if not isinstance(method, Moca):
        raise TypeError(f"expected the method moca, found {type(method).__name__}")
    return method


def segmented(video: Path, limit: int, folder: Path, method: Moca) -> float:
    """Seconds of `segment_file`; the method is loaded before."""
    shutil.rmtree(folder, ignore_errors=True)
    job = JobSpec(video, folder)
    options = SegmentOptions(fps=1.0, limit=limit)
    return measuring.seconds_of(
        lambda: segment_file(job, lambda: method, options, JobResult(job), progress=False)
    )


def forwards(video: Path, limit: int, method: Moca) -> dict[str, Callable[[], object]]:
    """The bare work of each model for the same frames and windows, in the same batches."""
    clip = read_clip(video, 1.0, end=float(limit))
    encoder, adapters, config = method.encoder, method.adapters, method.config
    if adapters is None:
        raise TypeError("the default method has adapters")
    chunks = [range(i, min(i + CHUNK_FRAMES, len(clip))) for i in range(0, len(clip), CHUNK_FRAMES)]
    windows = [[(clip.window(i, config.window), clip.sample_rate) for i in chunk] for chunk in chunks]
    sounds = [encode_windows(encoder, some) for some in windows]
    images = [encoder.prepare_images(clip.frames[list(chunk)]) for chunk in chunks]
    waves = [torch.stack([encoder.prepare_audio(*window) for window in some]) for some in windows]
    small = [downscale(frame, config.working_side) for frame in clip.frames]
    network, superpixels = SaliencyProposer(), SuperpixelProposer()
    first = adapters.first_block

    def image_trunk() -> None:
        for batch, heard in zip(images, sounds, strict=True):
            state = last_state(encoder, adapters, image_prefix(encoder, batch, first), heard, first)
            encoder.joint_features(state)

    return {
        "sound trunk": lambda: [encoder.encode_audio(wave) for wave in waves],
        "image trunk": image_trunk,
        "u2netp": lambda: [network.saliency(frame) for frame in small],
        "superpixels": lambda: [superpixels(frame) for frame in small],
    }


@torch.inference_mode()
def against_models(video: Path, limit: int, repeats: int, folder: Path) -> dict[str, object]:
    """The share of a segmentation that is not the frozen models'; A B A B, medians."""
    whole: list[float] = []
    bare: dict[str, list[float]] = {}
    segmented(video, 2, folder, fresh())  # what is slow only once
    for _ in range(repeats):
        whole.append(segmented(video, limit, folder, fresh()))
        for name, work in forwards(video, limit, fresh()).items():
            bare.setdefault(name, []).append(measuring.seconds_of(work))
    total = median(whole)
    each = {name: median(found) for name, found in bare.items()}
    frozen = sum(seconds for name, seconds in each.items() if name != "superpixels")
    return {
        "frames": limit,
        "n": repeats,
        "segment_seconds": [round(min(whole), 3), round(total, 3), round(max(whole), 3)],
        "bare_seconds": {name: round(seconds, 3) for name, seconds in each.items()},
        "frames_per_second": round(limit / total, 3),
        "segment_overhead_share": round((total - frozen) / total, 4),
        "segment_overhead_share_superpixels_as_model": round(
            (total - frozen - each["superpixels"]) / total, 4
        ),
    }


def growth(videos: dict[int, Path], limits: list[int], repeats: int, folder: Path) -> dict[str, object]:
    """Milliseconds per frame at other lengths (360p) and other heights."""
    cases = [(videos[HEIGHT], HEIGHT, limit) for limit in limits]
    cases += [(video, height, limits[0]) for height, video in videos.items() if height != HEIGHT]
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        for video, height, limit in cases:
            seconds = segmented(video, limit, folder, fresh())
            found.setdefault(f"{height}p, {limit} frames", []).append(1e3 * seconds / limit)
    return {"growth_ms_per_frame": {name: round(median(each), 1) for name, each in found.items()}}


def table(found: dict[str, object]) -> str:
    """Readable."""
    lines = ["| what | figure |", "|---|---|"]
    for name, value in found.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        lines += [f"| {name} {key} | {figure} |" for key, figure in inner]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print."""
    parser, about = measuring.options(__doc__), measuring.machine()
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    heights = (HEIGHT,) if options.quick else (HEIGHT, 180, 720)
    seconds = 10 if options.quick else SECONDS
    place = cache_dir() / "benchmarks"
    videos = {
        height: make_video(place / f"video_{height}p_{seconds}s.mp4", seconds, height) for height in heights
    }
    limits = [4, 8] if options.quick else [SECONDS // 4, SECONDS // 2, SECONDS]
    repeats = 1 if options.quick else options.repeats
    with tempfile.TemporaryDirectory() as folder:
        found = against_models(videos[HEIGHT], limits[-1], repeats, Path(folder) / "out")
        found |= growth(videos, limits, min(repeats, 3), Path(folder) / "out")
    print(table(found))
    measuring.finish(found, about, options.out)


if __name__ == "__main__":
    main()
