"""A training step by two processes under torchrun against one process, at the same batch of anchors.

    python benchmarks/data_parallel.py [--out FILE.json] [--quick]

Each run is `moca_avs.training.train` on noise with `lite`, its states cached before; seconds are those of
log.jsonl, the first two steps left out. Runs are interleaved (one, two, one, ...). Two comparisons: with the
same threads in all (one process gets every core's), and with one thread for each process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import measuring
import torch
from training_step import GB, Noise

from moca_avs.encoders import build_encoder
from moca_avs.training.config import TrainConfig
from moca_avs.training.trainer import train

FRAMES = 32
WARM = 2  # steps that only warm up


def child(folder: Path, threads: int, steps: int, batch: int) -> None:
    """One process of one run; prints its peak memory."""
    torch.set_num_threads(threads)
    config = TrainConfig(steps=steps, batch=batch, neighbours=4, checkpoint_every=steps, deterministic=False)
    encoder = build_encoder("lite", "cpu")
    data = Noise(FRAMES, encoder.image_size)
    out = folder / os.environ.get("MOCA_RUN", "run")
    train(encoder, data, config, out, progress=False, cache=folder / "cache")
    peak = measuring.peak_mib() * measuring.MIB / GB
    if os.environ.get("RANK", "0") == "0":
        print(f"peak {peak:.3f}")


def run(folder: Path, name: str, processes: int, threads: int, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of every step but the first of a run in processes of its own, and the first one's memory."""
    launched = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [sys.executable, *(launched if processes > 1 else []), __file__, "--child", str(folder), str(threads),
         "--steps", str(options.steps), "--batch", str(options.batch)],
        check=True, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"MOCA_RUN": name, "OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip
    lines = [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
    peak = next(line for line in done.stdout.splitlines() if line.startswith("peak "))
    return {
        "seconds": [line["seconds"] for line in lines[WARM:]],
        "peak_gb": float(peak.split()[1]),
        "loss": lines[-1]["loss"],
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every figure; each kind of run `--repetitions` times."""
    total = max(os.cpu_count() or 2, 2)
    kinds = {
        (1, total): f"1 process of {total} threads",
        (1, 1): "1 process of 1 thread",
        (2, total // 2): f"2 processes, threads each: {total // 2}",
        (2, 1): "2 processes, threads each: 1",
    }
    found: dict[tuple[int, int], dict[str, Any]] = {key: {"seconds": [], "peaks": []} for key in kinds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, "warm", 1, total, argparse.Namespace(steps=WARM + 1, batch=options.batch))
        for repetition in range(options.repetitions):
            for processes, threads in sorted(kinds):
                one = run(folder, f"{processes}-{threads}-{repetition}", processes, threads, options)
                found[processes, threads]["seconds"].append(median(one["seconds"]))
                found[processes, threads]["peaks"].append(one["peak_gb"])
                found[processes, threads]["loss"] = one["loss"]
    seconds = {key: median(values["seconds"]) for key, values in found.items()}
    return {
        "benchmark": "data_parallel",
        "batch": options.batch,
        "repetitions": options.repetitions,
        "steps": options.steps - WARM,
        "runs": {
            kinds[key]: {
                "seconds": [round(f(values["seconds"]), 4) for f in (median, min, max)],
                "peak_gb_each": max(values["peaks"]),
                "last_loss": values["loss"],
            }
            for key, values in sorted(found.items())
        },
        "ddp2_over_1": round(seconds[1, total] / seconds[2, total // 2], 3),
        "ddp2_over_1_one_thread_each": round(seconds[1, 1] / seconds[2, 1], 3),
    }


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = ["| | s per step: median (min–max) | peak of a process, GB | last loss |", "|---|---:|---:|---:|"]
    for name, row in result["runs"].items():
        middle, low, high = row["seconds"]
        lines.append(f"| {name} | {middle} ({low}–{high}) | {row['peak_gb_each']} | {row['last_loss']:.7f} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = measuring.options(__doc__)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "THREADS"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        child(Path(options.child[0]), int(options.child[1]), options.steps, options.batch)
        return
    if options.quick:
        options.steps, options.batch, options.repetitions = WARM + 1, 2, 1
    about = measuring.machine()
    result = measure(options)
    print(table(result))
    print(f"\n2 processes over 1: {result['ddp2_over_1']} times as fast with the same threads in all, "
          f"{result['ddp2_over_1_one_thread_each']} with one thread each")  # fmt: skip
    measuring.finish(result, about, options.out)


if __name__ == "__main__":
    main()
