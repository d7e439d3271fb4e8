"""Files in, folders out: videos stream through a method, finished results are skipped, failures are listed.

Inputs are walked in order, as pieces: an input's chunks, then its end. The method answers them in groups.
Without a batch a group is one piece, so one input is in work at a time. With a batch it has that many frames,
of as many inputs as it takes, and is read while the group before is answered; an input that ends in it is
closed after the next, when it has been written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import chain

from tqdm import tqdm

from moca_avs.clip import Clip, Segmentation
from moca_avs.errors import MocaError, UsageError, WeightsError
from moca_avs.inference.inputs import JobSpec
from moca_avs.inference.job import InputJob, JobResult, SegmentOptions
from moca_avs.methods.base import BatchedMethod, Method
from moca_avs.utils.prefetch import prefetch
from moca_avs.utils.profiler import Profiler, record, synchronize_gpu

CHUNK_FRAMES = 4  # frames read at once: few enough for a lively bar and a prompt Ctrl-C
GPU_FRAMES = 16  # frames a method on a GPU is given at once: fewer leave it idle

Chunk = tuple[InputJob, Clip | None]
"""A chunk of an input; None: that was all of it."""


def segment_all(
    jobs: Sequence[JobSpec], load: Callable[[], Method], options: SegmentOptions, progress: bool = True
) -> Iterator[JobResult]:
    """Segment inputs in order; one that fails doesn't stop the others.

    Args:
        jobs: inputs and their folders.
        load: builds the method; called once, and only when an input that can be read is there to be done.
        options: which frames, whether to overwrite, how many frames at once.
        progress: show a bar with the time left on stderr: over an input's frames, or over inputs where
            several are in work at once.

    Yields:
        An outcome per job, in their order, as soon as it is known.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the outcomes of the inputs that it stopped.
        UsageError: options that make no sense.
        WeightsError: where the method can't be loaded.
    """
    works = (InputJob(job, JobResult(job), options, skip=not options.overwrite) for job in jobs)
    for work in _ended(works, load, options, _Shown(len(jobs), progress)):
        yield work.outcome


def segment_file(
    job: JobSpec,
    load: Callable[[], Method],
    options: SegmentOptions,
    outcome: JobResult,
    progress: bool = True,
) -> None:
    """Stream one input through a method into its folder, in memory that doesn't grow with its length.

    Args:
        job: the input and its folder.
        load: gives the method; asked once the input has shown that it can be read.
        options: which frames.
        outcome: of this job; filled in as frames are finished.
        progress: show a bar.

    Raises:
        MediaError: an input that can't be read, or a place that can't be written.
        UsageError: options that make no sense for this input.
    """
    for work in _ended([InputJob(job, outcome, options)], load, options, _Shown(1, progress)):
        if work.error is not None:
            raise work.error


@dataclass(frozen=True)
class _Shown:
    """How many inputs there are, and whether bars are shown."""

    inputs: int
    progress: bool

    def over_inputs(self, most: int | None) -> bool:
        """Whether the one bar is over inputs, because several are in work at once."""
        return self.progress and most is not None and self.inputs > 1


class _JobQueue(deque[InputJob]):
    """Inputs that were opened and not yet ended, in order."""

    halted = False  # whoever still reads shall not go on
    over = 0  # inputs that were ended

    def pieces(self, works: Iterable[InputJob], frames: int) -> Generator[Chunk]:
        """Chunks of at most so many frames, and the ends."""
        for work in works:
            self.append(work)
            with closing(work.read(frames)) as clips:
                for clip in clips:
                    yield work, clip
                    if self.halted:
                        return
            yield work, None

    def ended(self, number: int) -> Iterator[InputJob]:
        """Close the first ones.

        Raises:
            UsageError, WeightsError: an error of one of them that is wrong for every input.
        """
        for _ in range(number):
            work = self[0]  # until it is closed, so that Ctrl-C finds it here
            work.end()
            self.popleft()
            self.over += 1
            if isinstance(work.error, UsageError | WeightsError):
                raise work.error
            yield work

    def stopped(self) -> Iterator[InputJob]:
        """Close all as they are; only the first and those that were begun are worth a word."""
        first = True
        while self:
            work = self.popleft()
            work.stop()
            if first or work.begun:
                yield work
            first = False


def _ended(
    works: Iterable[InputJob], load: Callable[[], Method], options: SegmentOptions, shown: _Shown
) -> Iterator[InputJob]:
    """Each input once it is closed, in order; by Ctrl-C the stopped ones too."""
    line = _JobQueue()
    try:
        with closing(line.pieces(works, options.batch or CHUNK_FRAMES)) as pieces:
            for piece in pieces:
                if piece[1] is not None:  # one that can be read
                    yield from _answered(chain([piece], pieces), line, load(), options, shown)
                else:
                    yield from line.ended(1)
    except KeyboardInterrupt:
        yield from line.stopped()
        raise
    finally:
        for _ in line.stopped():
            pass


def _answered(
    pieces: Iterator[Chunk], line: _JobQueue, method: Method, options: SegmentOptions, shown: _Shown
) -> Iterator[InputJob]:
    """Have all pieces answered, a group at a time."""
    most = options.batch
    if most is None and isinstance(method, BatchedMethod) and method.device.type == "cuda":
        most = GPU_FRAMES
    over_inputs = shown.over_inputs(most)
    with ExitStack() as stack:
        groups: Iterator[list[Chunk]] = ([piece] for piece in pieces)
        if most is not None:
            groups = stack.enter_context(prefetch(_groups(pieces, most)))
            stack.callback(setattr, line, "halted", True)
        bar = stack.enter_context(
            tqdm(None, "inputs", shown.inputs, unit="input", initial=line.over, disable=not over_inputs)
        )
        over = 0  # inputs that ended in the group before
        for group, stages in _awaited(groups, options.profile):
            _answer(method, group, stages, shown.progress and not over_inputs)
            ends = sum(clip is None for _, clip in group)
            over, now = (ends, over) if most is not None else (0, ends)
            yield from _beside(bar, line.ended(now))
        yield from _beside(bar, line.ended(over))


def _beside(bar: tqdm, works: Iterator[InputJob]) -> Iterator[InputJob]:
    for work in works:
        bar.clear()  # the line below it is not ours
        yield work
        bar.update()


def _groups(pieces: Iterable[Chunk], most: int) -> Iterator[list[Chunk]]:
    """Pieces with exactly `most` frames together, but for the last; a chunk that is too long is cut."""
    group: list[Chunk] = []
    room = most
    for work, clip in pieces:
        while clip is not None and len(clip) > room:
            yield [*group, (work, _part(clip, slice(room)))]
            group, clip, room = [], _part(clip, slice(room, None)), most
        group.append((work, clip))
        room -= 0 if clip is None else len(clip)
        if not room or len(group) >= 2 * most:  # the latter where many fail or are skipped
            yield group
            group, room = [], most
    if group:
        yield group


def _part(clip: Clip, rows: slice) -> Clip:
    """Some of its frames, with all of its sound."""
    heard = None if clip.sound_times is None else clip.sound_times[rows]
    return replace(clip, frames=clip.frames[rows], times=clip.times[rows], sound_times=heard)


def _awaited(groups: Iterator[list[Chunk]], profile: bool) -> Iterator[tuple[list[Chunk], Profiler]]:
    """Each group, and stages that have counted the wait for it."""
    while True:
        stages = Profiler()
        stages.wait = synchronize_gpu if profile else None
        with stages.activate(), record("waiting for frames"):
            group = next(groups, None)
        if group is None:
            return
        yield group, stages


def _answer(method: Method, group: list[Chunk], stages: Profiler, progress: bool) -> None:
    """Give a group to the method, and each result to its input's writer."""
    begun = [
        (work, clip) for work, clip in group if clip is not None and work.begin(method.settings, progress)
    ]
    try:
        with stages.activate():
            results = _results(method, [clip for _, clip in begun])
            for (work, _), result in zip(begun, results, strict=True):
                if isinstance(result, Segmentation):
                    work.write(result)
                else:
                    work.fail(result)
    finally:
        frames = sum(len(clip) for _, clip in begun)
        for work, clip in begun:
            work.count(stages.seconds, len(clip) / frames)


def _results(method: Method, clips: Sequence[Clip]) -> Iterator[Segmentation | MocaError | OSError]:
    """A result or an error for each clip, together where the method can."""
    if len(clips) > 1 and isinstance(method, BatchedMethod):
        try:
            with record("decide"):
                together = method.predict_batch(clips)
        except (MocaError, OSError):
            pass  # whose it is shows when each is asked about alone
        else:
            yield from together
            return
    for clip in clips:
        yield _result(method, clip)


def _result(method: Method, clip: Clip) -> Segmentation | MocaError | OSError:
    try:
        with record("decide"):
            return method(clip)
    except (UsageError, WeightsError):  # wrong for every input
        raise
    except (MocaError, OSError) as error:
        return error
