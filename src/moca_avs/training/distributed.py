"""Several processes train one run: ``torchrun --nproc-per-node 2 -m moca_avs train ...``.

Every process draws the same batch and takes its own part; gradients are summed over the processes, each
weighted by its part of the batch, so the step is the one a single process would make. Adapters are small
(imagebind: 5 MB), so one plain all-reduce of the flat gradient does it: unlike DistributedDataParallel it
takes weighted parts, carries the log's figures and the wish to stop along, and leaves nothing to wrap.
The run folder and the feature cache must be on a file system that all processes see.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from moca_avs.errors import MocaError, UsageError

Result = TypeVar("Result")
_PATIENCE = timedelta(days=2)  # others may wait while one builds a large table; a dead one is noticed at once


@dataclass(frozen=True)
class DistributedContext:
    """Who takes part in a run.

    Attributes:
        rank: this process's number; 0 writes the run folder.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def shard(self, rows: int) -> range:
        """This process's contiguous part of so many rows; parts differ by one row at most."""
        return range(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def on_main(self, work: Callable[[], Result]) -> Result:
        """Let the first process do it; all get its result (a picklable one) or its `MocaError`."""
        if self.size == 1:
            return work()
        result: list[Any] = [None]
        if self.is_main:
            try:
                result = [(True, work())]
            except MocaError as error:
                result = [(False, error)]
        with _peer_errors():
            dist.broadcast_object_list(result, src=0, device=torch.device("cpu"))
        good, value = result[0]
        if not good:
            raise value
        return value

    def all_gather_object(self, value: Result) -> list[Result]:
        """Every process's value, in order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _peer_errors():
            dist.all_gather_object(values, value)
        return values

    def all_reduce(self, flat: Tensor) -> Tensor:
        """[n] -> [n], in place: the sum over processes, with the same bits in all of them."""
        if self.size > 1:
            with _peer_errors():
                dist.all_reduce(flat)
        return flat

    def all_gather(self, mine: Tensor, rows: int) -> Tensor:
        """Parts as `shard` makes them, put together: CPU [len(shard(rows)), ...] -> [rows, ...]."""
        if self.size == 1:
            return mine
        longest = -(-rows // self.size)
        padded = mine.new_zeros(longest, *mine.shape[1:])
        padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        with _peer_errors():
            dist.all_gather(parts, padded)
        lengths = [len(DistributedContext(rank, self.size).shard(rows)) for rank in range(self.size)]
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


@contextmanager
def distributed_context(device: str) -> Iterator[DistributedContext]:
    """The processes of this run: those torchrun started, or those the caller joined; else this one alone.

    Args:
        device: "cpu", or this process's own GPU.

    Raises:
        UsageError: if torch was built without the means.
    """
    joins = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ
    if dist.is_available() and dist.is_initialized():
        yield DistributedContext(dist.get_rank(), dist.get_world_size())
        return
    if not joins:
        yield DistributedContext()
        return
    if not dist.is_available():
        raise UsageError("this torch was built without torch.distributed; train in one process")
    # The optimizer imports this; where that comes after the group was made, torch 2.13 keeps the group, whose
    # threads then outlive it and now and then abort the process as it ends.
    import torch._dynamo

    backend = "gloo"
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield DistributedContext(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


@contextmanager
def _peer_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what gloo and NCCL raise when a peer is gone
        raise MocaError(
            f"another process of this run has ended ({str(error).splitlines()[0]}); see its own message, "
            "then go on from the last checkpoint with --resume"
        ) from error
