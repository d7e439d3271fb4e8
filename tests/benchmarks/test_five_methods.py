"""The five methods' table: its cells are the evaluations' own numbers."""

import sys
from argparse import Namespace

import pytest

from helpers.color_world import ColorWorld, foreground, listener, painter
from helpers.scripts import script_module
from moca_avs.errors import UsageError
from moca_avs_bench.evaluation.report import read_report


@pytest.fixture(scope="module")
def five():
    with script_module("benchmarks/five_methods.py", "five_methods_benchmark") as module:
        yield module
    del sys.modules["hearing_report"]


class Named:
    def __init__(self, name, answer, **settings):
        self.settings = {"method": name, **settings}
        self.answer = answer

    def __call__(self, clip):
        return self.answer(clip)


def cells(text, head):
    """First cell -> other cells, of the table behind a heading."""
    lines = text.split(head, 1)[1].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines[first:]
        if line.startswith("|")
    ]
    return {row[0]: row[1:] for row in rows[:12]}


def test_every_cell_is_what_the_evaluation_says(five, tmp_path):
    methods = {
        "owod-bind": Named("owod-bind", listener, score="rescaled", bind_threshold=0.7),
        "sam-bind": Named("sam-bind", painter, score="literal"),
    }
    world = {"s4": ColorWorld(12, tiers=("A", "B", "C"))}
    reports = five.hearing.evaluated(methods, world, foreground, tmp_path, 0)["s4"]
    text = five.to_markdown(reports, "the command")
    assert "- `owod-bind`: score rescaled, bind_threshold 0.7" in text
    assert "- `sam-bind`: score literal" in text
    for tier in "BAC":
        table = cells(text, f"**Test-{tier}**")
        for name in methods:
            read = read_report([tmp_path / f"s4-{name}.jsonl"])
            for title, row in ((name, "method"), (f"{name}, wrong sound", "wrong_sound")):
                scores = [read.score(metric, row, tier) for metric in five.hearing.COLUMNS]
                assert table[title] == [five.hearing.cell(score) for score in scores]
        assert table["owod-bind"][0].startswith("1.00")
        assert table["audio-blind: every object, perfectly"][1].startswith(".00")
    assert "4 clips, 20 frames" in text
    assert five.to_json(reports, "x") == five.to_json(reports, "x")


def test_without_adapters_moca_is_left_out(five, monkeypatch, capsys):
    loaded = []
    monkeypatch.setattr(five.moca_avs, "load", lambda preset, name, **_: loaded.append(name))
    five.load_methods("imagebind", None, None, None)
    assert loaded == ["frozen", "at-gdino-sam", "owod-bind", "sam-bind"]
    assert "No trained adapters" in capsys.readouterr().out


def test_a_limit_below_one_is_refused(five, monkeypatch, tmp_path):
    monkeypatch.setattr(five, "load_methods", lambda *_: {})
    monkeypatch.setattr(five, "open_evaluation_set", lambda *_: ColorWorld(3))
    arguments = Namespace(
        out=tmp_path, preset="lite", weights=None, methods=None, root="x", split="val", limit=0, seed=0
    )
    with pytest.raises(UsageError, match="--limit"):
        five.run(arguments, "x")
