"""What the benchmarks share: runs in turn, medians with their spread, tables, the machine, the last line."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from moca_avs.utils.profiler import synchronize_gpu

MIB = 2**20


@dataclass(frozen=True)
class Timing:
    """Seconds of a few runs of one thing."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.seconds)

    def figures(self) -> dict[str, float]:
        """Median, extremes and count."""
        low, high = min(self.seconds), max(self.seconds)
        return {"median": self.median, "min": low, "max": high, "n": len(self.seconds)}

    def __format__(self, scale: str) -> str:
        """``f"{timing:1000}"``: median (min–max), times 1000."""
        factor = float(scale or 1)
        values = (self.median, min(self.seconds), max(self.seconds))
        return "{} ({}–{})".format(*(f"{value * factor:.3g}" for value in values))


def seconds_of(work: Callable[[], object]) -> float:
    """Run it; a GPU's queue is emptied before and after."""
    synchronize_gpu()
    start = time.perf_counter()
    work()
    synchronize_gpu()
    return time.perf_counter() - start


def in_turn(
    works: Mapping[str, Callable[[], object]], repetitions: int, warm: bool = True
) -> dict[str, Timing]:
    """Time several things A B C A B C ..., so that what disturbs one disturbs all."""
    if warm:
        for work in works.values():
            work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repetitions):
        for name, work in works.items():
            seconds[name].append(seconds_of(work))
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def peak_mib() -> float:
    """Most memory this process has held so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux; getrusage would begin with the memory of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    scale = MIB if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def machine() -> dict[str, Any]:
    """The machine and how busy it is now."""
    import torch  # not above: some benchmarks measure memory without it

    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "load_at_start": [round(value, 2) for value in os.getloadavg()],
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser that knows what every benchmark takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json", help="write the figures and the machine there"
    )
    parser.add_argument("--quick", action="store_true", help="small, to try it: figures mean little")
    return parser


def finish(figures: Mapping[str, Any], about: Mapping[str, Any], out: Path | None) -> None:
    """Print the figures as the last line; write them with the machine (`machine()`, taken at the start)."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        whole = out.with_name(f".{out.name}.{os.getpid()}")
        whole.write_text(json.dumps({"machine": about, **figures}, indent=1) + "\n", encoding="utf-8")
        whole.replace(out)
    print(json.dumps(figures))
