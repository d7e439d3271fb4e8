"""What `RuntimeConfig` means on one device: dtypes, autocast, and what torch compiles."""

from __future__ import annotations

import functools
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn

from moca_avs.encoders.base import AudioVisualEncoder
from moca_avs.errors import UsageError
from moca_avs.training.config import RuntimeConfig

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Precision:
    """How a run computes.

    Attributes:
        dtype: of the products inside the frozen models and the adapters.
        device: where.
        checkpoint: compute adapted blocks again going backwards instead of keeping what is inside them.
        compiled: let torch compile what learns.
    """

    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    checkpoint: bool = False
    compiled: bool = False

    @classmethod
    def of(cls, speed: RuntimeConfig, dtype: torch.dtype, device: str) -> Precision:
        """The options on a device, with "auto" chosen.

        Raises:
            UsageError: if torch is to compile and has no compiler.
        """
        if speed.compile:
            check_compiler()
        return cls(dtype, device, speed.checkpoint_activations, speed.compile)

    @property
    def name(self) -> str:
        """Like "float32"."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def half(self) -> bool:
        """Whether products run below float32."""
        return self.dtype in (torch.bfloat16, torch.float16)

    @property
    def wide(self) -> torch.dtype:
        """Dtype of weights, features, costs and gradients: float32, or float64."""
        return torch.float32 if self.half else self.dtype

    def autocast(self) -> torch.autocast:
        """The context in which the networks run; it does nothing in float32 and float64."""
        dtype = self.dtype if self.half else torch.bfloat16
        return torch.autocast(torch.device(self.device).type, dtype, enabled=self.half)

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps float16's gradients from vanishing; it does nothing in any other arithmetic."""
        kind = torch.device(self.device).type
        return torch.amp.GradScaler(kind, enabled=self.dtype == torch.float16)

    def ready(self, function: Function) -> Function:
        """The function, compiled where that was asked for."""
        return cast(Function, _compiled(function)) if self.compiled else function

    @contextmanager
    def widened(self, encoder: AudioVisualEncoder) -> Iterator[None]:
        """In float64 the encoder's weights are too, until the end: then they are what they were."""
        if self.wide == torch.float32 or not isinstance(encoder, nn.Module):
            yield
            return
        encoder.double()
        try:
            yield
        finally:
            encoder.float()


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function)


def check_compiler() -> None:
    """See that torch.compile can work here.

    Raises:
        UsageError: if there is no C++ compiler, or Python's own headers are missing.
    """
    compiler = os.environ.get("CXX", "g++")
    if not any(shutil.which(name) for name in (compiler, "clang++")):
        raise UsageError(
            f"--compile needs a C++ compiler, and neither {compiler} nor clang++ is here; install one "
            "(Debian: apt-get install g++), name it in $CXX, or leave --compile out"
        )
    headers = Path(sysconfig.get_paths()["include"])
    if not (headers / "Python.h").exists():
        raise UsageError(
            f"--compile needs Python's headers, and {headers} holds no Python.h; install them (Debian: "
            f"apt-get install python3-dev), or leave --compile out"
        )
