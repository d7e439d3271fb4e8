"""One input in work: which frames are asked for, what became of it, reading ahead and writing behind."""

from __future__ import annotations

import bisect
import itertools
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from tqdm import tqdm

from moca_avs.clip import Clip, Segmentation
from moca_avs.errors import MocaError, UsageError
from moca_avs.inference.carrying import MaskCarrier
from moca_avs.inference.finished import claim, describe_input, differences, kept_result, refusal
from moca_avs.inference.inputs import JobSpec, fetched
from moca_avs.io.frames import TOLERANCE, probe
from moca_avs.io.kept_results import KeptResult
from moca_avs.io.open import collect_warnings
from moca_avs.io.overlay import OverlayWriter
from moca_avs.io.results import OUTPUTS, OVERLAY, SegmentationWriter
from moca_avs.io.video import check_stretch, stream_clips, stream_pair
from moca_avs.utils.prefetch import BackgroundWriter, prefetch
from moca_avs.utils.profiler import Profiler, record, record_each
from moca_avs.utils.settings import Count, NonNegative, Range

SOUND_MARGIN = 5.0  # seconds of sound kept around a chunk, so that windows of up to 10 s are whole


@dataclass(frozen=True)
class SegmentOptions:
    """Which frames of each input are looked at, and what happens to results that are there already.

    Attributes:
        fps: frames processed per second, above 0; or "native": every frame.
        start: seconds.
        end: seconds, after the start; None means the video's end.
        limit: at most this many frames of each input; None means all.
        overwrite: do again what is finished, and what was interrupted from its beginning; else a finished
            result of the same input and settings is skipped, one of others is refused, and an interrupted one
            goes on behind its kept frames.
        profile: wait for a GPU at the end of every stage, so that `JobResult.seconds` tells them apart.
        propagate: "flow": every frame of a video gets a mask, those between the looked-at ones by optical
            flow (`moca_avs.inference.carrying.MaskCarrier`); "none": only those that are looked at.
        batch: frames a method is given at once, of as many inputs as that takes; None: 16 where it computes
            on a CUDA GPU and can look at several inputs together, else 4 of one input.
        outputs: what is written, of `moca_avs.io.results.OUTPUTS`; result.json always is.
        audio_track: which of several sound tracks is heard, counted from 0; None: the one FFmpeg prefers.
        square_pixels: masks and overlay have the size of the video with its pixels made square; else that in
            which it is coded.

    Raises:
        UsageError: on a limit or batch below 1, unknown outputs, or rates, times or tracks without sense.
    """

    fps: float | Literal["native"] = 1.0
    start: NonNegative = 0.0
    end: float | None = None
    limit: Count | None = None
    overwrite: bool = False
    profile: bool = False
    batch: Count | None = None
    propagate: Literal["none", "flow"] = "none"
    outputs: tuple[str, ...] = OUTPUTS
    audio_track: Annotated[int, Range(0)] | None = None
    square_pixels: bool = False

    def __post_init__(self) -> None:
        for name, value in (("limit", self.limit), ("batch", self.batch)):
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1 frame, found {value}")
        if self.end == math.inf:  # which JSON can't hold
            object.__setattr__(self, "end", None)
        object.__setattr__(self, "outputs", tuple(dict.fromkeys(self.outputs)))
        check_stretch(self.fps, self.start, self.end, 0.0, audio_track=self.audio_track)
        if self.propagate not in ("none", "flow"):
            raise UsageError(f'propagate must be "none" or "flow", found {self.propagate!r}')
        unknown = sorted(set(self.outputs) - set(OUTPUTS))
        if unknown or not self.outputs:
            raise UsageError(
                f"outputs must be some of {', '.join(OUTPUTS)}, found {', '.join(unknown) or 'none'}"
            )


