"""The "Hearing" report: what `lite` hears in the offline benchmark, beside everything that is deaf.

    python recipes/lite/hearing.py --root stamps --out out/hearing            # stopped? the same line goes on
    python recipes/lite/hearing.py --root stamps --out out/hearing --readme   # and logs them for the README

Writes OUT/hearing.md, OUT/hearing.json, and one JSONL of records per dataset and method, from which both are
made. `--readme` also writes the log benchmarks/results/VERSION/stamps.json and makes the pages' tables again
(tools/readme_tables.py). Proposals are kept in OUT/cache: no image is searched twice, whichever method or row
asks. Where no adapters ship with the preset, `frozen` is evaluated alone and the report says so.
"""

from __future__ import annotations

import argparse
import json
import math
import runpy
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import moca_avs
from moca_avs.data.base import EvaluationSet, subset
from moca_avs.errors import MocaError, UsageError
from moca_avs.methods.base import Method
from moca_avs.methods.source import find_source
from moca_avs.proposals import build_proposer
from moca_avs.proposals.base import CachedProposer, Proposer
from moca_avs.utils.files import atomic_write
from moca_avs_bench.data import open_evaluation_set
from moca_avs_bench.evaluation.compare import Comparison, compare
from moca_avs_bench.evaluation.controls import Foreground
from moca_avs_bench.evaluation.evaluate import evaluate
from moca_avs_bench.evaluation.report import TITLES, Report, aligned, without_nan
from moca_avs_bench.metrics.bootstrap import Interval
from moca_avs_bench.tables.setup import DiskCachedProposer

ROOT = Path(__file__).resolve().parents[2]
SETS = {"ms3": "MS3", "s4": "S4"}  # the small one first: its pace tells how long the other takes
TIERS = {"B": "unseen sounds", "A": "unseen sounds and images", "C": "classes never trained on"}
MAIN = ("s4", ("B", "A"))  # what the README shows
COLUMNS = (
    "object_accuracy",
    "swap_accuracy",
    "miou_sounding",
    "miou",
    "f",
    "silent_accuracy",
    "false_silence",
)
LABELS = TITLES | {"miou": "mIoU, all frames"}
ROWS = (  # (title, method, row of its evaluation)
    ("frozen", "frozen", "method"),
    ("moca", "moca", "method"),
    ("moca, wrong sound in the adapters only", "moca", "wrong_adapters"),
    ("moca, wrong sound everywhere", "moca", "wrong_sound"),
    ("frozen, wrong sound everywhere", "frozen", "wrong_sound"),
    ("audio-blind: salient foreground", "frozen", "foreground"),
    ("audio-blind: every object, perfectly", "frozen", "all_objects"),
    ("empty", "frozen", "empty"),
)
PAIRED = ("object_accuracy", "swap_accuracy", "miou_sounding", "miou")
PAIRS = (  # (title, a, row of a, b, row of b)
    ("moca − frozen", "moca", "method", "frozen", "method"),
    ("moca with the wrong sound in the adapters − frozen", "moca", "wrong_adapters", "frozen", "method"),
    ("moca − moca with the wrong sound in the adapters", "moca", "method", "moca", "wrong_adapters"),
)
NO_ADAPTERS = "No trained adapters ship with the preset: `frozen` is evaluated alone."

