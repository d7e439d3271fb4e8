"""Files in, folders out: films stream through a method, finished results are skipped, failures are listed."""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal

from tqdm import tqdm

from moca_avs.clip import Clip, Segmentation
from moca_avs.errors import MocaError, UsageError, WeightsError
from moca_avs.inputs import Job
from moca_avs.media import (
    OverlayWriter,
    SegmentationWriter,
    probe,
    stream_clips,
    stream_pair,
)
from moca_avs.media.opening import noting
from moca_avs.methods.base import Method
from moca_avs.overlap import Behind, ahead
from moca_avs.stages import Stages, stage, staged, wait_for_gpu
from moca_avs.stores import at_hand, is_finished

OVERLAY = "overlay.mp4"
CHUNK_FRAMES = 4  # frames a method sees at once: few enough for a lively bar and a prompt Ctrl-C
SOUND_MARGIN = 5.0  # seconds of sound kept around a chunk, so that windows of up to 10 s are whole


@dataclass(frozen=True)
class Options:
    """Which frames of each input are looked at, and what happens to results that are there already.

    Attributes:
        fps: frames looked at per second, or "native": every frame.
        start: seconds.
        end: seconds; None means the film's end.
        limit: at most this many frames of each input; None means all.
        overwrite: do finished results again.
        profile: wait for a GPU at the end of every stage, so that `Outcome.seconds` tells them apart.

    Raises:
        UsageError: on a limit below 1.
    """

    fps: float | Literal["native"] = 1.0
    start: float = 0.0
    end: float | None = None
    limit: int | None = None
    overwrite: bool = False
    profile: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit must be at least 1 frame, found {self.limit}")


@dataclass
class Outcome:
    """What became of one input.

    Attributes:
        job: the input.
        state: "skipped" where its result was there already; "failed" with the reason in `message`; "stopped"
            by Ctrl-C.
        message: why it failed.
        frames: finished and kept, also where it failed or was stopped.
        empty: how many of those have an empty mask, by reason.
        notes: what should be known of a result all the same (a film that was cut off, ...).
        seconds: by stage (`moca_avs.stages`); reading and writing overlap with the method.
        wall: seconds from beginning to end.
    """

    job: Job
    state: Literal["done", "skipped", "failed", "stopped"] = "done"
    message: str = ""
    frames: int = 0
    empty: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    wall: float = 0.0


def segment_all(
    jobs: Sequence[Job], load: Callable[[], Method], options: Options, progress: bool = True
) -> Iterator[Outcome]:
    """Segment one input after the other; one that fails doesn't stop the others.

    Args:
        jobs: inputs and their folders.
        load: builds the method; called once, and only when an input that can be read is there to be done.
        options: which frames, and whether to overwrite.
        progress: show a bar with the time left on stderr.

    Yields:
        An outcome per job, as soon as it is known.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the outcome of the input that it stopped.
        UsageError: options that make no sense.
        WeightsError: where the method can't be loaded.
    """
    load = cache(load)
    for job in jobs:
        outcome = Outcome(job)
        try:
            if not options.overwrite and is_finished(job):
                yield Outcome(job, "skipped")
                continue
            segment_file(job, load, options, outcome, progress)
        except (UsageError, WeightsError):  # wrong for every input
            raise
        except (MocaError, OSError) as error:
            outcome.state, outcome.message = "failed", str(error)
        except KeyboardInterrupt:
            outcome.state = "stopped"
            yield outcome
            raise
        yield outcome


