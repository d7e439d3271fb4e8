"""`moca segment`: files in, folders out."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from moca_avs.cli.choices import Device, MethodName, PresetName, Settings, described, parse_settings
from moca_avs.cli.sources import Model, Weights, parse_models
from moca_avs.errors import UsageError

if TYPE_CHECKING:
    from moca_avs.inputs import Job
    from moca_avs.methods.base import Method
    from moca_avs.segment import Options, Outcome


@dataclass(frozen=True)
class Segment:
    """Find the sounding pixels of films. OUT/NAME/ gets overlay.mp4, masks/, heatmaps/ and result.json.

    Exit code 0: all done; 1: some inputs failed, each is named and the others are done; 130: stopped by
    Ctrl-C, what was finished is kept.

    Example: moca segment band.mp4 films/ -o out
    """

    out: Annotated[str, arg(aliases=["-o"], metavar="OUT", help="Folder for the results.")]
    inputs: Annotated[
        Positional[tuple[str, ...]], arg(metavar="[INPUT ...]", help="Films, folders of films, or globs.")
    ] = ()
    preset: PresetName = "lite"
    weights: Weights = None
    model: Model = ()
    method: MethodName = "moca"
    settings: Settings = ()
    device: Device = "auto"
    fps: Annotated[str, arg(metavar="N|native", help="Frames looked at per second; native: every frame.")] = (
        "1"
    )
    start: Annotated[float, arg(metavar="S", help="Begin at this second.")] = 0.0
    end: Annotated[float | None, arg(metavar="S", help="End at this second.")] = None
    limit: Annotated[int | None, arg(metavar="N", help="At most N frames of each input.")] = None
    image: Annotated[str | None, arg(metavar="FILE", help="A picture; needs --sound.")] = None
    sound: Annotated[
        str | None, arg(metavar="FILE", help="Hear this instead of the one input's own sound.")
    ] = None
    seed: Annotated[int | None, arg(metavar="N", help="Of the clustering; the preset's own if left out.")] = (
        None
    )
    overwrite: Annotated[bool, arg(help="Do finished results again instead of skipping them.")] = False
    profile: Annotated[bool, arg(help="Print the milliseconds per frame of each stage.")] = False

    def run(self) -> int:
        """Segment everything, naming what was done, skipped and failed."""
        from moca_avs.inputs import find_inputs
        from moca_avs.segment import segment_all

        options = self._options()
        files, missing = find_inputs(self.inputs)
        jobs = self._jobs(files)
        failed = [f"{name}: {why}" for name, why in missing]
        for complaint in failed:
            print(f"moca: {complaint}", file=sys.stderr)
        for outcome in segment_all(jobs, self._load, options):
            tell(outcome, self.profile)
            if outcome.state == "failed":
                failed.append(_complaint(outcome))
        total = len(jobs) + len(missing)
        if failed and total > 1:
            print(f"moca: {len(failed)} of {total} inputs failed:", *failed, sep="\n  ", file=sys.stderr)
        return 1 if failed else 0

    def _options(self) -> Options:
        from moca_avs.segment import Options

        fps: float | Literal["native"] = "native"
        if self.fps != "native":
            try:
                fps = float(self.fps)
            except ValueError as error:
                raise UsageError(f"--fps must be a number or native, found {self.fps!r}") from error
        return Options(fps, self.start, self.end, self.limit, self.overwrite, self.profile)

    def _jobs(self, files: list[Path]) -> list[Job]:
        from moca_avs.inputs import Job, plan

        out = Path(self.out)
        if self.image is not None:
            if self.sound is None or self.inputs:
                raise UsageError(
                    "--image takes one --sound and no other input: moca segment --image F --sound S -o OUT"
                )
            return [Job(Path(self.image), out / Path(self.image).stem, Path(self.sound), still=True)]
        if not self.inputs:
            raise UsageError("give at least one film, folder or glob, or --image and --sound")
        if self.sound is None:
            return plan(files, out)
        if len(files) != 1:
            raise UsageError(f"--sound goes with one input, found {len(files)}")
        return [Job(files[0], out / files[0].stem, Path(self.sound))]

    def _load(self) -> Method:
        from moca_avs import load
        from moca_avs.devices import choose_device

        device, why = choose_device(self.device)
        print(f"device: {device} ({why})")
        settings = parse_settings(self.settings) | ({} if self.seed is None else {"seed": self.seed})
        models = parse_models(self.model)
        method = load(self.preset, self.method, device, self.weights, models, **settings)
        print(f"method: {described(method)}")
        return method


def tell(outcome: Outcome, profile: bool = False) -> None:
    """Say what became of an input: results on stdout, complaints on stderr."""
    job = outcome.job
    for note in outcome.notes:
        print(f"moca: note: {note}", file=sys.stderr)
    if outcome.state == "skipped":
        print(f"{job.source}: skipped, {job.folder} is finished (--overwrite does it again)")
    elif outcome.state == "failed":
        print(f"moca: {_complaint(outcome)}", file=sys.stderr)
    elif outcome.state == "stopped":
        print(
            f"moca: {job.source}: stopped; {outcome.frames} finished frames are kept in {job.folder}",
            file=sys.stderr,
        )
    else:
        empty = "".join(f", {count} {reason}" for reason, count in outcome.empty.items())
        print(f"{job.source}: {outcome.frames} frames{empty} -> {job.folder}")
    if profile and outcome.seconds:
        from moca_avs.stages import stage_table

        print(stage_table(outcome.seconds, outcome.frames, outcome.wall))


def _complaint(outcome: Outcome) -> str:
    """The reason, naming the input unless it does so itself."""
    source = str(outcome.job.source)
    return outcome.message if source in outcome.message else f"{source}: {outcome.message}"