Reports = dict[str, dict[str, Report]]
"""dataset -> method -> report."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", default="stamps", metavar="DIR|stamps", help="the offline benchmark")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report and its records")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--limit", type=int, metavar="N", help="only N clips of each set, to try things out")
    parser.add_argument("--preset", default="lite", help="a preset or a run folder")
    parser.add_argument("--seed", type=int, default=0, help="of the wrong-sound draw and the bootstrap")
    parser.add_argument(
        "--readme", action="store_true", help="log the main tables, and put them into README.md"
    )
    arguments = parser.parse_args()
    try:
        run(arguments, f"python recipes/lite/hearing.py {shlex.join(sys.argv[1:])}")
    except MocaError as error:
        print(f"hearing: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def run(arguments: argparse.Namespace, command: str) -> None:
    if arguments.readme and (arguments.limit is not None or arguments.split != "test"):
        raise UsageError("--readme takes the whole test split: leave --limit and --split out")
    keep = partial(DiskCachedProposer, folder=arguments.out / "cache")
    methods = load_methods(arguments.preset, keep)
    foreground = CachedProposer(build_proposer("saliency", wrap=keep))
    sets = {
        name: subset(open_evaluation_set(name, arguments.root, arguments.split), arguments.limit)
        for name in SETS
    }
    reports = evaluated(methods, sets, foreground, arguments.out, arguments.seed)
    pairs = compared(reports, arguments.out)
    write(arguments.out / "hearing.md", to_markdown(reports, pairs, command))
    write(arguments.out / "hearing.json", to_json(reports, pairs, command))
    print(f"report -> {arguments.out / 'hearing.md'}")
    if arguments.readme:
        log = ROOT / "benchmarks/results" / moca_avs.__version__ / "stamps.json"
        log.parent.mkdir(parents=True, exist_ok=True)
        write(log, json.dumps(to_log(reports, command), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        print(f"main tables -> {log}")
        runpy.run_path(str(ROOT / "tools/readme_tables.py"))["main"]([])


def load_methods(preset: str, keep: Callable[[Proposer], Proposer]) -> dict[str, Method]:
    """`frozen`, and `moca` where there are adapters; `keep` wraps their proposers."""
    names = ["frozen"] + ["moca"] * (find_source(preset).adapters is not None)
    if "moca" not in names:
        print(NO_ADAPTERS)
    return {name: moca_avs.load(preset, name, wrap_proposer=keep) for name in names}


def evaluated(
    methods: dict[str, Method], sets: dict[str, EvaluationSet], foreground: Foreground, out: Path, seed: int
) -> Reports:
    """Every method over every set, each picking up where it was stopped; says how long the rest takes."""
    todo = {
        (name, method): len(dataset) - records_in(records_file(out, name, method))
        for name, dataset in sets.items()
        for method in methods
    }
    pace: dict[str, float] = {}  # seconds per clip
    reports: Reports = {name: {} for name in sets}
    for (name, method), clips in list(todo.items()):
        left = sum(n * pace.get(m, max(pace.values(), default=0)) for (_, m), n in todo.items())
        rest = f"; about {math.ceil(left / 60)} minutes left in all" if left else ""
        print(f"{name}, {method}: {clips} of {len(sets[name])} clips to do{rest}", flush=True)
        start = time.monotonic()
        reports[name][method] = evaluate(
            methods[method],
            sets[name],
            foreground=foreground,
            jsonl=records_file(out, name, method),
            resume=True,
            seed=seed,
            progress=True,
        )
        if clips:
            pace[method] = (time.monotonic() - start) / clips
        todo[name, method] = 0
    return reports


def compared(reports: Reports, out: Path) -> dict[str, dict[str, Comparison]]:
    """Paired differences, dataset -> title -> comparison; none without `moca`."""
    return {
        name: {
            title: compare(records_file(out, name, a), records_file(out, name, b), row_a, row_b)
            for title, a, row_a, b, row_b in PAIRS
            if a in found and row_a in found[a].tiers["all"].rows
        }
        for name, found in reports.items()
    }


def records_file(out: Path, name: str, method: str) -> Path:
    return out / f"{name}-{method}.jsonl"


def records_in(file: Path) -> int:
    """Samples that a file of records already holds; its first line is the header."""
    return max(0, file.read_bytes().count(b"\n") - 1) if file.is_file() else 0


# --- the report -----------------------------------------------------------------------------------------


def to_markdown(reports: Reports, pairs: dict[str, dict[str, Comparison]], command: str) -> str:
    lines = ["# Hearing", "", *preamble(reports, command)]
    for name in sorted(reports, reverse=True):  # S4 first
        lines += ["", f"## {SETS[name]}", *mishaps(reports[name])]
        for tier in TIERS:
            lines += tier_table(name, reports[name], tier)
        for title, comparison in pairs[name].items():
            lines += ["", f"### {title}", "", *difference_table(comparison)]
    return "\n".join(lines) + "\n"


def to_log(reports: Reports, command: str) -> dict[str, Any]:
    """What the README shows: the main set's first tiers, as benchmarks/results/README.md describes it."""
    name, tiers = MAIN
    tables = []
    for tier in tiers:
        rows = [
            {
                "key": f"{method}.{row}",
                "title": title,
                "bold": False,
                "scores": {m: numbers(found[m]) for m in COLUMNS},
            }
            for title, method, row, found in rows_of(reports[name], tier)
        ]
        columns = {metric: LABELS[metric] for metric in COLUMNS}
        tables.append({"head": tier_head(name, reports[name], tier), "columns": columns, "rows": rows})
    return {
        "provenance": {
            "kind": "logged",
            "from": "recipes/lite/hearing.py --readme",
            "measured_with": moca_avs.__version__,
            "note": "",
        },
        "data": f"`stamps`, test split, {SETS[name]}",
        "interval": "95 % bootstrap over source files",
        "command": command,
        "preamble": [line for line in preamble(reports, command) if line],
        "tables": tables,
    }


