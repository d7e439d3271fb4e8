"""Write the tables of scores in the pages from the logged results of this release.

    make readme-tables                       # write them
    python tools/readme_tables.py --check    # exit code 1 where a page differs from the log

A table stands between two marks. The first names the log, benchmarks/results/VERSION/NAME.json, and may
choose columns and rows by their keys; without a choice it has all of them, in the log's order:

    <!-- table:start real_clips columns=auc,box_iou rows=lite,wrong_sound -->
    <!-- table:end -->

benchmarks/results/README.md describes the logs.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MARKS = re.compile(
    r"(<!-- table:start (?P<name>\w+)(?P<choice>[^>]*?) *-->\n)(?P<body>.*?)(<!-- table:end -->)", re.S
)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write or check the pages of the checkout at `root`; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 where a page differs"
    )
    check = parser.parse_args(arguments).check
    stale = 0
    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        new = rendered(text, results(root))
        if new == text:
            continue
        stale += 1
        print(f"{'differs from the log' if check else 'written'}: {page.relative_to(root)}")
        if not check:
            page.write_text(new, encoding="utf-8")
    return int(check and stale > 0)


def pages(root: Path = ROOT) -> list[Path]:
    """Pages that hold a marked table."""
    found = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return [page for page in found if "<!-- table:start" in page.read_text(encoding="utf-8")]


def results(root: Path = ROOT) -> Path:
    """Folder with the logged results of the version in src/moca_avs/__init__.py."""
    source = (root / "src/moca_avs/__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    assert version is not None
    return root / "benchmarks/results" / version[1]


def rendered(text: str, folder: Path) -> str:
    """`text` with each marked table made again from its log in `folder`.

    Raises:
        SystemExit: for a log, a column or a row that does not exist, or a start mark without its end.
    """
    if text.count("<!-- table:start") != len(MARKS.findall(text)):
        raise SystemExit("a mark <!-- table:start NAME --> is misspelled or lacks its <!-- table:end -->")

    def table(found: re.Match[str]) -> str:
        path = folder / f"{found['name']}.json"
        if not path.is_file():
            raise SystemExit(f"no log {path}; see benchmarks/results/README.md")
        choice = dict(word.split("=", 1) for word in found["choice"].split())
        return found[1] + markdown(json.loads(path.read_text(encoding="utf-8")), **choice) + found[5]

    return MARKS.sub(table, text)


def markdown(log: dict[str, Any], columns: str = "", rows: str = "") -> str:
    """A log's preamble and tables; `columns` and `rows` are keys joined by commas, "" for all."""
    lines: list[str] = []
    for paragraph in log.get("preamble", []):
        lines += [paragraph, ""]
    for table in log["tables"]:
        names = columns.split(",") if columns else list(table["columns"])
        by_key = {row["key"]: row for row in table["rows"]}
        keys = rows.split(",") if rows else list(by_key)
        if unknown := [key for key in names if key not in table["columns"]]:
            raise SystemExit(f"no column {', '.join(unknown)}; there are {', '.join(table['columns'])}")
        if unknown := [key for key in keys if key not in by_key]:
            raise SystemExit(f"no row {', '.join(unknown)}; there are {', '.join(by_key)}")
        if table["head"]:
            lines += [table["head"], ""]
        lines += [row_of(["", *(table["columns"][name] for name in names)]), "|" + "---|" * (len(names) + 1)]
        for row in (by_key[key] for key in keys):
            lines.append(row_of([row["title"], *(cell(row["scores"][name], row["bold"]) for name in names)]))
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def row_of(cells: Sequence[str]) -> str:
    """One line of a Markdown table; an empty first cell has one space."""
    return f"| {' | '.join(cells)} |".replace("|  |", "| |", 1)


def cell(values: Sequence[float] | None, bold: bool = False) -> str:
    """``.85 [.78, .91]``, ``.85`` without an interval, "–" where the score is not defined (None)."""
    if values is None:
        return "–"
    estimate, *ends = (short(value) for value in values)
    shown = f"**{estimate}**" if bold else estimate
    return f"{shown} [{', '.join(ends)}]" if ends else shown


def short(value: float) -> str:
    """Two decimals without the leading zero: ``.85``, ``1.00``, ``−.03``."""
    digits = f"{abs(value):.2f}"
    return ("−" if value < 0 and digits != "0.00" else "") + digits.removeprefix("0")


if __name__ == "__main__":
    sys.exit(main())
