"""Files in, folders out: videos stream through a method, finished results are skipped, failures are listed.

Inputs are walked in order as chunks: an input's clips, then its end. The method gets them in batches. Without
``options.batch`` a batch is one chunk, so one input is open at a time. With it a batch has that many frames,
of as many inputs as it takes, and is read while the method works on the batch before; an input that ends in
it is closed after the next batch, when it has been written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from moca_avs.clip import Clip, Segmentation
from moca_avs.errors import MocaError, UsageError, WeightsError
from moca_avs.inference.index import RunIndex
from moca_avs.inference.inputs import JobSpec, find_inputs, is_url, plan
from moca_avs.inference.job import InputJob, JobResult, SegmentOptions
from moca_avs.methods.base import BatchedMethod, Method
from moca_avs.utils.prefetch import prefetch
from moca_avs.utils.profiler import Profiler, record, synchronize_gpu

CHUNK_FRAMES = 4  # frames read at once: few enough for a lively bar and a prompt Ctrl-C
GPU_FRAMES = 16  # frames a method on a GPU is given at once: fewer leave it idle

Chunk = tuple[InputJob, Clip | None]
"""A clip of an input; None: that was all of it."""


def segment(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    preset: str = "lite",
    method: str | None = None,
    device: str = "auto",
    options: SegmentOptions | None = None,
    progress: bool = True,
    name_by: str = "stem",
    **settings: Any,
) -> list[JobResult]:
    """Segment videos into folders, as the command ``moca segment`` does.

    Args:
        inputs: videos, folders of videos, globs, URLs, or lists of them (see `find_inputs`).
        out: folder for the results, one folder per input; or its URL.
        preset: as `name` of `moca_avs.load`.
        method: as in `moca_avs.load`.
        device: as in `moca_avs.load`.
        options: which frames; None is one frame per second, finished results skipped.
        progress: show a bar on stderr.
        name_by: how result folders are named, see `plan`.
        settings: as in `moca_avs.load` (`weights`, `models` and `config` too).

    Returns:
        What became of each input, in order; one that failed says why and doesn't stop the others. It is
        written to ``index.jsonl`` in `out` too.

    Raises:
        UsageError: for inputs that name no file, or options that make no sense.
        WeightsError: where the method can't be loaded.

    Examples:
        Skipped where docstrings are tested: it needs a video and the weights.

        >>> import moca_avs
        >>> moca_avs.segment("band.mp4", "out")  # doctest: +SKIP
    """
    from moca_avs.methods import load

    given = [inputs] if isinstance(inputs, str | Path) else inputs
    files, missing = find_inputs([str(one) for one in given])
    if missing:
        raise UsageError("; ".join(f"{name}: {why}" for name, why in missing))
    place = str(out) if is_url(str(out)) else Path(out)
    jobs, outcomes = plan(files, place, name_by), []
    with RunIndex(place) as index:
        for outcome in segment_all(
            jobs, lambda: load(preset, method, device, **settings), options or SegmentOptions(), progress
        ):
            index.add(outcome)
            outcomes.append(outcome)
    return outcomes


def segment_all(
    jobs: Sequence[JobSpec], load: Callable[[], Method], options: SegmentOptions, progress: bool = True
) -> Iterator[JobResult]:
    """Segment inputs in order; one that fails doesn't stop the others.

    Args:
        jobs: inputs and their folders.
        load: builds the method; called once, and only when an input that can be read is there to be done, or
            a result to compare its settings with.
        options: which frames, whether to overwrite, how many frames at once.
        progress: show a bar with the time left on stderr: over an input's frames, or over inputs where
            several are open at once.

    Yields:
        A result per job, in their order, as soon as it is known.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the results of the inputs that it stopped.
        UsageError: options that make no sense.
        WeightsError: where the method can't be loaded.
    """
    todo = ((job, JobResult(job)) for job in jobs)
    for job in _segment(todo, load, options, len(jobs), progress):
        yield job.result


def segment_file(
    job: JobSpec,
    load: Callable[[], Method],
    options: SegmentOptions,
    result: JobResult,
    progress: bool = True,
) -> None:
    """Stream one input through a method into its folder, in memory that doesn't grow with its length.

    Args:
        job: the input and its folder.
        load: gives the method; asked once the input has shown that it can be read.
        options: which frames.
        result: of this job; filled in as frames are finished.
        progress: show a bar.

    Raises:
        MediaError: an input that can't be read, or a place that can't be written.
        UsageError: options that make no sense for this input.
    """
    for one in _segment([(job, result)], load, options, 1, progress):
        if one.error is not None:
            raise one.error


def _segment(
    todo: Iterable[tuple[JobSpec, JobResult]],
    load: Callable[[], Method],
    options: SegmentOptions,
    total: int,
    progress: bool,
) -> Iterator[InputJob]:
    """Each input once it is closed, in order; by Ctrl-C the stopped ones too."""
    queue, held = _JobQueue(), cache(load)
    inputs = (InputJob(job, result, options, lambda: held().settings) for job, result in todo)
    try:
        with closing(queue.read(inputs, options.batch or CHUNK_FRAMES)) as chunks, ExitStack() as stack:
            for first in chunks:
                if first[1] is None:  # skipped, or it can't be read: no method is needed
                    yield from queue.close(1)
                    continue
                method, frames = held(), options.batch
                if frames is None and isinstance(method, BatchedMethod) and method.device.type == "cuda":
                    frames = GPU_FRAMES
                batches: Iterator[list[Chunk]] = ([chunk] for chunk in chain([first], chunks))
                if frames is not None:
                    batches = stack.enter_context(prefetch(_batches(chain([first], chunks), frames)))
                    stack.callback(setattr, queue, "halted", True)
                over_inputs = progress and frames is not None and total > 1
                bar = tqdm(None, "inputs", total, unit="input", initial=queue.closed, disable=not over_inputs)
                stack.enter_context(bar)
                ended = 0  # inputs that ended in the batch before and are still being written
                while True:
                    profiler = Profiler(synchronize_gpu if options.profile else None)
                    with profiler.activate(), record("waiting for frames"):
                        batch = next(batches, None)
                    if batch is not None:
                        _predict(method, batch, profiler, progress and not over_inputs)
                    ends = sum(clip is None for _, clip in batch or ())
                    for job in queue.close(ends if frames is None else ended):
                        bar.clear()  # the line below it is not ours
                        yield job
                        bar.update()
                    ended = ends
                    if batch is None:
                        break
    except KeyboardInterrupt:
        yield from queue.stop()
        raise
    finally:
        for _ in queue.stop():
            pass


class _JobQueue(deque[InputJob]):
    """Inputs that were opened and not yet closed, in order."""

    halted = False  # whoever still reads shall not go on
    closed = 0

    def read(self, inputs: Iterable[InputJob], frames: int) -> Generator[Chunk]:
        """Chunks of at most so many frames, and the ends."""
        for job in inputs:
            self.append(job)
            with closing(job.read(frames)) as clips:
                for clip in clips:
                    yield job, clip
                    if self.halted:
                        return
            yield job, None

    def close(self, number: int) -> Iterator[InputJob]:
        """Close the first ones.

        Raises:
            UsageError, WeightsError: an error of one of them that is wrong for every input.
        """
        for _ in range(number):
            job = self[0]  # until it is closed, so that Ctrl-C finds it here
            job.close()
            self.popleft()
            self.closed += 1
            if isinstance(job.error, UsageError | WeightsError):
                raise job.error
            yield job

    def stop(self) -> Iterator[InputJob]:
        """Close all as they are; only the first and those that were begun are worth a word."""
        first = True
        while self:
            job = self.popleft()
            job.close(stopped=True)
            if first or job.begun:
                yield job
            first = False


def _batches(chunks: Iterable[Chunk], frames: int) -> Iterator[list[Chunk]]:
    """Chunks with exactly `frames` frames together, but for the last; one that is too long is cut."""
    batch: list[Chunk] = []
    room = frames
    for job, clip in chunks:
        while clip is not None and len(clip.wanted) > room:
            yield [*batch, (job, _part(clip, slice(room)))]
            batch, clip, room = [], _part(clip, slice(room, None)), frames
        batch.append((job, clip))
        room -= 0 if clip is None else len(clip.wanted)
        if not room or len(batch) >= 2 * frames:  # the latter where many fail or are skipped
            yield batch
            batch, room = [], frames
    if batch:
        yield batch


def _part(clip: Clip, rows: slice) -> Clip:
    """Some of its wanted frames, with all of its sound; where it has frames to compare with, all of those."""
    if clip.core is None:
        return clip.part(rows)
    wanted = clip.wanted[rows]
    return replace(clip, core=slice(wanted.start, wanted.stop))


def _predict(method: Method, batch: list[Chunk], profiler: Profiler, progress: bool) -> None:
    """Give a batch to the method, and each result to its input's writer."""
    todo = [(job, clip) for job, clip in batch if clip is not None and job.begin(progress)]
    try:
        with profiler.activate():
            results = _results(method, [clip for _, clip in todo])
            for (job, _), result in zip(todo, results, strict=True):
                if isinstance(result, Segmentation):
                    job.write(result)
                else:
                    job.fail(result)
    finally:
        frames = sum(len(clip.wanted) for _, clip in todo)
        for job, clip in todo:
            for name, seconds in profiler.seconds.items():
                job.result.seconds[name] += seconds * len(clip.wanted) / frames


def _results(method: Method, clips: Sequence[Clip]) -> Iterator[Segmentation | MocaError | OSError]:
    """A result or an error for each clip, together where the method can."""
    if not getattr(method, "context", False):
        clips = [clip if clip.core is None else clip.part(clip.core) for clip in clips]
    if len(clips) > 1 and isinstance(method, BatchedMethod):
        try:
            with record("decide"):
                together = method.predict_batch(clips)
        except (MocaError, OSError):
            pass  # whose it is shows when each is segmented alone
        else:
            yield from together
            return
    for clip in clips:
        result: Segmentation | MocaError | OSError
        try:
            with record("decide"):
                result = method(clip)
        except (UsageError, WeightsError):  # wrong for every input
            raise
        except (MocaError, OSError) as error:
            result = error
        yield result
