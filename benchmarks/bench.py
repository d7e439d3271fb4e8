"""Run every benchmark, one after the other, each in a process of its own; collect what they found.

    python benchmarks/bench.py                          # hours on two cores; leave the machine alone
    python benchmarks/bench.py --quick                  # all of it small: whether it works
    python benchmarks/bench.py --only matching neighbours

Writes OUT/NAME.json (figures and machine) and OUT/RESULTS.md (all tables). One that fails or takes too long
is named and the others go on; the exit code is then 1. The last line is one JSON object: every figure that is
a single number.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measuring import machine, table

HERE = Path(__file__).resolve().parent
MINUTES = {  # name: limit
    "training_step": 60,
    "data_parallel": 45,
    "segmenting": 60,
    "cost_of_a_clip": 60,
    "long_video": 90,
    "ray_engine": 45,
    "matching": 20,
    "neighbours": 60,
    "evaluation_memory": 30,
    "carry_masks": 10,
    "cues": 20,
    "many_clips": 20,
}


@dataclass(frozen=True)
class Outcome:
    """What one benchmark printed before its last line, what that says, and what went wrong ("": nothing)."""

    name: str
    seconds: float
    printed: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    trouble: str = ""


def run(name: str, out: Path, quick: bool, minutes: float) -> Outcome:
    """Run one; its errors go to this process's stderr as they come."""
    command = [sys.executable, str(HERE / f"{name}.py"), "--out", str(out / f"{name}.json")]
    command += ["--quick"] if quick else []
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
    ) as process:
        try:
            printed, _ = process.communicate(timeout=60 * minutes)
            trouble = "" if process.returncode == 0 else f"ended with exit code {process.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # and what it started
            printed, _ = process.communicate()
            trouble = f"took longer than {minutes:g} minutes"
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    seconds = time.perf_counter() - start
    return trouble_or_figures(name, seconds, printed, trouble)


def trouble_or_figures(name: str, seconds: float, printed: str, trouble: str) -> Outcome:
    """Split what a benchmark printed into its tables and its last line."""
    lines = printed.rstrip().splitlines()
    if trouble:
        return Outcome(name, seconds, "\n".join(lines), trouble=trouble)
    try:
        figures = json.loads(lines[-1])
    except (IndexError, ValueError):
        figures = None
    if not isinstance(figures, dict):
        return Outcome(name, seconds, "\n".join(lines), trouble="its last line is no JSON object")
    return Outcome(name, seconds, "\n".join(lines[:-1]).rstrip(), figures)


def ratios(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Every figure that is one number; under "NAME.FIGURE" where another benchmark has it too."""
    found: dict[str, float] = {}
    for outcome in outcomes:
        for key, value in outcome.figures.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found[f"{outcome.name}.{key}" if key in found else key] = value
    return found


def page(outcomes: Sequence[Outcome], about: Mapping[str, Any], quick: bool) -> str:
    """All tables as Markdown."""
    lines = ["# Benchmarks", ""]
    if quick:
        lines += ["`--quick`: sizes at which the figures mean little.", ""]
    load = ", ".join(map(str, about["load_at_start"]))
    lines += [
        f"{about['cpu']}, {about['cores']} cores, {about['ram_gib']} GiB, GPU: {about['gpu'] or 'none'}; "
        f"Python {about['python']}, torch {about['torch']}, {about['threads']} threads. Load average at the "
        f"start (1, 5, 15 minutes): {load}. Where others worked beside, seconds are upper bounds.",
        "",
        table(["benchmark", "minutes", ""], [[o.name, f"{o.seconds / 60:.1f}", o.trouble] for o in outcomes]),
    ]
    for outcome in outcomes:
        lines += ["", f"## {outcome.name}", "", outcome.printed or "Nothing was printed."]
        if outcome.trouble:
            lines += ["", f"Failed: {outcome.trouble}."]
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out/bench"), metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that all of it works")
    parser.add_argument("--only", nargs="+", choices=tuple(MINUTES), metavar="NAME", help=", ".join(MINUTES))
    parser.add_argument("--minutes", type=float, metavar="M", help="limit for each, instead of its own")
    return parser.parse_args()


def main() -> int:
    """Run, print, write; 1 if one failed."""
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    about, outcomes = machine(), []
    for name in arguments.only or MINUTES:
        print(f"## {name}\n", flush=True)
        outcome = run(name, arguments.out, arguments.quick, arguments.minutes or MINUTES[name])
        print(outcome.printed, end="\n\n", flush=True)
        if outcome.trouble:
            print(
                f"bench: {name} {outcome.trouble}; run python benchmarks/{name}.py by itself", file=sys.stderr
            )
        outcomes.append(outcome)
        (arguments.out / "RESULTS.md").write_text(page(outcomes, about, arguments.quick), encoding="utf-8")
    failed = [outcome.name for outcome in outcomes if outcome.trouble]
    print(f"tables -> {arguments.out / 'RESULTS.md'}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    print(json.dumps(ratios(outcomes)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
