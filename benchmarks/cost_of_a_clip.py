"""The cost of a clip: milliseconds per frame by stage, for each method; and of ImageBind's and SAM's size.

    python benchmarks/cost_of_a_clip.py --out cost.json
    python benchmarks/cost_of_a_clip.py --preset imagebind --random      # one forward of each full-size model
    python benchmarks/cost_of_a_clip.py --quick

`lite` runs `moca segment --profile` on a 360p video at one frame a second. Stages overlap, so the stages' sum
is more than the wall time, which is given too. `--random`: weights' values don't change the time; models are
built one after the other, those that would need more memory than there is are left out and named.
"""

from __future__ import annotations

import gc
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import measuring
import numpy as np
import torch
from segmenting import SECONDS
from video import make_video

from moca_avs import load
from moca_avs.hub.cache import cache_dir
from moca_avs.inference.inputs import JobSpec
from moca_avs.inference.job import JobResult, SegmentOptions
from moca_avs.inference.segment import segment_file
from moca_avs.methods import METHODS
from moca_avs.proposals.detectors import QUERIES
from moca_avs.proposals.sam import POINTS_PER_SIDE
from moca_avs.utils.profiler import profile_table

Forward = Callable[[], object]
IMAGE, SOUND = "imagebind image trunk", "imagebind sound trunk"
TEXT, SAM_IMAGE = "grounding-dino, a text", "sam-h image"
PROMPTS = 64
SAM_PROMPTS = f"sam-h {PROMPTS} prompts"


