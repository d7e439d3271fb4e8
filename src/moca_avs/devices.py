"""Which device to compute on, and why."""

from __future__ import annotations

from moca_avs.errors import UsageError


def choose_device(name: str = "auto") -> tuple[str, str]:
    """Turn "auto" into a device that is here, or check that the one asked for is.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1", "mps", ...

    Returns:
        (device, why it was chosen).

    Raises:
        UsageError: the device asked for is not here, or is no device.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda", f"an NVIDIA GPU is here ({torch.cuda.get_device_name(0)})"
        if torch.backends.mps.is_available():
            return "mps", "an Apple GPU is here"
        return "cpu", "torch sees no GPU here"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"{name!r} is no device; use auto, cpu, cuda, cuda:1 or mps") from error
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= here.get(device.type, 0):
        raise UsageError(
            f"the device {name!r} is not here; use --device auto or cpu (`moca doctor` tells more)"
        )
    return name, "asked for"
