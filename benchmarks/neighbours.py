"""The exact neighbour table: seconds and memory against the number of images, up to 200,000 x 384 features.

    python benchmarks/neighbours.py            # 25, 50, 100 and 200 thousand images, minutes
    python benchmarks/neighbours.py --quick    # 25 thousand; what 200 thousand take is extrapolated

Features stand in clusters (about 40 images each, cosine 0.67 within) and clips (5 frames of each). Every size
runs in a process of its own. Operations: 2 N^2 F; bytes at least: the features once per 1,024 rows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import torch
from measuring import Timing, finish, in_turn, machine, options, peak_mib, table
from torch import Tensor

from moca_avs.model.pairing import neighbour_table

FEATURES, FRAMES, CLUSTER = 384, 5, 40
SIZES = {25_000: 3, 50_000: 3, 100_000: 1, 200_000: 1}  # images: repetitions
ASKED = 200_000


def features_of(images: int) -> Tensor:
    """float32 [images, FEATURES] in clusters, of various lengths."""
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(images, FEATURES, generator=rng).mul_(0.7)
    middles = torch.randn(-(-images // CLUSTER), FEATURES, generator=rng)
    which = torch.randint(0, len(middles), (images,), generator=rng)
    for part in torch.arange(images).split(8192):  # no second copy: memory is measured here
        features[part] += middles[which[part]]
    return features.mul_(torch.rand(images, 1, generator=rng) + 0.5)


def bare_rate(features: Tensor) -> float:
    """Operations per second of nothing but the products of 1,024 rows with 8,192 others."""
    mine, others = features[:1024], features[-8192:].T
    out = torch.empty(len(mine), others.shape[1])
    taken = in_turn({"mm": lambda: torch.mm(mine, others, out=out)}, 9)["mm"].median
    return 2 * out.numel() * FEATURES / taken


def measure(images: int) -> dict[str, float]:
    """One table, in this process: seconds, operations per second, MiB beyond features and imports."""
    features = features_of(images)
    clips = [f"clip{row // FRAMES}" for row in range(images)]
    rate, before = bare_rate(features), peak_mib()
    start = time.perf_counter()
    found = neighbour_table(features, clips)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "bare_gflops": rate / 1e9,
        "features_mib": features.numel() * 4 / 2**20,
        "beyond_mib": peak_mib() - before,
        "with_all": float((found.neighbours >= 0).float().mean()),
    }


def in_own_process(images: int) -> dict[str, float]:
    """`measure`, elsewhere."""
    command = [sys.executable, __file__, "--images", str(images)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print a table and the figures; or, given --images, one size's figures for `in_own_process`."""
    parser = options(__doc__)
    parser.add_argument("--images", type=int, metavar="N", help="measure one size, in this process")
    arguments = parser.parse_args()
    if arguments.images is not None:
        print(json.dumps(measure(arguments.images)))
        return
    about, rows, figures = machine(), [], {}
    sizes = [25_000] if arguments.quick else list(SIZES)
    for images in sizes:
        runs = [in_own_process(images) for _ in range(SIZES[images])]
        taken = Timing(tuple(run["seconds"] for run in runs))
        work, last = 2 * images**2 * FEATURES, runs[-1]
        rate = work / taken.median / 1e9
        figures[str(images)] = {**last, "seconds": taken.figures(), "gflops": rate}
        rows.append(
            [f"{images:,}", f"{taken:1}", f"{work / 1e12:.2f}", f"{rate:.0f}", f"{last['bare_gflops']:.0f}",
             f"{last['features_mib']:.0f}", f"{last['beyond_mib']:.0f}"]
        )  # fmt: skip
    head = ["images", "seconds", "TFLOP", "GFLOP/s", "bare matmul, GFLOP/s", "features, MiB", "beyond, MiB"]
    print(table(head, rows))
    largest = sizes[-1]
    seconds = figures[str(largest)]["seconds"]["median"] * (ASKED / largest) ** 2
    precision = "measured" if largest == ASKED else f"extrapolated by N^2 from {largest:,}"
    print(f"\n{ASKED:,} images: {seconds:.0f} s ({precision})")
    summary = {
        "neighbour_seconds_200k": seconds,
        "neighbour_extrapolated_from": largest,
        "neighbour_share_of_bare_matmul": figures[str(largest)]["gflops"]
        / figures[str(largest)]["bare_gflops"],
        "sizes": figures,
    }
    finish(summary, about, arguments.out)


if __name__ == "__main__":
    main()