def by_stage(method: str, video: Path, limit: int) -> dict[str, float]:
    """Milliseconds per frame by stage; a first frame warms up."""
    found = load("lite", method, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        for name, frames in (("warm", 1), ("out", limit)):
            job = JobSpec(video, Path(folder) / name)
            outcome = JobResult(job)
            options = SegmentOptions(fps=1.0, start=float(frames > 1), limit=frames, profile=True)
            segment_file(job, lambda: found, options, outcome, progress=False)
    print(f"\n### {method}, lite, {outcome.frames} frames of 360p\n")
    print(profile_table(outcome.seconds, outcome.frames, outcome.wall))
    costs = {**outcome.seconds, "from beginning to end": outcome.wall}
    return {name: round(1e3 * seconds / outcome.frames, 2) for name, seconds in costs.items()}


def imagebind() -> dict[str, Forward]:
    """Both trunks on one image and one window of sound."""
    from moca_avs.encoders.imagebind import HUGE, ImageBindEncoder

    encoder = ImageBindEncoder.random(HUGE)
    image = encoder.prepare_images(np.zeros((1, 360, 640, 3), np.uint8))
    sound = encoder.prepare_audio(np.zeros(32_000, np.float32), 16_000)[None]
    return {
        IMAGE: lambda: encoder.embed_images(image),
        SOUND: lambda: encoder.encode_audio(sound),
    }


def sam() -> dict[str, Forward]:
    """SAM ViT-H: the image once, then 64 prompts."""
    from transformers import SamConfig, SamModel, SamVisionConfig

    vision = SamVisionConfig(
        hidden_size=1280,
        num_hidden_layers=32,
        num_attention_heads=16,
        global_attn_indexes=[7, 15, 23, 31],
    )
    model = SamModel(SamConfig(vision_config=vision.to_dict())).eval()
    pixels, points = torch.zeros(1, 3, 1024, 1024), torch.full((1, PROMPTS, 1, 2), 512.0)
    embedding = torch.zeros(1, 256, 64, 64)
    return {
        SAM_IMAGE: lambda: model.get_image_embeddings(pixels),
        SAM_PROMPTS: lambda: model(image_embeddings=embedding, input_points=points),
    }


def grounding_dino() -> dict[str, Forward]:
    """GroundingDINO-B on a 750 x 1333 image and eight words."""
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig

    swin = SwinConfig(
        embed_dim=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        window_size=12,
        image_size=384,
        out_indices=[2, 3, 4],
    )
    model = GroundingDinoForObjectDetection(GroundingDinoConfig(backbone_config=swin)).eval()
    pixels, words = torch.zeros(1, 3, 750, 1333), torch.full((1, 8), 1037)
    return {TEXT: lambda: model(pixel_values=pixels, input_ids=words)}


def ast() -> dict[str, Forward]:
    """The tagger on its 10 s of spectrogram."""
    from transformers import ASTConfig, ASTForAudioClassification

    model = ASTForAudioClassification(ASTConfig(num_labels=527)).eval()
    sound = torch.zeros(1, 1024, 128)
    return {"ast": lambda: model(sound)}


MODELS: dict[str, tuple[float, Callable[[], dict[str, Forward]]]] = {
    "imagebind": (3.0, imagebind),
    "sam": (8.0, sam),
    "grounding-dino": (4.0, grounding_dino),
    "ast": (1.0, ast),
}
"""Name -> (GiB it needs, weights and activations; what builds it)."""


def forwards_per_frame(regions: int) -> dict[str, dict[str, float]]:
    """How often each model runs for a frame of a method, with so many regions that look like things."""
    texts, points = len(QUERIES), POINTS_PER_SIDE**2 / PROMPTS
    prompts = math.ceil(regions / PROMPTS)
    heard = {SOUND: 1}
    masks = {TEXT: texts, SAM_IMAGE: 1, SAM_PROMPTS: prompts}
    return {
        "moca": heard | {IMAGE: 1} | masks,
        "frozen": heard | {IMAGE: 1} | masks,
        "at-gdino-sam": {"ast": 1, TEXT: 1, SAM_IMAGE: 1, SAM_PROMPTS: 1},
        "owod-bind": heard | {IMAGE: regions} | masks,
        "sam-bind": heard | {IMAGE: regions, SAM_IMAGE: 1, SAM_PROMPTS: points},
    }


def composed(costs: dict[str, float], regions: int) -> dict[str, dict[str, float]]:
    """Milliseconds per frame by model, for each method all of whose models were timed."""
    found: dict[str, dict[str, float]] = {}
    for method, counts in forwards_per_frame(regions).items():
        if counts.keys() <= costs.keys():
            parts = {f"{count:g} x {name}": round(count * costs[name], 1) for name, count in counts.items()}
            found[method] = {**parts, "all": round(sum(parts.values()), 1)}
    return found


@torch.inference_mode()
def full_size(memory: float, repeats: int) -> dict[str, float]:
    """Milliseconds of one forward of each model that fits."""
    print("| one forward | ms |\n|---|---|")
    costs: dict[str, float] = {}
    for name, (needed, build) in MODELS.items():
        if needed > memory:
            print(f"{name} is left out: it needs {needed:g} GiB")
            continue
        forwards = build()
        for what, forward in forwards.items():
            taken = []
            for _ in range(repeats + 1):
                begin = time.perf_counter()
                forward()
                taken.append(1e3 * (time.perf_counter() - begin))
            costs[what] = round(median(taken[1:]), 1)
            print(f"| {what} | {costs[what]} |", flush=True)
        del forwards, forward
        gc.collect()
    return costs


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = measuring.options(__doc__)
    parser.add_argument("--preset", choices=("lite", "imagebind"), default="lite")
    parser.add_argument("--random", action="store_true", help="random weights; imagebind only")
    parser.add_argument("--memory", type=float, default=24.0, help="GiB there are")
    parser.add_argument("--regions", type=int, default=20, help="per frame; imagebind only")
    options = parser.parse_args(arguments)
    if (options.preset == "imagebind") != options.random:
        parser.error("--preset imagebind goes with --random: its weights don't ship")
    about, costs = measuring.machine(), dict[str, object]()
    if options.random:
        timed = full_size(options.memory, 1 if options.quick else 3)
        costs |= {"a forward": timed, **composed(timed, options.regions)}
    else:
        seconds = 10 if options.quick else SECONDS
        video = make_video(cache_dir() / "benchmarks" / f"video_360p_{seconds}s.mp4", seconds)
        costs |= {name: by_stage(name, video, 2 if options.quick else seconds - 2) for name in METHODS}
    measuring.finish({"cost_of_a_clip_ms": {options.preset: costs}}, about, options.out)


if __name__ == "__main__":
    main()
