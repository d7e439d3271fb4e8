"""One input in work: which frames are asked for, what became of it, reading ahead and writing behind."""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from tqdm import tqdm

from moca_avs.clip import Clip, Segmentation
from moca_avs.errors import MocaError, UsageError
from moca_avs.inference.inputs import JobSpec
from moca_avs.inference.remote import fetched, is_finished
from moca_avs.io.frames import probe
from moca_avs.io.open import collect_warnings
from moca_avs.io.overlay import OverlayWriter
from moca_avs.io.results import SegmentationWriter
from moca_avs.io.video import stream_clips, stream_pair
from moca_avs.utils.prefetch import BackgroundWriter, prefetch
from moca_avs.utils.profiler import Profiler, record, record_each

OVERLAY = "overlay.mp4"
SOUND_MARGIN = 5.0  # seconds of sound kept around a chunk, so that windows of up to 10 s are whole


@dataclass(frozen=True)
class SegmentOptions:
    """Which frames of each input are looked at, and what happens to results that are there already.

    Attributes:
        fps: frames looked at per second, or "native": every frame.
        start: seconds.
        end: seconds; None means the video's end.
        limit: at most this many frames of each input; None means all.
        overwrite: do finished results again.
        profile: wait for a GPU at the end of every stage, so that `JobResult.seconds` tells them apart.
        batch: frames a method is given at once, of as many inputs as that takes; None: 16 where it computes
            on a CUDA GPU and can look at several inputs together, else 4 of one input.

    Raises:
        UsageError: on a limit or batch below 1.
    """

    fps: float | Literal["native"] = 1.0
    start: float = 0.0
    end: float | None = None
    limit: int | None = None
    overwrite: bool = False
    profile: bool = False
    batch: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("limit", self.limit), ("batch", self.batch)):
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1 frame, found {value}")


@dataclass
class JobResult:
    """What became of one input.

    Attributes:
        job: the input.
        state: "skipped" where its result was there already; "failed" with the reason in `message`; "stopped"
            by Ctrl-C.
        message: why it failed.
        frames: finished and kept, also where it failed or was stopped.
        empty: how many of those have an empty mask, by reason.
        notes: what should be known of a result all the same (a video that was cut off, ...).
        seconds: by stage (`moca_avs.utils.profiler`); reading and writing overlap with the method. What
            frames of
            several inputs took together is divided among the inputs by their frames.
        wall: seconds from beginning to end; inputs that share a batch overlap.
    """

    job: JobSpec
    state: Literal["done", "skipped", "failed", "stopped"] = "done"
    message: str = ""
    frames: int = 0
    empty: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    wall: float = 0.0


