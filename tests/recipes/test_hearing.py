"""The hearing report: its numbers, its marks in the README, proposals that are searched once."""

import json

import pytest

from helpers.color_world import AdaptedListener, ColorWorld, foreground, listener
from helpers.scripts import script_module
from moca_avs_bench.evaluation.compare import compare
from moca_avs_bench.evaluation.report import read_report
from moca_avs_bench.metrics.bootstrap import Interval


@pytest.fixture(scope="module")
def hearing():
    with script_module("recipes/lite/hearing.py", "hearing_recipe") as module:
        yield module


class Frozen:
    def __init__(self):
        self.settings = {"method": "frozen", "encoder": {"weights": "e" * 64}, "adapters": None}

    def __call__(self, clip):
        return listener(clip)


class Adapted(AdaptedListener):
    def __init__(self):
        self.settings = {
            "method": "moca",
            "encoder": {"weights": "e" * 64},
            "adapters": {"weights": "a" * 64},
        }


def table_of(text, head):
    """Rows of the first table after a line that begins with `head`: first cell -> other cells."""
    lines = text.split(head, 1)[1].splitlines()[1:]
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return {row[0]: row[1:] for row in rows if set(row[0]) != {"-"}}


def test_every_row_of_every_tier_says_what_the_evaluations_say(hearing, tmp_path):
    sets = {"s4": ColorWorld(12, tiers=("A", "B", "C")), "ms3": ColorWorld(4)}
    methods = {"frozen": Frozen(), "moca": Adapted()}
    reports = hearing.evaluated(methods, sets, foreground, tmp_path, seed=0)
    pairs = hearing.compared(reports, tmp_path)
    text = hearing.to_markdown(reports, pairs, "the command")
    for name, title, tiers in (("s4", "S4", "BAC"), ("ms3", "MS3", "BA")):
        read = {method: read_report([tmp_path / f"{name}-{method}.jsonl"]) for method in methods}
        for tier in tiers:
            table = table_of(text, f"**{title}, Test-{tier}**")
            for row, method, key in hearing.ROWS:
                scores = [read[method].score(metric, key, tier) for metric in hearing.COLUMNS]
                assert table[row] == [hearing.cell(score) for score in scores]
    listening = table_of(text, "### moca − moca with the wrong sound in the adapters")
    files = [tmp_path / "s4-moca.jsonl"] * 2
    expected = compare(*files, "method", "wrong_adapters").tiers["B"]["object_accuracy"]
    assert listening["B"][0] == hearing.cell(expected, signed=True)
    assert expected.estimate > 0  # this world's adapters do listen
    assert "a" * 16 in text
    assert "the command" in text
    assert "No trained adapters" not in text
    content = json.loads(hearing.to_json(reports, pairs, "the command"))
    assert content["reports"]["s4"]["moca"]["tiers"]["B"]["samples"] == 4


def test_a_second_run_goes_on_where_the_first_stopped(hearing, tmp_path, capsys):
    world = ColorWorld(5)

    def run():
        found = hearing.evaluated({"frozen": Frozen()}, {"s4": world}, foreground, tmp_path, seed=0)
        return found["s4"]["frozen"].to_json()

    once = run()
    file = tmp_path / "s4-frozen.jsonl"
    file.write_bytes(file.read_bytes()[:-30])  # a kill in the middle of the last line
    world.loaded.clear()
    capsys.readouterr()
    assert run() == once
    assert "1 of 5 clips to do" in capsys.readouterr().out
    assert "clip0000" not in world.loaded[:1]


def test_without_adapters_the_report_says_so(hearing, tmp_path):
    reports = hearing.evaluated({"frozen": Frozen()}, {"s4": ColorWorld(4)}, foreground, tmp_path, seed=0)
    pairs = hearing.compared(reports, tmp_path)
    assert pairs == {"s4": {}}
    text = hearing.to_markdown(reports, pairs, "x")
    assert hearing.NO_ADAPTERS in text
    assert "| moca" not in text


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (0.854, False, ".85"),
        (1.0, False, "1.00"),
        (0.0, False, ".00"),
        (-0.034, False, "−.03"),
        (0.034, True, "+.03"),
        (-0.034, True, "−.03"),
        (0.001, True, ".00"),
        (-0.001, True, ".00"),
        (-1.25, True, "−1.25"),
    ],
)
def test_two_decimals_without_a_leading_zero(hearing, value, signed, text):
    assert hearing.short(value, signed) == text


def test_cells_leave_out_what_is_undefined(hearing):
    nan = float("nan")
    assert hearing.cell(Interval(0.85, 0.78, 0.912, 9, 4)) == ".85 [.78, .91]"
    assert hearing.cell(Interval(0.5, nan, nan, 3, 1)) == ".50"
    assert hearing.cell(Interval(nan, nan, nan, 0, 0)) == "–"


def test_the_log_holds_the_numbers_of_the_evaluations(hearing, tmp_path):
    """Unrounded in the log, and the table that is made from it says what the report says."""
    sets, methods = {"s4": ColorWorld(12, tiers=("A", "B", "C"))}, {"frozen": Frozen(), "moca": Adapted()}
    reports = hearing.evaluated(methods, sets, foreground, tmp_path, seed=0)
    log = json.loads(json.dumps(hearing.to_log(reports, "the command"), allow_nan=False))
    assert [table["head"][:14] for table in log["tables"]] == ["**S4, Test-B**", "**S4, Test-A**"]
    row = next(row for row in log["tables"][0]["rows"] if row["key"] == "moca.wrong_adapters")
    read = read_report([tmp_path / "s4-moca.jsonl"]).score("miou_sounding", "wrong_adapters", "B")
    assert row["scores"]["miou_sounding"] == [read.estimate, read.low, read.high]
    with script_module("tools/readme_tables.py", "readme_tables") as tables:
        text = tables.markdown(log)
    report = hearing.to_markdown(reports, {"s4": {}}, "the command")
    for tier in "BA":
        assert table_of(text, f"**S4, Test-{tier}**") == table_of(report, f"**S4, Test-{tier}**")
    assert "the command" in text
