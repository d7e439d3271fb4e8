"""`moca segment`: files in, folders out."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from moca_avs.cli.args import (
    ConfigName,
    Device,
    MethodName,
    Model,
    PresetName,
    Settings,
    Weights,
    choose,
    load_chosen,
    parse_settings,
    parse_shard,
)
from moca_avs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moca_avs.inference.inputs import InputSource, JobSpec
    from moca_avs.inference.job import JobResult, SegmentOptions
    from moca_avs.inference.ray_config import RayConfig
    from moca_avs.methods.base import Method
    from moca_avs.methods.source import MethodChoice


@dataclass(frozen=True)
class Segment:
    """Find the sounding pixels of videos. OUT/NAME/ gets overlay.mp4, masks/, heatmaps/ and result.json.

    Exit code 0: all done; 1: some inputs failed, each is named and the others are done; 130: stopped by
    Ctrl-C, 143: by SIGTERM; what was finished is kept, and the same command goes on behind it.

    Example: moca segment band.mp4 videos/ -o out
    """

    out: Annotated[str, arg(aliases=["-o"], metavar="OUT", help="Folder for the results, or its URL.")]
    inputs: Annotated[
        Positional[tuple[str, ...]],
        arg(
            metavar="[INPUT ...]",
            help="Videos, folders of videos, globs, URLs (s3://, gs://, https://), @LIST with one of "
            "these per line, or - for such a list on stdin.",
        ),
    ] = ()
    preset: PresetName = "lite"
    weights: Weights = None
    model: Model = ()
    method: MethodName = None
    config: ConfigName = None
    settings: Settings = ()
    device: Device = "auto"
    fps: Annotated[str, arg(metavar="N|native", help="Frames looked at per second; native: every frame.")] = (
        "1"
    )
    start: Annotated[float, arg(metavar="S", help="Begin at this second.")] = 0.0
    end: Annotated[float | None, arg(metavar="S", help="End at this second.")] = None
    limit: Annotated[int | None, arg(metavar="N", help="At most N frames of each input.")] = None
    square_pixels: Annotated[
        bool,
        arg(
            help="Make masks and overlay as wide as players show a video whose pixels are not square; else "
            "they have the size in which it is coded, and the overlay says how wide its pixels are."
        ),
    ] = False
    image: Annotated[str | None, arg(metavar="FILE", help="An image; needs --sound.")] = None
    sound: Annotated[
        str | None, arg(metavar="FILE", help="Hear this instead of the one input's own sound.")
    ] = None
    audio_track: Annotated[
        int | None,
        arg(
            metavar="N",
            help="Hear this one of several sound tracks, counted from 0 (ffprobe's a:N); if left out, the "
            "one FFmpeg prefers.",
        ),
    ] = None
    seed: Annotated[int | None, arg(metavar="N", help="Of the clustering; the preset's own if left out.")] = (
        None
    )
    overwrite: Annotated[
        bool,
        arg(
            help="Begin every input anew. Else a finished result of the same file and settings is skipped, "
            "one of others refused, and an interrupted one goes on."
        ),
    ] = False
    outputs: Annotated[
        str,
        arg(
            metavar="LIST",
            help="What to write, joined by commas: overlay (overlay.mp4), masks, heatmaps, json "
            "(result.json, masks included; always written).",
        ),
    ] = "overlay,masks,heatmaps,json"
    name_by: Annotated[
        Literal["stem", "path", "hash"],
        arg(
            help="Name of a result folder: stem: clip, of /data/a/clip.mp4; path: data/a/clip.mp4; hash: "
            "clip-3f7a0c21, by the whole path."
        ),
    ] = "stem"
    shard: Annotated[
        str | None,
        arg(metavar="I/N", help="Only every N-th input, from the I-th on (1/4, 2/4, ...), of the same list."),
    ] = None
    propagate: Annotated[
        Literal["none", "flow"],
        arg(help="flow: a mask for every frame, carried by optical flow from the one looked at."),
    ] = "none"
    batch: Annotated[
        int | None,
        arg(
            metavar="N",
            help="Give the method N frames at once, of several inputs where one has fewer; if left out, 16 "
            "on an NVIDIA GPU, else 4 of one input.",
        ),
    ] = None
    profile: Annotated[bool, arg(help="Print the milliseconds per frame of each stage.")] = False
    engine: Annotated[
        Literal["local", "ray"],
        arg(help="local: in this process, in order; ray: side by side on Ray (moca-avs[ray])."),
    ] = "local"
    workers: Annotated[int | None, arg(metavar="N", help="Of ray; else one per GPU or processor.")] = None
    cpus_per_worker: Annotated[int | None, arg(metavar="N", help="Of ray; else an equal share.")] = None
    gpus_per_worker: Annotated[float | None, arg(metavar="N", help="Of ray; else 1 where there are any.")] = (
        None
    )
    retries: Annotated[
        int, arg(metavar="N", help="Of ray: begin an input again after its worker died or its disk failed.")
    ] = 2
    ray_address: Annotated[
        str | None, arg(metavar="HOST:PORT", help="Of a running Ray cluster; else RAY_ADDRESS, else none.")
    ] = None

    def run(self) -> int:
        """Segment everything, naming what was done, skipped and failed."""
        from moca_avs.inference.index import RunIndex
        from moca_avs.inference.inputs import find_inputs, is_url
        from moca_avs.methods import check_weights

        options, choice = self._options(), self._choice()
        self._check()
        files, missing = find_inputs(self.inputs)
        jobs = self._jobs(files)
        failed = [f"{name}: {why}" for name, why in missing]
        for complaint in failed:
            print(f"moca: {complaint}", file=sys.stderr)
        if jobs and self.engine == "local":  # the workers of a cluster may have what is missing here
            check_weights(choice)
        with RunIndex(self.out if is_url(self.out) else Path(self.out)) as index:
            for name, why in missing:
                index.add_line({"input": name, "state": "failed", "message": why})
            for outcome in self._outcomes(jobs, options):
                index.add(outcome)
                tell(outcome, self.profile)
                if outcome.state == "failed":
                    failed.append(_complaint(outcome))
        total = len(jobs) + len(missing)
        if failed and total > 1:
            print(f"moca: {len(failed)} of {total} inputs failed:", *failed, sep="\n  ", file=sys.stderr)
        return 1 if failed else 0

    def _outcomes(self, jobs: list[JobSpec], options: SegmentOptions) -> Iterator[JobResult]:
        if self.engine == "local":
            from moca_avs.inference.segment import segment_all

            return segment_all(jobs, self._load, options)
        from moca_avs.inference.ray import segment_on_ray

        return segment_on_ray(jobs, self._load, options, self._spread())

    def _spread(self) -> RayConfig:
        from moca_avs.inference.ray_config import RayConfig

        asked = RayConfig(
            self.workers, self.cpus_per_worker, self.gpus_per_worker, self.retries, self.ray_address
        )
        return replace(asked, gpus_per_worker=0.0) if self.device == "cpu" else asked

    def _options(self) -> SegmentOptions:
        from moca_avs.inference.job import SegmentOptions

        fps: float | Literal["native"] = "native"
        if self.fps != "native":
            try:
                fps = float(self.fps)
            except ValueError as error:
                raise UsageError(f"--fps must be a number or native, found {self.fps!r}") from error
        return SegmentOptions(
            fps,
            self.start,
            self.end,
            self.limit,
            self.overwrite,
            self.profile,
            self.batch,
            self.propagate,
            tuple(name.strip() for name in self.outputs.split(",") if name.strip()),
            audio_track=self.audio_track,
            square_pixels=self.square_pixels,
        )

    def _jobs(self, files: list[InputSource]) -> list[JobSpec]:
        from moca_avs.inference.inputs import is_url, plan

        out = self.out if is_url(self.out) else Path(self.out)
        if self.image is not None:
            if self.sound is None or self.inputs:
                raise UsageError(
                    "--image takes one --sound and no other input: moca segment --image F --sound S -o OUT"
                )
            return [
                replace(plan([Path(self.image)], out, self.name_by)[0], sound=Path(self.sound), still=True)
            ]
        if not self.inputs:
            raise UsageError("give at least one video, folder or glob, or --image and --sound")
        if self.sound is None:
            number, count = parse_shard("1/1" if self.shard is None else self.shard)
            return plan(files, out, self.name_by)[number - 1 :: count]
        if len(files) != 1:
            raise UsageError(f"--sound goes with one input, found {len(files)}")
        return [replace(plan(files, out, self.name_by)[0], sound=Path(self.sound))]

    def _check(self) -> None:
        """What is known to fail before anything heavy is loaded."""
        from moca_avs.inference.inputs import is_url
        from moca_avs.utils.extras import require_extra
        from moca_avs.utils.files import check_writable

        if not self.out:
            raise UsageError("-o must name a folder or URL, found an empty name; for this folder give .")
        if self.engine == "ray":
            require_extra("ray", "--engine ray")
            self._spread()
        if not is_url(self.out):
            check_writable(Path(self.out), folder=True)

    def _load(self) -> Method:
        return load_chosen(self._choice(), self.device)

    def _choice(self) -> MethodChoice:
        settings = {} if self.batch is None else {"batch": self.batch}
        settings |= parse_settings(self.settings) | ({} if self.seed is None else {"seed": self.seed})
        return choose(self.preset, self.method, self.device, self.weights, self.model, self.config, settings)


def tell(outcome: JobResult, profile: bool = False) -> None:
    """Say what became of an input: results on stdout, complaints on stderr."""
    job = outcome.job
    for note in outcome.notes:
        print(f"moca: note: {note}", file=sys.stderr)
    if outcome.state == "skipped":
        why = outcome.message or f"{job.result} is finished (--overwrite does it again)"
        print(f"{job.name}: skipped, {why}")
    elif outcome.state == "failed":
        print(f"moca: {_complaint(outcome)}", file=sys.stderr)
    elif outcome.state == "stopped":
        print(
            f"moca: {job.name}: stopped; "
            + (
                f"{outcome.frames} finished frames are kept in {job.folder}"
                if job.upload is None
                else "nothing kept"
            ),
            file=sys.stderr,
        )
    else:
        empty = "".join(f", {count} {reason}" for reason, count in outcome.empty.items())
        print(f"{job.name}: {outcome.frames} frames{empty} -> {job.result}")
    if profile and outcome.seconds:
        from moca_avs.utils.profiler import profile_table

        print(profile_table(outcome.seconds, outcome.frames, outcome.wall))


def _complaint(outcome: JobResult) -> str:
    """The reason, naming the input unless it does so itself."""
    source = outcome.job.name
    return outcome.message if source in outcome.message else f"{source}: {outcome.message}"