class InputJob:
    """One input in work: `read` it, for each chunk `begin` and `write`, then `end` or `stop`.

    An error of its own (the input's or its result's) is raised nowhere: it is kept in `error`, and nothing
    more is read or written. `read` may be walked in another thread than the one that does the rest.

    Args:
        job: the input and its folder.
        outcome: of this job.
        options: which frames.
        skip: leave it as it is where its result is finished.

    Attributes:
        outcome: filled in as frames are finished.
        error: what ended it; None while all is well.
        begun: whether a result is being written.
    """

    def __init__(self, job: JobSpec, outcome: JobResult, options: SegmentOptions, skip: bool = False) -> None:
        self.outcome, self._options, self._skip = outcome, options, skip
        self.error: MocaError | OSError | None = None
        self.begun = False
        self._job, self._until = job, options.end
        self._began: float | None = None
        self._stages, self._stack = Profiler(), ExitStack()
        outcome.seconds = self._stages.seconds

    @contextmanager
    def _own(self) -> Iterator[None]:
        """Time, notes and errors are this input's."""
        try:
            with collect_warnings(self.outcome.notes), self._stages.activate():
                yield
        except (MocaError, OSError) as error:
            self.fail(error)

    def fail(self, error: MocaError | OSError) -> None:
        """Go no further. Only the first error counts."""
        if self.error is None:
            self.error = error
            self.outcome.state, self.outcome.message = "failed", str(error)

    def read(self, frames: int) -> Generator[Clip]:
        """Its chunks, of at most so many frames, one read ahead; they end where an error is met."""
        with ExitStack() as reading:
            clips: Iterator[Clip] = iter(())
            with self._own():
                if self._skip and is_finished(self._job):
                    self.outcome.state = "skipped"
                    return
                self._began = time.perf_counter()
                clips = reading.enter_context(self._reading(frames))
            while self.error is None:
                clip = None
                with self._own():
                    clip = next(clips, None)
                if clip is None:
                    return
                yield clip

    def _reading(self, frames: int) -> AbstractContextManager[Iterator[Clip]]:
        self._job = self._stack.enter_context(fetched(self._job))
        self._until = _until(self._job, self._options)
        return prefetch(record_each("read", _clips(self._job, self._options, self._until, frames)))

    def begin(self, settings: dict[str, Any], progress: bool) -> bool:
        """Make ready to write, the first time; says whether it goes on.

        Args:
            settings: the method's.
            progress: show a bar over the input's frames.
        """
        if self.error is None and not self.begun:
            self.begun = True
            with self._own():
                self._open(settings, progress)
        return self.error is None

    def _open(self, settings: dict[str, Any], progress: bool) -> None:
        job, options, stack = self._job, self._options, self._stack
        described = {**settings, "input": _described(job, options)}
        self._writer = stack.enter_context(SegmentationWriter(job.folder, described))
        stack.callback(lambda: setattr(self.outcome, "frames", self._writer.frames))
        self._overlay = stack.enter_context(_overlay(job, options, self._until))
        self._bar = stack.enter_context(_bar(job, options, self._until, progress))
        self._later = stack.enter_context(BackgroundWriter())

    def write(self, result: Segmentation) -> None:
        """Have a chunk's result written, unless something went wrong before."""
        if self.error is None:
            with self._own(), record("waiting for writing"):
                self._later(partial(self._write, result))

    def _write(self, result: Segmentation) -> None:
        self._writer.append(result)
        self._overlay.append(result)
        self.outcome.empty.update(reason for reason in result.reasons if reason)
        self._bar.update(len(result))

    def count(self, seconds: Mapping[str, float], share: float) -> None:
        """Add its share of what frames took together."""
        for name, value in seconds.items():
            self.outcome.seconds[name] += share * value

    def end(self) -> None:
        """Finish and close everything that is open."""
        self._close(self.error)

    def stop(self) -> None:
        """Close everything as it is: finished frames are kept."""
        if self.outcome.state == "done":
            self.outcome.state = "stopped"
        self._close(self.error or KeyboardInterrupt())

    def _close(self, error: BaseException | None) -> None:
        with self._own():
            if error is None:
                self._stack.close()
            else:
                self._stack.__exit__(type(error), error, error.__traceback__)
        if self._began is not None:
            self.outcome.wall = time.perf_counter() - self._began


def _clips(job: JobSpec, options: SegmentOptions, until: float | None, frames: int) -> Iterator[Clip]:
    if not job.still:
        return stream_clips(
            job.source, options.fps, frames, SOUND_MARGIN, options.start, until, sound=job.sound
        )
    if job.sound is None:
        raise UsageError(f"{job.source} is an image: it needs a sound to go with it")
    if options.fps == "native" or options.start or options.end is not None or options.limit is not None:
        raise UsageError("an image is shown for as long as its sound lasts: leave start, end, limit out")
    return stream_pair(job.source, job.sound, options.fps, frames, SOUND_MARGIN)


def _overlay(job: JobSpec, options: SegmentOptions, until: float | None) -> OverlayWriter:
    still_fps = float(options.fps) if job.still else None
    return OverlayWriter(job.folder / OVERLAY, job.source, job.sound, options.start, until, still_fps)


def _until(job: JobSpec, options: SegmentOptions) -> float | None:
    """Where to stop, in seconds, so that there are no more frames than the limit."""
    if options.limit is None or job.still:
        return options.end
    if options.fps != "native":
        stop = options.start + options.limit / float(options.fps)
        return stop if options.end is None else min(stop, options.end)
    clips = stream_clips(job.source, "native", 1, 0.0, options.start, options.end, sound=job.sound)
    beyond = next(itertools.islice(clips, options.limit, None), None)
    return options.end if beyond is None else float(beyond.times[0])


def _bar(job: JobSpec, options: SegmentOptions, until: float | None, progress: bool) -> tqdm:
    """A bar over frames; on a log file it speaks up every few seconds only."""
    return tqdm(
        desc=job.source.name,
        total=_expected(job, options, until) if progress else None,
        unit="frame",
        mininterval=0.1 if sys.stderr.isatty() else 5.0,
        disable=not progress,
    )


def _expected(job: JobSpec, options: SegmentOptions, until: float | None) -> int:
    """About how many frames there will be, by what the file's header says."""
    info = probe(job.sound if job.still and job.sound else job.source)
    fps = info.fps if options.fps == "native" else float(options.fps)
    last = info.duration if until is None else min(info.duration, until)
    return max(1, math.ceil((last - options.start) * fps - 1e-3))


def _described(job: JobSpec, options: SegmentOptions) -> dict[str, Any]:
    chosen = {"fps": options.fps, "start": options.start, "end": options.end, "limit": options.limit}
    return {"source": job.name, "sound": None if job.sound is None else str(job.sound), **chosen}
