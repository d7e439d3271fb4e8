"""All ten tables of the paper, one after the other, with the wall time of each.

    python benchmarks/tables.py --out out/tables -- --root stamps --quick    # after --: options of moca table
    python benchmarks/tables.py --out out/tables --into benchmarks/TABLES.md -- --root stamps --quick

Writes what `moca table` writes into OUT, OUT/seconds.json, and with ``--into`` replaces everything below the
marker line of that page by the tables. A table that fails is reported, the others go on; exit code 1 then.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

MARKER = "<!-- measured: python benchmarks/tables.py writes what follows -->"
MOCA = (sys.executable, "-m", "moca_avs", "table")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument(
        "--into", type=Path, metavar="PAGE", help="a Markdown page that holds the marker line"
    )
    parser.add_argument("--only", type=int, nargs="+", default=range(1, 11), metavar="N", help="these tables")
    parser.add_argument("options", nargs="*", help="after --: options of moca table")
    arguments = parser.parse_args()
    seconds, failed = measured(arguments.only, arguments.out, arguments.options)
    if arguments.into is not None:
        head, found, _ = arguments.into.read_text(encoding="utf-8").partition(MARKER)
        if not found:
            parser.error(f"{arguments.into} should hold the line {MARKER!r}")
        text = page(arguments.out, seconds, arguments.options)
        arguments.into.write_text(head + found + "\n\n" + text, encoding="utf-8")
    sys.exit(1 if failed else 0)


def measured(numbers: Sequence[int], out: Path, options: Sequence[str]) -> tuple[dict[int, float], list[int]]:
    """Run the tables; returns the wall seconds of each, earlier ones in OUT included, and which failed."""
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "seconds.json"
    seconds = {int(n): s for n, s in json.loads(kept.read_text()).items()} if kept.exists() else {}
    failed = []
    for number in numbers:
        start = time.monotonic()
        code = subprocess.call([*MOCA, str(number), "--out", str(out), *options])
        seconds[number] = round(time.monotonic() - start, 1)
        print(f"table {number}: exit code {code}, {seconds[number] / 60:.1f} minutes", flush=True)
        kept.write_text(json.dumps(seconds), encoding="utf-8")
        if code:
            failed.append(number)
    return seconds, failed


def page(out: Path, seconds: Mapping[int, float], options: Sequence[str]) -> str:
    """The tables of a folder as one page, below a list of commands and times."""
    lines = ["| command | minutes, two cores |", "|---|---|"]
    texts = []
    for number in sorted(seconds):
        path = out / f"table{number:02d}.md"
        if path.exists():
            lines.append(
                f"| `{shlex.join(['moca', 'table', str(number), *options])}` | {seconds[number] / 60:.1f} |"
            )
            texts.append("#" + path.read_text(encoding="utf-8").replace("\n## ", "\n### "))
    return "\n".join([*lines, "", *texts])


if __name__ == "__main__":
    main()
