"""What runs in a worker process of the Ray engine, and how an input and its outcome travel.

Many inputs at once on Ray Data: each is a row of a dataset, actors hold the method.

An input whose worker dies is given to the next, which goes on behind the frames that were finished.
"""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from moca_avs import errors
from moca_avs.errors import MocaError, UsageError, WeightsError
from moca_avs.inference.inputs import JobSpec
from moca_avs.inference.job import JobResult, SegmentOptions
from moca_avs.inference.ray_config import RayConfig
from moca_avs.inference.segment import segment_file
from moca_avs.methods.base import Method

if TYPE_CHECKING:
    from ray.data import Dataset

DEADLY = (
    "its worker died {} times, of too little memory or a crash; try it alone with --engine local, or with "
    "fewer --workers"
)
PAUSE = 0.5  # seconds before an input is tried again, doubled each time


class Tally:
    """An actor of its own, which lives on when workers die: counts how often each input was begun."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, index: int) -> int:
        """Count one more; returns how many there are now."""
        self._begun[index] += 1
        return self._begun[index]


class Worker:
    """An actor: loads the method once, at the first input that can be read, and segments row after row.

    Args:
        load: builds the method.
        options: which frames, and whether to overwrite.
        threads: of torch and of what counts on it.
        folder: what relative names are relative to, if it is there on this machine.
        retries: after errors that may pass, and after the death of a worker.
        tally: handle of a `Tally`; Ray itself would begin an input that kills its worker for ever.
    """

    def __init__(
        self,
        load: Callable[[], Method],
        options: SegmentOptions,
        threads: int,
        folder: str,
        retries: int,
        tally: Any,
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        if Path(folder).is_dir():
            os.chdir(folder)
        self._load, self._options, self._retries, self._tally = load, options, retries, tally
        self._method: Method | None = None
        self._loaded = ""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Segment one input: its row (`as_row`) -> the row of its outcome (`from_row`)."""
        outcome, error = self._done(row["index"], _job(row))
        kept = {field.name: getattr(outcome, field.name) for field in fields(outcome) if field.name != "job"}
        fatal = type(error).__name__ if isinstance(error, UsageError | WeightsError) else ""
        return {"index": row["index"], "outcome": json.dumps(kept), "loaded": self._loaded, "fatal": fatal}

    def _done(self, index: int, job: JobSpec) -> tuple[JobResult, MocaError | OSError | None]:
        import ray

        begun = ray.get(self._tally.begin.remote(index))
        if begun > self._retries + 1:
            return JobResult(job, "failed", DEADLY.format(begun - 1)), None
        for attempt in range(self._retries + 1):
            time.sleep(attempt and PAUSE * 2**attempt)
            outcome, error = self._attempt(job)
            if not isinstance(error, OSError):
                break
        return outcome, error

    def _attempt(self, job: JobSpec) -> tuple[JobResult, MocaError | OSError | None]:
        outcome = JobResult(job)
        try:
            segment_file(job, self._held, self._options, outcome, progress=False)
        except (MocaError, OSError) as error:
            outcome.state, outcome.message = "failed", str(error)
            return outcome, error
        return outcome, None

    def _held(self) -> Method:
        """The method; what loading prints is kept to be said once for all workers."""
        if self._method is None:
            with redirect_stdout(io.StringIO()) as said:
                self._method = self._load()
            self._loaded = said.getvalue().strip()
        return self._method


def as_row(index: int, job: JobSpec) -> dict[str, Any]:
    """A job as a row of plain values."""
    values = {field.name: getattr(job, field.name) for field in fields(job)}
    return {"index": index} | {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}


def _job(row: dict[str, Any]) -> JobSpec:
    values = {field.name: row[field.name] for field in fields(JobSpec)}
    paths = {name: Path(values[name]) for name in ("source", "folder", "sound") if values[name] is not None}
    return JobSpec(**values | paths)


def from_row(row: dict[str, Any], job: JobSpec) -> tuple[JobResult, str]:
    """(outcome, what loading the method printed).

    Raises:
        UsageError: from the worker: options that make no sense.
        WeightsError: from the worker: the method can't be loaded.
    """
    outcome = JobResult(job)
    for name, value in json.loads(row["outcome"]).items():
        held = getattr(outcome, name)
        if isinstance(held, dict):
            held.update(value)
        else:
            setattr(outcome, name, value)
    if row["fatal"]:
        raise getattr(errors, row["fatal"])(outcome.message)
    return outcome, row["loaded"]


MOST_WORKERS = 8  # started unasked on processors: each holds its own copy of the method
STORE = 128 * 2**20  # bytes of shared memory; what travels is names and outcomes

# Read when Ray starts. Its usage reports would go over the network; the last keeps a warning about GPUs away.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True)
class Share:
    """Workers, and the threads and GPUs of each."""

    workers: int
    threads: int
    gpus: float


