"""Which device to compute on and in which arithmetic, and why."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Literal, get_args

from moca_avs.errors import UsageError

if TYPE_CHECKING:
    import torch

PrecisionName = Literal["auto", "float32", "bfloat16", "float16", "float64"]
PRECISIONS: tuple[str, ...] = get_args(PrecisionName)


def check_device_name(name: str) -> None:
    """See that a device can be meant, whether or not it is here; imports no torch.

    Raises:
        UsageError: if it can't.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?|(cpu|mps):0", name):
        raise UsageError(f"{name!r} is no device; use auto, cpu, cuda, cuda:1 or mps")


def choose_device(name: str = "auto") -> tuple[str, str]:
    """Turn "auto" into a device that is here, or check that the one asked for is.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1", "mps", ...

    Returns:
        (device, why it was chosen).

    Raises:
        UsageError: the device asked for is not here, or is no device.
    """
    check_device_name(name)
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda", f"an NVIDIA GPU is here ({torch.cuda.get_device_name(0)})"
        if torch.backends.mps.is_available():
            return "mps", "an Apple GPU is here"
        return "cpu", "torch sees no GPU here"
    device = torch.device(name)
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= here.get(device.type, 0):
        raise UsageError(
            f"the device {name!r} is not here; use --device auto or cpu (`moca doctor` tells more)"
        )
    return name, "asked for"


def own_device(device: str) -> str:
    """This process's own GPU where several processes run on one machine (``torchrun``): "cuda" -> "cuda:1".

    Any other device, and every device outside ``torchrun``, stays as it is.
    """
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


def choose_precision(name: str, device: str) -> tuple[torch.dtype, str]:
    """Turn "auto" into the arithmetic a device is good at, or check the one asked for.

    Args:
        name: "auto", "float32", "bfloat16" or "float16" (the last two by autocast: weights and sums that need
            it stay float32), or "float64" (for comparisons).
        device: where it will be computed, as `choose_device` returns it.

    Returns:
        (dtype, why it was chosen).

    Raises:
        UsageError: if there is no such arithmetic, or the device cannot do it.
    """
    import torch

    if name not in PRECISIONS:
        raise UsageError(f"precision must be one of {', '.join(PRECISIONS)}; found {name!r}")
    kind = torch.device(device).type
    if name != "auto":
        if kind == "mps" and name == "float64":
            raise UsageError("an Apple GPU has no float64; use --precision float32, or --device cpu")
        return getattr(torch, name), "asked for"
    if kind != "cuda":
        name = "a CPU" if kind == "cpu" else "an Apple GPU" if kind == "mps" else kind
        return torch.float32, f"half precision is not reliably faster on {name}"
    # Below compute capability 8.0 bfloat16 exists, but emulated: slower than float32.
    major, minor = torch.cuda.get_device_capability(device)
    if major >= 8:
        return torch.bfloat16, f"the GPU's compute capability {major}.{minor} multiplies bfloat16 quickly"
    if major >= 7:
        return torch.float16, f"the GPU's compute capability {major}.{minor} has float16 units, no bfloat16"
    return torch.float32, f"the GPU's compute capability {major}.{minor} has no units for half precision"