def numbers(found: Interval) -> list[float] | None:
    """``[estimate, low, high]``, ``[estimate]`` without an interval, None where nothing was averaged."""
    if found.estimate != found.estimate:
        return None
    return [found.estimate] if found.low != found.low else [found.estimate, found.low, found.high]


def preamble(reports: Reports, command: str) -> list[str]:
    """What these numbers are, and how to get them again."""
    found = next(iter(reports.values()))
    one = found["frozen"]
    hashes = [
        f"{part} {settings[part]['weights'][:16]}"
        for settings, part in (
            (one.settings, "encoder"),
            (found["moca"].settings if "moca" in found else {}, "adapters"),
            (one.settings, "proposer"),
        )
        if (settings.get(part) or {}).get("weights")
    ]
    line = (
        f"`stamps`, {one.split} split; protocol {one.protocol}, F from the {one.f_from}, seed {one.seed}; "
        f"weights (SHA-256): {', '.join(hashes)}. Brackets: 95 % bootstrap intervals over source files. "
        f"Command: `{command}`"
    )
    return [line] + ["", f"**{NO_ADAPTERS}**"] * ("moca" not in found)


def mishaps(found: dict[str, Report]) -> Iterator[str]:
    """What is missing from the scores, if anything."""
    for method, report in found.items():
        if report.samples < report.size or report.failed:
            yield f"\n{method}: {report.samples} of {report.size} clips tried, {len(report.failed)} failed."
        if report.no_partner:
            yield f"\n{method}: {len(report.no_partner)} clips without a wrong-sound partner."


def tier_table(name: str, found: dict[str, Report], tier: str) -> list[str]:
    """One tier's rows and columns, under a line that counts what was scored; [] where it has none."""
    if tier not in found["frozen"].tiers:
        return []
    body = [
        [title, *(cell(scores[metric]) for metric in COLUMNS)] for title, _, _, scores in rows_of(found, tier)
    ]
    head = tier_head(name, found, tier)
    return ["", head, "", *aligned([["", *(LABELS[metric] for metric in COLUMNS)], *body])]


def tier_head(name: str, found: dict[str, Report], tier: str) -> str:
    """What was scored in a tier, in numbers."""
    frozen = found["frozen"]
    counts = frozen.tiers[tier]
    return (
        f"**{SETS[name]}, {frozen.split.capitalize()}-{tier}** ({TIERS[tier]}): {counts.samples} clips, "
        f"{counts.frames} frames ({counts.empty_frames} silent), {counts.clusters} source files"
    )


def rows_of(found: dict[str, Report], tier: str) -> Iterator[tuple[str, str, str, dict[str, Interval]]]:
    """Rows that a tier has: (title, method, row of its evaluation, scores)."""
    for title, method, row in ROWS:
        if method in found and row in found[method].tiers[tier].rows:
            yield title, method, row, found[method].tiers[tier].rows[row]


def difference_table(comparison: Comparison) -> list[str]:
    body = [
        [tier, *(cell(found[m], signed=True) if m in found else "–" for m in PAIRED)]
        for tier, found in in_order(comparison.tiers)
    ]
    return aligned([["tier", *(LABELS[metric] for metric in PAIRED)], *body])


def in_order(tiers: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    return ((tier, tiers[tier]) for tier in (*TIERS, "all") if tier in tiers)


def cell(found: Interval, signed: bool = False) -> str:
    """``.85 [.78, .91]``; "–" where there was nothing to average."""
    if found.estimate != found.estimate:
        return "–"
    ends = "" if found.low != found.low else f" [{short(found.low, signed)}, {short(found.high, signed)}]"
    return short(found.estimate, signed) + ends


def short(value: float, signed: bool = False) -> str:
    """Two decimals without the leading zero: ``.85``, ``1.00``, ``−.03``; `signed`: ``+.03``."""
    digits = f"{abs(value):.2f}"
    sign = "" if digits == "0.00" else "−" if value < 0 else "+" * signed
    return sign + digits.removeprefix("0")


def to_json(reports: Reports, pairs: dict[str, dict[str, Comparison]], command: str) -> str:
    scores = {name: {m: json.loads(r.to_json()) for m, r in found.items()} for name, found in reports.items()}
    differences = {name: {title: asdict(c) for title, c in found.items()} for name, found in pairs.items()}
    content = {"command": command, "reports": scores, "differences": differences}
    text = json.dumps(without_nan(content), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def write(path: Path, text: str) -> None:
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
