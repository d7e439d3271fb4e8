"""Damaged files of every kind, read in processes of their own: each must be read or refused by a `MocaError`.

    python fuzz/run.py --cases 10000 --jobs 2      # make fuzz
    python fuzz/run.py --case 1234                 # that one again, with its traceback

A case is a number: it decides the kind, the whole file and the damage. What fails is kept in ``--out``
and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import json
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
SECONDS = 20.0
"""A case that takes longer hangs."""
STARTING = 120.0
"""Seconds that a process may take to import torch before its first case."""
BYTES = 3 << 30
"""Of memory that a process may hold."""


def main() -> int:
    """Run the cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="kinds")
    parser.add_argument("--case", type=int, help="read this one case here, with its traceback")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="failing cases")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args.worker, args.only)
    with tempfile.TemporaryDirectory(prefix="moca-fuzz-") as name:
        seeds = Path(name) / "seeds"
        command = [sys.executable, "-c", "import sys; from pathlib import Path; import seeds; "]
        command[-1] += "seeds.write_seeds(Path(sys.argv[1]))"
        subprocess.run([*command, str(seeds)], check=True, cwd=HERE, capture_output=True)
        if args.case is not None:
            return again(args.case, seeds, args.only, args.out)
        numbers = range(args.first, args.first + args.cases)
        outcomes = run_cases(list(numbers), seeds, args.jobs, args.only, SECONDS)
        faults = report(outcomes)
        for fault in faults:
            keep(fault["case"], seeds, args.only, args.out)
        return 1 if faults else 0


# --- one case ---------------------------------------------------------------------------------------------


def make_case(number: int, seeds: Path, place: Path, only: list[str]) -> tuple[str, str]:
    """Copy a whole thing to `place` and damage one of its files; returns the kind and what was damaged."""
    from damage import damage
    from targets import TARGETS, copy_seed

    rng = np.random.default_rng(number)
    kinds = {kind: share for kind, (share, _) in TARGETS.items() if not only or kind in only}
    total = sum(kinds.values())
    kind = str(rng.choice(list(kinds), p=[share / total for share in kinds.values()]))
    if kind == "world":
        choices = [seeds / "world"]
    else:
        choices = sorted(path for path in (seeds / kind).iterdir() if path.is_dir())
    seed = choices[int(rng.integers(len(choices)))]
    files = copy_seed(seed, place)
    # Text and headers are small beside images: as likely as all of those together.
    texts = [file for file in files if file.suffix in (".csv", ".json", ".jsonl", ".txt")]
    pool = texts if texts and rng.integers(2) else files
    file = pool[int(rng.integers(len(pool)))]
    other = choices[int(rng.integers(len(choices)))]
    others = sorted(path for path in other.rglob("*") if path.is_file())
    donor = others[int(rng.integers(len(others)))]
    file.write_bytes(damage(file.read_bytes(), donor.read_bytes(), rng))
    return kind, str(file.relative_to(place))


def read_case(kind: str, place: Path) -> tuple[str, str]:
    """("read", ""), ("refused", why) or ("fault", traceback)."""
    from targets import TARGETS

    from moca_avs.errors import MocaError

    try:
        TARGETS[kind][1](place)
    except MocaError as error:
        return ("refused", str(error)) if str(error).strip() else ("fault", "an error without a word")
    except BaseException:  # noqa: BLE001 (whatever else it is, it is a fault)
        return "fault", traceback.format_exc()
    return "read", ""