@dataclass(repr=False)
class JobResult:
    """What became of one input.

    Attributes:
        job: the input.
        state: "skipped" where its result was there already, or another process works on it (`message`);
            "failed" with the reason in `message`; "stopped" by Ctrl-C or SIGTERM.
        message: why it failed, or was skipped.
        frames: finished and kept, also where it failed or was stopped, and by an interrupted run before.
        empty: how many of those have an empty mask, by reason.
        notes: what should be known of a result all the same (a video that was cut off, ...).
        seconds: by stage (`moca_avs.utils.profiler`); reading and writing overlap with the method. What
            frames of several inputs took together is divided among the inputs by their frames.
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

    def __repr__(self) -> str:
        told = f": {self.message}" if self.message else f", {self.frames} frames -> {self.job.result}"
        return f"JobResult({self.job.name!r}, {self.state}{told})"


class InputJob:
    """One open input: `read` it, for each clip `begin` and `write`, then `close`.

    An error of its own (the input's or its result's) is raised nowhere: it is kept in `error`, and nothing
    more is read or written. `read` may be walked in another thread than the one that does the rest.

    Args:
        job: the input and its folder.
        result: of this job.
        options: which frames, and what happens to a result that is there.
        settings: gives the method's; asked early where there is a result to compare them with.

    Attributes:
        result: filled in as frames are finished.
        error: what ended it; None while all is well.
        begun: whether a result is being written.
    """

    def __init__(
        self,
        job: JobSpec,
        result: JobResult,
        options: SegmentOptions,
        settings: Callable[[], dict[str, Any]],
    ) -> None:
        self.result, self._options, self._settings = result, options, settings
        self.error: MocaError | OSError | None = None
        self.begun = False
        self._job, self._end = job, options.end
        # Between whole frames: in the middle of the interval that its mask stands for.
        self._phase = 0.0 if job.still or options.fps == "native" else 0.5
        self._carrier: MaskCarrier | None = None
        self._start: float | None = None
        self._input: dict[str, Any] = {}
        # Frames of an interrupted result that stay, and how many looked-at frames they are the results of.
        self._keep = self._skip = 0
        self._profiler, self._stack = Profiler(), ExitStack()
        result.seconds = self._profiler.seconds

    @contextmanager
    def _own(self) -> Iterator[None]:
        """Time, notes and errors are this input's."""
        try:
            with collect_warnings(self.result.notes), self._profiler.activate():
                yield
        except (MocaError, OSError) as error:
            self.fail(error)

    def fail(self, error: MocaError | OSError) -> None:
        """Go no further. Only the first error counts."""
        if self.error is None:
            self.error = error
            self.result.state, self.result.message = "failed", str(error)

    def read(self, frames: int) -> Generator[Clip]:
        """Its clips, of at most so many frames, one read ahead; they end where an error is met."""
        with ExitStack() as reading:
            clips: Iterator[Clip] = iter(())
            with self._own():
                self._start = time.perf_counter()
                if self._is_settled(frames):
                    return
                self._job = self._stack.enter_context(fetched(self._job))
                clips = reading.enter_context(prefetch(record_each("read", self._clips(frames))))
            while self.error is None:
                clip = None
                with self._own():
                    clip = next(clips, None)
                if clip is None:
                    return
                yield clip

    def _is_settled(self, frames: int) -> bool:
        """Whether there is nothing to do: finished, in the way, or another's; else what is kept is known."""
        job, options, result = self._job, self._options, self.result
        if job.upload is None and not self._stack.enter_context(claim(job.folder)):
            result.state, result.message = "skipped", "another process is at work on it"
            return True
        self._input = describe_input(
            job,
            {
                "fps": options.fps,
                "start": options.start,
                "end": options.end,
                "limit": options.limit,
                "phase": self._phase,
                "propagate": options.propagate,
                "outputs": sorted(options.outputs),
                **({} if options.audio_track is None else {"audio_track": options.audio_track}),
                **({"square_pixels": True} if options.square_pixels else {}),
            },
        )
        kept = None if options.overwrite else kept_result(job)
        if kept is None:
            return False
        other, settings = differences(kept.settings, {**self._settings(), "input": self._input})
        if not other and not settings:
            if kept.complete:
                result.state = "skipped"
                return True
            self._keep_of(kept, frames)
            return False
        there = kept.settings.get("input", {})
        named = all(there.get(name) == self._input[name] for name in ("source", "sound"))
        if kept.complete and (settings or not named):
            raise refusal(job, kept.settings, other, settings)
        what = "the input has changed since" if named and not settings else "it was begun with other settings"
        result.notes.append(f"{job.result}: {what}, so it is done from the beginning")
        return False

    def _keep_of(self, kept: KeptResult, frames: int) -> None:
        """Choose which frames of an interrupted result stay: whole chunks, and at least one is left to do."""
        self._keep = self._skip = max(len(kept.times) - 1, 0) // frames * frames
        if kept.times and self._phase and self._options.propagate == "flow":  # whole intervals only
            fps, start = float(self._options.fps), self._options.start
            self._skip = math.floor((kept.times[-1] - start + TOLERANCE) * fps) // frames * frames
            self._keep = bisect.bisect_left(kept.times, start + self._skip / fps - TOLERANCE)
        if self._keep:
            self.result.empty.update(reason for reason in kept.reasons[: self._keep] if reason)
            self.result.notes.append(
                f"{self._job.result}: goes on behind {self._keep} frames that an interrupted run finished"
            )

    def _clips(self, frames: int) -> Iterator[Clip]:
        job, options = self._job, self._options
        if job.still:
            if job.sound is None:
                raise UsageError(f"{job.source} is an image: it needs a sound to go with it")
            given = options.start or options.end is not None or options.limit is not None
            if options.fps == "native" or given:
                raise UsageError(
                    "an image is shown for as long as its sound lasts: leave start, end, limit out"
                )
            return stream_pair(
                job.source,
                job.sound,
                options.fps,
                frames,
                SOUND_MARGIN,
                context=1,
                audio_track=options.audio_track,
                skip=self._skip,
            )
        if options.limit is not None:  # where to stop, so that there are no more frames than that
            if options.fps != "native":
                stop = options.start + options.limit / float(options.fps)
                self._end = stop if options.end is None else min(stop, options.end)
            else:
                every = stream_clips(
                    job.source,
                    "native",
                    1,
                    0.0,
                    options.start,
                    options.end,
                    sound=job.sound,
                    audio_track=options.audio_track,
                )
                beyond = next(itertools.islice(every, options.limit, None), None)
                self._end = options.end if beyond is None else float(beyond.times[0])
        return stream_clips(
            job.source,
            options.fps,
            frames,
            SOUND_MARGIN,
            options.start,
            self._end,
            job.sound,
            self._phase,
            context=1,
            skip=self._skip,
            audio_track=options.audio_track,
            square_pixels=options.square_pixels,
        )

    def begin(self, progress: bool) -> bool:
        """Make ready to write, the first time; says whether it goes on.

        Args:
            progress: show a bar over the input's frames; on a log file it speaks every few seconds only.
        """
        if self.error is not None or self.begun:
            return self.error is None
        self.begun = True
        job, options, enter = self._job, self._options, self._stack.enter_context
        described = {**self._settings(), "input": self._input}
        with self._own():
            self._writer = enter(SegmentationWriter(job.folder, described, options.outputs, self._keep))
            self._stack.callback(lambda: setattr(self.result, "frames", self._writer.frames))
            still_fps, interval = (float(options.fps) if job.still else None), None
            if self._phase and options.propagate == "flow":
                self._carrier = MaskCarrier(job.source, float(options.fps), options.start, self._end)
                self._stack.callback(self._carrier.close)
            elif self._phase:
                interval = 1 / float(options.fps)
            self._overlay: OverlayWriter | None = None
            if "overlay" in options.outputs:
                shown = OverlayWriter(
                    job.folder / OVERLAY,
                    job.source,
                    job.sound,
                    options.start,
                    self._end,
                    still_fps,
                    interval,
                    audio_track=options.audio_track,
                    square_pixels=options.square_pixels,
                )
                self._overlay = enter(shown)
                for moment, mask in self._writer.kept() if self._keep else ():
                    self._overlay.add(moment, mask)
            self._bar = enter(
                tqdm(
                    desc=job.source.name,
                    total=self._expected() if progress else None,
                    unit="frame",
                    initial=self._skip,
                    mininterval=0.1 if sys.stderr.isatty() else 5.0,
                    disable=not progress,
                )
            )
            self._writing = enter(BackgroundWriter())
        return self.error is None

    def _expected(self) -> int:
        """About how many frames there will be, by what the file's header says."""
        job, options = self._job, self._options
        info = probe(job.sound if job.still and job.sound else job.source)
        fps = info.fps if options.fps == "native" else float(options.fps)
        last = info.duration if self._end is None else min(info.duration, self._end)
        return max(1, math.ceil((last - options.start) * fps - 1e-3))

    def write(self, segmentation: Segmentation) -> None:
        """Have a clip's result written in a thread, unless something went wrong before."""

        def append() -> None:
            parts: Iterator[Segmentation] = iter([segmentation])
            if self._carrier is not None:
                parts = record_each("carry masks", self._carrier.expand(segmentation))
            for part in parts:
                self._writer.append(part)
                if self._overlay is not None:
                    self._overlay.append(part)
                self.result.empty.update(reason for reason in part.reasons if reason)
            self._bar.update(len(segmentation))

        if self.error is None:
            with self._own(), record("waiting for writing"):
                self._writing(append)

    def close(self, stopped: bool = False) -> None:
        """Finish and close everything that is open; `stopped`: as it is, finished frames are kept."""
        if stopped and self.result.state == "done":
            self.result.state = "stopped"
        error = self.error or (KeyboardInterrupt() if stopped else None)
        with self._own():
            if error is None:
                self._stack.close()
            else:
                self._stack.__exit__(type(error), error, error.__traceback__)
        if self._start is not None:
            self.result.wall = time.perf_counter() - self._start