def segment_on_ray(
    jobs: Sequence[JobSpec],
    load: Callable[[], Method],
    options: SegmentOptions,
    config: RayConfig,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> Iterator[JobResult]:
    """Segment inputs side by side; one that fails doesn't stop the others.

    Args:
        jobs: inputs and their folders, which every worker must be able to reach by these names.
        load: builds the method; it travels to the workers (cloudpickle), each calls it once.
        options: which frames, and whether to overwrite.
        config: how many workers, and where.
        progress: show a bar over inputs on stderr.
        say: told how the inputs are spread, and once what `load` prints.

    Yields:
        An outcome per job, as soon as it is known.

    Raises:
        UsageError: without Ray, where more is asked for than there is, or on options that make no sense.
        WeightsError: where the method can't be loaded.
        MocaError: where Ray itself fails; finished results are kept.
        KeyboardInterrupt: on Ctrl-C; finished results are kept.
    """
    if not jobs:
        return
    with _cluster(config):
        share = _share(config, len(jobs))
        gpus = f" and {share.gpus:g} GPUs" if share.gpus else ""
        say(f"engine: ray, {share.workers} workers with {share.threads} threads{gpus} each")
        bar = tqdm(desc="inputs", total=len(jobs), unit="input", disable=not progress)
        with bar:
            for outcome in _outcomes(_dataset(jobs, load, options, config, share), jobs, say):
                bar.clear()  # the line below it is not ours
                yield outcome
                bar.update()


def _dataset(
    jobs: Sequence[JobSpec],
    load: Callable[[], Method],
    options: SegmentOptions,
    config: RayConfig,
    share: Share,
) -> Dataset:
    """A row per input, mapped to its outcome; nothing runs yet."""
    import ray

    rows = [as_row(index, job) for index, job in enumerate(jobs)]
    # A block per row: each outcome comes at once, and a worker's death concerns one input.
    tally = ray.remote(num_cpus=0)(Tally).remote()
    actor: Any = Worker  # Ray's annotation knows functions only
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        actor,
        fn_constructor_args=(load, options, share.threads, os.getcwd(), config.retries, tally),  # noqa: PTH109
        compute=ray.data.ActorPoolStrategy(size=share.workers, max_tasks_in_flight_per_actor=1),
        num_cpus=share.threads,
        num_gpus=share.gpus,
    )
    dataset.context.max_errored_blocks = -1  # what nobody foresaw of one input stops no other
    dataset.context.execution_no_progress_timeout_s = -1  # a long video takes hours
    return dataset


def _outcomes(dataset: Dataset, jobs: Sequence[JobSpec], say: Callable[[str], None]) -> Iterator[JobResult]:
    """Run it: outcomes as they come, and failures for inputs of which none came."""
    from ray.exceptions import RayError

    waiting, said = dict(enumerate(jobs)), {""}
    try:
        for row in dataset.iter_rows():
            outcome, loaded = from_row(row, waiting.pop(row["index"]))
            if loaded not in said:
                said.add(loaded)
                say(loaded)
            yield outcome
    except RayError as error:
        raise MocaError(
            f"Ray stopped: {_last_line(error)}; finished results are kept, the same command does the rest"
        ) from error
    for job in waiting.values():
        yield JobResult(
            job, "failed", "its worker met an error nobody foresaw; /tmp/ray/session_latest/logs has it"
        )


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


@contextmanager
def _cluster(config: RayConfig) -> Iterator[None]:
    """Ray, started or joined for the length of the block; one that runs already in this process is used.

    Raises:
        UsageError: where Ray is not installed, or no cluster is at the address.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError(f"--engine ray needs Ray ({error}): pip install 'moca-avs[ray]'") from error
    for handler in logging.getLogger("ray.data").handlers:
        # Its log file is kept, and so are handlers that are not its own.
        if isinstance(handler, logging.StreamHandler) and type(handler).__module__.startswith("ray."):
            handler.setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    _start(config)
    try:
        yield
    finally:
        ray.shutdown()


def _start(config: RayConfig) -> None:
    import ray

    address = config.address or os.environ.get("RAY_ADDRESS")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address in (None, "local"):
        own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        cores = max(own, (config.workers or 1) * (config.cpus_per_worker or 1))
        try:
            ray.init(
                "local",
                num_cpus=cores,
                object_store_memory=STORE,
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
        except Exception as error:  # Ray raises no narrower one where its own processes start too slowly
            raise MocaError(
                f"Ray could not start its processes here ({_last_line(error)}); on a busy machine try again, "
                "or leave --engine ray out"
            ) from error
        _keep_handler(on_sigterm)
        return
    try:
        ray.init(address, **quiet)
        _keep_handler(on_sigterm)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"no Ray cluster answers at {address!r} ({_last_line(error)}); start one (ray start --head) or "
            "leave --ray-address and RAY_ADDRESS out"
        ) from error


def _keep_handler(handler: Any) -> None:
    """What SIGTERM does stays; Ray's own handler would end the process before results are closed."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _share(config: RayConfig, jobs: int) -> Share:
    """Divide what the cluster has.

    Raises:
        UsageError: where more is asked for than there is.
    """
    import ray

    there = ray.cluster_resources()
    cpus, all_gpus = int(there.get("CPU", 0)), there.get("GPU", 0.0)
    smallest = min((int(node["Resources"].get("CPU", 0)) or cpus) for node in ray.nodes() if node["Alive"])
    gpus = min(all_gpus, 1.0) if config.gpus_per_worker is None else config.gpus_per_worker
    per_cpu = min(cpus // (config.cpus_per_worker or 1), MOST_WORKERS)
    workers = min(config.workers or max(1, int(all_gpus / gpus) if gpus else per_cpu), jobs)
    threads = config.cpus_per_worker or max(1, min(cpus // workers, smallest))
    if workers * threads > cpus or workers * gpus > all_gpus:
        raise UsageError(
            f"{workers} workers with {threads} processors and {gpus:g} GPUs each are more than the {cpus} "
            f"processors and {all_gpus:g} GPUs that Ray has; ask for fewer"
        )
    return Share(workers, threads, gpus)