def work(seeds: Path, only: list[str]) -> int:
    """A worker: numbers of cases come in, a line of JSON goes out for each."""
    import targets

    out = sys.stdout
    sys.stdout = sys.stderr
    warnings.simplefilter("ignore")
    targets.SEEDS = seeds
    sys.path.insert(0, str(HERE.parent / "tests"))
    import seeds as _  # noqa: F401  (all that readers import is imported before memory is measured)

    size = _status("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (size + BYTES + (1 << 30), resource.RLIM_INFINITY))
    for line in sys.stdin:
        number = int(line)
        with tempfile.TemporaryDirectory(prefix=f"case-{number}-", dir=seeds.parent) as name:
            place = Path(name) / "case"
            kind, file = make_case(number, seeds, place, only)
            Path("/proc/self/clear_refs").write_text("5")  # what was held at most is measured anew
            began = time.monotonic()
            outcome, why = read_case(kind, place)
            seconds, held = time.monotonic() - began, _status("VmHWM")
        record = {"case": number, "kind": kind, "file": file, "outcome": outcome, "why": why}
        out.write(json.dumps(record | {"seconds": seconds, "bytes": held}) + "\n")
        out.flush()
    return 0


def _status(name: str) -> int:
    """A number of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))


def again(number: int, seeds: Path, only: list[str], out: Path) -> int:
    """One case here; what goes wrong is shown."""
    import targets

    targets.SEEDS = seeds
    place = out / f"case-{number}"
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    kind, file = make_case(number, seeds, place, only)
    print(f"case {number}: {kind}, {place / file}", flush=True)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    outcome, why = read_case(kind, place)
    print(outcome, why)
    return int(outcome == "fault")


def keep(number: int, seeds: Path, only: list[str], out: Path) -> None:
    """The damaged files of a failing case."""
    place = out / f"case-{number}"
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    make_case(number, seeds, place, only)


# --- many -------------------------------------------------------------------------------------------------


class Worker:
    """A process that reads cases; killed and begun anew where it crashes or hangs."""

    def __init__(self, seeds: Path, only: list[str], seconds: float) -> None:
        command = [sys.executable, str(HERE / "run.py"), "--worker", str(seeds), "--only", *only]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.pipe, self._seconds = self._process.stdout, seconds
        self.case: int | None = None
        self._due = float("inf")

    def give(self, number: int) -> None:
        """Begin a case."""
        new = self.case is None
        self.case = number
        self._due = time.monotonic() + self._seconds + (STARTING if new else 0)
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()

    @property
    def late(self) -> bool:
        """Whether its case hangs."""
        return time.monotonic() > self._due

    def take(self) -> dict[str, Any]:
        """What became of its case; a crash where the process is gone."""
        line = self.pipe.readline()
        if line.endswith("\n"):
            return json.loads(line)
        return self.lost(f"the process ended by itself ({self._ended()})")

    def lost(self, why: str) -> dict[str, Any]:
        """A case that will never be answered."""
        record = {"case": self.case, "kind": "?", "file": "", "outcome": "fault", "why": why}
        return record | {"seconds": self._seconds, "bytes": 0}

    def _ended(self) -> str:
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def end(self) -> None:
        """Let it go, or kill it."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


def run_cases(
    numbers: list[int], seeds: Path, jobs: int, only: list[str], seconds: float
) -> list[dict[str, Any]]:
    """What became of each case."""
    waiting, outcomes = numbers[::-1], []
    with selectors.DefaultSelector() as selector:

        def begin() -> None:
            if waiting:
                worker = Worker(seeds, only, seconds)
                selector.register(worker.pipe, selectors.EVENT_READ, worker)
                worker.give(waiting.pop())

        def stop(worker: Worker) -> None:
            selector.unregister(worker.pipe)
            worker.end()

        for _ in range(jobs):
            begin()
        while selector.get_map():
            for key, _ in selector.select(timeout=1):
                worker = key.data
                record = worker.take()
                if record["outcome"] != "fault" and record["bytes"] > BYTES:
                    record |= {"outcome": "fault", "why": f"held {record['bytes'] / 2**30:.1f} GiB"}
                outcomes.append(record)
                if record["kind"] == "?" or not waiting:
                    stop(worker)
                    begin()
                else:
                    worker.give(waiting.pop())
            for worker in [key.data for key in selector.get_map().values()]:
                if worker.late:
                    outcomes.append(worker.lost(f"it hangs: more than {seconds:g} s"))
                    stop(worker)
                    begin()
    return sorted(outcomes, key=lambda record: record["case"])


def report(outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print a line per kind and each fault; returns the faults."""
    kinds = defaultdict(list)
    for record in outcomes:
        kinds[record["kind"]].append(record)
    print(
        f"{'kind':16}{'cases':>7}{'read':>7}{'refused':>9}{'slowest s':>11}{'largest MiB':>13}{'faults':>8}"
    )
    for kind, found in [*sorted(kinds.items()), ("all", outcomes)]:
        count = {name: sum(one["outcome"] == name for one in found) for name in ("read", "refused", "fault")}
        slowest = max((one["seconds"] for one in found), default=0)
        largest = max((one["bytes"] for one in found), default=0) >> 20
        row = (len(found), count["read"], count["refused"], f"{slowest:.2f}", largest, count["fault"])
        print(f"{kind:16}" + "".join(f"{value:>13}" for value in row))
    faults = [record for record in outcomes if record["outcome"] == "fault"]
    for record in faults:
        print(
            f"\ncase {record['case']} ({record['kind']}, {record['file']}): {record['why'].strip()[-1200:]}"
        )
    return faults


if __name__ == "__main__":
    sys.exit(main())
