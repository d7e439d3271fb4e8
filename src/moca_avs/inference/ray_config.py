"""How inputs are spread over Ray's workers: checked before the engine itself, which is heavy, is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from moca_avs.errors import UsageError
from moca_avs.utils.settings import Count, Range


@dataclass(frozen=True)
class RayConfig:
    """How the inputs are spread.

    Attributes:
        workers: actors, each with its own copy of the method; None means one per GPU, else one per processor
            and at most 8. Never more than inputs.
        cpus_per_worker: processors and threads of each; None means an equal share.
        gpus_per_worker: GPUs of each, also a part of one; None means 1 where there are any, else 0.
        retries: how often an input is begun again after its worker died, or after an error of a disk or a
            store that may pass.
        address: of a running Ray cluster; None means RAY_ADDRESS, else processes of this machine.

    Raises:
        UsageError: on a number out of range.
    """

    workers: Count | None = None
    cpus_per_worker: Count | None = None
    gpus_per_worker: Annotated[float, Range(0)] | None = None
    retries: Annotated[int, Range(0)] = 2
    address: str | None = None

    def __post_init__(self) -> None:
        least = {"workers": 1, "cpus_per_worker": 1, "gpus_per_worker": 0, "retries": 0}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise UsageError(f"{name.replace('_', '-')} must be at least {bound}, found {value}")
