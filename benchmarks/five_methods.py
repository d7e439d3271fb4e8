"""All five methods of a preset on the offline benchmark's single-source split, in one table.

    python benchmarks/five_methods.py --root stamps --out out/five                # the same line goes on
    python benchmarks/five_methods.py --root stamps --out out/five --split val    # the split to choose on
    python benchmarks/five_methods.py --root stamps --out out/try --split val --limit 9    # to try it

Writes OUT/five_methods.md, OUT/five_methods.json, and one JSONL of records per method, from which both are
made; proposals are kept in OUT/cache.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import moca_avs
from moca_avs.data.base import subset
from moca_avs.errors import MocaError
from moca_avs.methods import METHODS
from moca_avs.methods.base import Method
from moca_avs.methods.source import find_source
from moca_avs.proposals import build_proposer
from moca_avs.proposals.base import CachedProposer, Proposer
from moca_avs_bench.data import open_evaluation_set
from moca_avs_bench.evaluation.report import Report, aligned, without_nan
from moca_avs_bench.tables.setup import DiskCachedProposer

HEARING = Path(__file__).resolve().parents[1] / "recipes" / "lite" / "hearing.py"
CONTROL = "wrong_sound"
NULLS = (
    ("audio-blind: salient foreground", "foreground"),
    ("audio-blind: every object, perfectly", "all_objects"),
    ("empty", "empty"),
)
RULES = {
    "moca": ("masks", "refine", "window"),
    "frozen": ("masks", "refine", "window"),
    "at-gdino-sam": ("tag_score", "tag_threshold", "window"),
    "owod-bind": ("score", "bind_threshold", "objectness", "window"),
    "sam-bind": ("score", "bind_threshold", "window"),
}


def load_hearing() -> ModuleType:
    """The recipe whose loop, cells and caches this table shares."""
    if "hearing_report" not in sys.modules:
        spec = importlib.util.spec_from_file_location("hearing_report", HEARING)
        if spec is None or spec.loader is None:
            raise ImportError(f"{HEARING} can't be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return sys.modules["hearing_report"]


hearing = load_hearing()


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", default="stamps", metavar="DIR|stamps", help="the offline benchmark")
    parser.add_argument("--out", type=Path, required=True, help="folder for the table and its records")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--limit", type=int, metavar="N", help="only N clips, to try things out")
    parser.add_argument("--preset", default="lite", help="a preset or a run folder")
    parser.add_argument("--weights", metavar="FOLDER", help="foundation models, for the preset imagebind")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), help="only these")
    parser.add_argument("--seed", type=int, default=0, help="of the wrong-sound draw and the bootstrap")
    arguments = parser.parse_args()
    try:
        run(arguments, f"python benchmarks/five_methods.py {shlex.join(sys.argv[1:])}")
    except MocaError as error:
        print(f"five_methods: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def run(arguments: argparse.Namespace, command: str) -> dict[str, Report]:
    """Evaluate every method and write the table."""
    keep = partial(DiskCachedProposer, folder=arguments.out / "cache")
    methods = load_methods(arguments.preset, arguments.weights, arguments.methods, keep)
    foreground = CachedProposer(build_proposer("saliency", wrap=keep))
    whole = open_evaluation_set("s4", arguments.root, arguments.split)
    part = {"s4": subset(whole, arguments.limit)}
    reports = hearing.evaluated(methods, part, foreground, arguments.out, arguments.seed)["s4"]
    hearing.write(arguments.out / "five_methods.md", to_markdown(reports, command))
    hearing.write(arguments.out / "five_methods.json", to_json(reports, command))
    print(f"table -> {arguments.out / 'five_methods.md'}")
    return reports


def load_methods(
    preset: str, weights: str | None, names: list[str] | None, keep: Callable[[Proposer], Proposer]
) -> dict[str, Method]:
    """The methods by name, their proposers wrapped by `keep`; without `moca` where there are no adapters."""
    chosen = names or list(METHODS)
    if "moca" in chosen and find_source(preset).adapters is None:
        print(hearing.NO_ADAPTERS)
        chosen = [name for name in chosen if name != "moca"]
    return {name: moca_avs.load(preset, name, weights=weights, wrap_proposer=keep) for name in chosen}


def to_markdown(reports: dict[str, Report], command: str) -> str:
    """One table per tier: the methods, the methods under a wrong sound, what is deaf."""
    first = next(iter(reports.values()))
    lines = [
        "# Five methods",
        "",
        f"`stamps`, {first.dataset.upper()}, {first.split} split; protocol {first.protocol}, F from the "
        f"{first.f_from}, seed {first.seed}. Brackets: 95 % bootstrap intervals over source files. "
        f"Command: `{command}`",
        "",
        *rules(reports),
        *hearing.mishaps(reports),
    ]
    for tier in (*hearing.TIERS, "all"):
        lines += tier_table(reports, tier)
    return "\n".join(lines) + "\n"


def rules(reports: dict[str, Report]) -> Iterator[str]:
    """Which thresholds and scores each method ran with."""
    for name, report in reports.items():
        used = {rule: report.settings[rule] for rule in RULES[name] if rule in report.settings}
        yield f"- `{name}`: {', '.join(f'{rule} {value}' for rule, value in used.items())}"


def tier_table(reports: dict[str, Report], tier: str) -> list[str]:
    """One tier's rows under a line that counts what was scored; [] where the split lacks it."""
    first = next(iter(reports.values()))
    if tier not in first.tiers:
        return []
    counts = first.tiers[tier]
    means = f" ({hearing.TIERS[tier]})" if tier in hearing.TIERS else ""
    head = (
        f"**{first.split.capitalize()}-{tier}**{means}: {counts.samples} clips, {counts.frames} frames "
        f"({counts.empty_frames} silent), {counts.clusters} source files"
    )
    rows = [(name, name, "method") for name in reports]
    rows += [(f"{name}, wrong sound", name, CONTROL) for name in reports]
    rows += [(title, next(iter(reports)), null) for title, null in NULLS]
    body = [
        [title, *(hearing.cell(reports[name].tiers[tier].rows[row][m]) for m in hearing.COLUMNS)]
        for title, name, row in rows
        if row in reports[name].tiers[tier].rows
    ]
    return ["", head, "", *aligned([["", *(hearing.LABELS[metric] for metric in hearing.COLUMNS)], *body])]


def to_json(reports: dict[str, Report], command: str) -> str:
    """Every score, with n and intervals."""
    scores = {name: json.loads(report.to_json()) for name, report in reports.items()}
    content = without_nan({"command": command, "reports": scores})
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


if __name__ == "__main__":
    main()