def segment_file(
    job: Job, load: Callable[[], Method], options: Options, outcome: Outcome, progress: bool = True
) -> None:
    """Stream one input through a method into its folder, in memory that doesn't grow with its length.

    Args:
        job: the input and its folder.
        load: gives the method; asked once the input has shown that it can be read.
        options: which frames.
        outcome: filled in as frames are finished.
        progress: show a bar.

    Raises:
        MediaError: an input that can't be read, or a place that can't be written.
        UsageError: options that make no sense for this input.
    """
    stages = Stages()
    outcome.seconds = stages.seconds
    begin = time.perf_counter()
    with noting(outcome.notes), stages.gathering(), at_hand(job) as job, ExitStack() as stack:
        stack.callback(lambda: setattr(outcome, "wall", time.perf_counter() - begin))
        end = _end(job, options)
        clips = stack.enter_context(ahead(staged("read", _clips(job, options, end))))
        clip = next(clips, None)  # before anything is written: an input that can't be read leaves nothing
        method = load()
        stages.wait = wait_for_gpu if options.profile else None
        settings = {**method.settings, "input": _described(job, options)}
        writer = stack.enter_context(SegmentationWriter(job.folder, settings))
        stack.callback(lambda: setattr(outcome, "frames", writer.frames))
        overlay = stack.enter_context(_overlay(job, options, end))
        bar = stack.enter_context(_bar(job, options, end, progress))
        later = stack.enter_context(Behind())
        while clip is not None:
            with stage("decide"):
                result = method(clip)
            with stage("waiting for writing"):
                later(partial(_write, result, writer, overlay, outcome, bar))
            with stage("waiting for frames"):
                clip = next(clips, None)


def _write(
    result: Segmentation, writer: SegmentationWriter, overlay: OverlayWriter, outcome: Outcome, bar: tqdm
) -> None:
    writer.append(result)
    overlay.append(result)
    outcome.empty.update(reason for reason in result.reasons if reason)
    bar.update(len(result))


def _clips(job: Job, options: Options, end: float | None) -> Iterator[Clip]:
    if not job.still:
        return stream_clips(
            job.source, options.fps, CHUNK_FRAMES, SOUND_MARGIN, options.start, end, sound=job.sound
        )
    if job.sound is None:
        raise UsageError(f"{job.source} is a picture: it needs a sound to go with it")
    if options.fps == "native" or options.start or options.end is not None or options.limit is not None:
        raise UsageError("a picture is shown for as long as its sound lasts: leave start, end, limit out")
    return stream_pair(job.source, job.sound, options.fps, CHUNK_FRAMES, SOUND_MARGIN)


def _overlay(job: Job, options: Options, end: float | None) -> OverlayWriter:
    still_fps = float(options.fps) if job.still else None
    return OverlayWriter(job.folder / OVERLAY, job.source, job.sound, options.start, end, still_fps)


def _end(job: Job, options: Options) -> float | None:
    """Where to stop, in seconds, so that there are no more frames than the limit."""
    if options.limit is None or job.still:
        return options.end
    if options.fps != "native":
        stop = options.start + options.limit / float(options.fps)
        return stop if options.end is None else min(stop, options.end)
    clips = stream_clips(job.source, "native", 1, 0.0, options.start, options.end, sound=job.sound)
    beyond = next(itertools.islice(clips, options.limit, None), None)
    return options.end if beyond is None else float(beyond.times[0])


def _bar(job: Job, options: Options, end: float | None, progress: bool) -> tqdm:
    """A bar over frames; on a log file it speaks up every few seconds only."""
    return tqdm(
        desc=job.source.name,
        total=_expected(job, options, end) if progress else None,
        unit="frame",
        mininterval=0.1 if sys.stderr.isatty() else 5.0,
        disable=not progress,
    )


def _expected(job: Job, options: Options, end: float | None) -> int:
    """About how many frames there will be, by what the file's header says."""
    info = probe(job.sound if job.still and job.sound else job.source)
    fps = info.fps if options.fps == "native" else float(options.fps)
    last = info.duration if end is None else min(info.duration, end)
    return max(1, math.ceil((last - options.start) * fps - 1e-3))


def _described(job: Job, options: Options) -> dict[str, Any]:
    chosen = {"fps": options.fps, "start": options.start, "end": options.end, "limit": options.limit}
    return {"source": job.name, "sound": None if job.sound is None else str(job.sound), **chosen}
