"""`moca table` end to end on a small world: four outputs, runs found again, stopped and resumed."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from helpers.benchmark_layouts import TableEncoder, build_world, color_proposer
from moca_avs.cli import main
from moca_avs.encoders import ENCODERS
from moca_avs.methods import source as loading
from moca_avs.proposals import PROPOSERS
from moca_avs.training import trainer as loop
from moca_avs_bench.evaluation import evaluate as evaluation
from moca_avs_bench.tables import setup
from moca_avs_bench.tables.paper_tables import load_table
from moca_avs_bench.tables.result import to_markdown, to_terminal
from moca_avs_bench.tables.run import run_table
from moca_avs_bench.tables.spec import INFERENCE, Preset, SaliencyBaseline, Table, TableColumn, TableRow

TINY = setup.BenchmarkSize("quick", 4, clips=2, images=3, frames=40, comparator_batch=2)
STEP_0 = "frozen: step 0 (not in the paper)"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return build_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def table(world, tmp_path, monkeypatch, capsys):
    """Run `moca table` in the small world: table(4, "--figures") -> (code, out, err, json)."""
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(ENCODERS, "lite", lambda image_size=64, dilate=False: TableEncoder(image_size))
    for name in ("saliency", "superpixels"):
        monkeypatch.setitem(PROPOSERS, name, color_proposer)
    monkeypatch.setattr(setup, "QUICK", TINY)
    shipped = tmp_path / "shipped"  # what really ships has another encoder's adapters
    (shipped / "lite").mkdir(parents=True)
    config = {"method": {"proposals": "superpixels"}, "baseline": {"proposals": "superpixels"}}
    (shipped / "lite/config.json").write_text(json.dumps(config))
    monkeypatch.setattr(loading, "_SHIPPED", shipped)

    def run(number, *more, out="out"):
        sources = ("--root", world, "--runs", tmp_path / "runs", "--out", tmp_path / out)
        sources = (*sources, "--image-size", "64", "--jobs", "1")
        code = main([str(part) for part in ("table", number, "--quick", *sources, *more)])
        said = capsys.readouterr()
        file = tmp_path / out / f"table{number:02d}.json"
        return code, said.out, said.err, json.loads(file.read_text()) if file.is_file() else None

    return run


def cells(content, title):
    (row,) = [row for row in content["rows"] if row["title"] == title]
    return row["cells"]


def test_four_outputs_tell_the_same_and_keep_reported_apart(table, tmp_path):
    code, out, err, content = table(4)
    assert code == 0, err
    rows = list(csv.DictReader((tmp_path / "out/table04.csv").read_text().splitlines()))
    markdown = (tmp_path / "out/table04.md").read_text()
    assert "| S4 mIoU, reported | S4 mIoU, measured " in markdown
    assert out.count("reported  measured") == 4
    for row in content["rows"]:
        for cell in row["cells"]:
            (line,) = [
                line
                for line in rows
                if (line["system"], line["dataset"], line["metric"])
                == (row["title"], cell["dataset"], cell["metric"])
            ]
            assert line["state"] == cell["state"] == "measured"
            assert line["reported"] == ("" if cell["reported"] is None else str(cell["reported"]))
            assert float(line["measured"]) == pytest.approx(cell["measured"]["estimate"], abs=1e-6)
            assert f"{cell['measured']['estimate']:.3f}" in markdown
    (line,) = [line for line in out.splitlines() if line.startswith("NCC ")]
    texts = line.split()[1:]
    assert texts[::2] == ["0.65", "0.76", "0.44", "0.59"]
    assert texts[1::2] == [f"{cell['measured']['estimate']:.3f}" for cell in cells(content, "NCC")]


def test_what_is_measured_hears(table):
    """Colors hum: the frozen encoder finds them, and not under a wrong sound."""
    _, _, _, content = table(4)
    for cell in cells(content, STEP_0):
        assert cell["reported"] is None
        assert cell["measured"]["estimate"] > 0.6
        assert cell["wrong_sound"]["estimate"] < cell["measured"]["estimate"] - 0.2 or cell["metric"] == "f"
    runs = {row["title"]: row["run"] for row in content["rows"]}
    assert len({runs["SSD"], runs["NCC"], runs["SSD + NCC"]}) == 3
    assert runs[STEP_0] == ""
    training = {row["title"]: row["training"] for row in content["rows"]}
    assert (training["SSD"]["ncc"], training["NCC"]["ssd"]) == (0.0, 0.0)
    assert training["SSD"]["steps"] == 4


def test_a_second_call_trains_and_evaluates_nothing(table, monkeypatch, tmp_path):
    table(9)
    before = (tmp_path / "out/table09.json").read_bytes()

    def never(*_, **__):
        raise AssertionError("done again")

    monkeypatch.setattr(loop._Trainer, "_advance", never)
    monkeypatch.setattr(evaluation, "_record", never)
    code, _, err, _ = table(9, out="again")
    assert code == 0, err
    assert err.count(" reused") == 3
    assert (tmp_path / "again/table09.json").read_bytes() == before


def test_tables_share_their_runs_and_other_settings_share_none(table):
    _, _, _, nine = table(9)
    _, _, err, five = table(5)
    assert err.count(" reused") == 1  # margin 0.3 with six blocks is the paper's own
    assert err.count(" trained") == 2
    same = {row["run"] for row in nine["rows"]} & {row["run"] for row in five["rows"]} - {""}
    assert len(same) == 1
    _, _, err, _ = table(9, "--seed", "1")
    assert err.count(" trained") == 3


def test_killed_and_resumed_gives_the_same(table, monkeypatch, tmp_path):
    """Stopped in training, then in evaluation; the end is that of a run never stopped."""
    table(10, "--runs", tmp_path / "whole", out="whole")
    steps, records = loop._Trainer._advance, evaluation._record
    left = {"steps": 2, "records": 3}

    def stopping(kind, function):
        def call(*arguments):
            if left[kind] == 0:
                left[kind] = -1
                raise KeyboardInterrupt
            left[kind] -= 1
            return function(*arguments)

        return call

    monkeypatch.setattr(loop._Trainer, "_advance", stopping("steps", steps))
    monkeypatch.setattr(evaluation, "_record", stopping("records", records))
    assert table(10, out="resumed")[0] == 130
    assert table(10, out="resumed")[0] == 130
    assert table(10, out="resumed")[0] == 0
    for suffix in ("json", "csv"):
        whole, resumed = (tmp_path / name / f"table10.{suffix}" for name in ("whole", "resumed"))
        assert whole.read_text() == resumed.read_text()


def test_the_oracle_is_told_and_says_so(table):
    code, _, err, content = table(2)
    assert code == 0, err
    (row,) = [row for row in content["rows"] if row["system"] == "Oracle"]
    assert "ORACLE" in row["title"]
    miou, _ = row["cells"]
    assert miou["measured"]["estimate"] > 0.9  # the proposals hold the truth
    assert miou["wrong_sound"] is None
    best = [r["cells"][0]["measured"]["estimate"] for r in content["rows"]]
    assert max(best) == miou["measured"]["estimate"]


def test_localization_has_both_protocols_and_the_disk(table):
    code, _, err, content = table(8)
    assert code == 0, err
    (row,) = [row for row in content["rows"] if row["title"] == "MoCA"]
    rows = row["evaluations"]["vggsound-single"]["tier"]["rows"]
    assert set(rows) >= {"method", "wrong_sound", "disk", "foreground"}
    assert [cell["protocol"] for cell in row["cells"]] == ["lvs", "lvs", "mask", "mask"]
    assert [cell["reported"] for cell in row["cells"]] == [0.406, 0.435, None, None]
    assert row["cells"][0]["measured"]["estimate"] != row["cells"][2]["measured"]["estimate"]


def test_what_can_not_be_run_says_so(table, tmp_path):
    code, out, err, content = table(7)
    assert code == 0, err
    assert [(cell["state"], cell["measured"]) for cell in cells(content, "MSSL")] == [("not run", None)] * 2
    (line,) = [line for line in out.splitlines() if line.startswith("MSSL")]
    assert line.split("  ")[-1].strip() == "not run"
    assert "MSSL, ms3: not run: no code of ours" in (tmp_path / "out/table07.md").read_text()


def test_a_dataset_that_is_not_there_fails_its_cells_alone(world, table, tmp_path):
    """AVSS is missing; a system that would not run there anyway has not failed."""
    columns = (TableColumn("s4", "miou", "S4"), TableColumn("avss", "class_miou", "AVSS"))
    rows = (
        TableRow("frozen", Preset("frozen", INFERENCE), (0.5, 0.25)),
        TableRow("salient", SaliencyBaseline(), only=("s4",), elsewhere="names no classes"),
        TableRow("gone", Preset("moca")),
    )
    given = setup.RunContext(str(world), size=TINY, runs=tmp_path / "runs", progress=False, image_size=64)
    result = run_table(Table(1, "x", columns, rows), given)
    states = [[cell.state for cell in row.cells] for row in result.rows]
    assert states == [["measured", "failed"], ["measured", "not run"], ["not run", "not run"]]
    assert result.rows[0].cells[1].reported == 0.25
    (failure,) = result.failures
    assert failure.startswith("frozen, avss: no metadata.csv")
    text = to_markdown(result)
    assert "| 0.25" in text
    assert "- gone, s4: not run: no trained adapters ship with lite" in text
    assert to_terminal(result).splitlines()[-3].split()[-2:] == ["0.25", "failed"]


def test_figures_show_every_system_and_training(table, tmp_path):
    code, out, err, _ = table(9, "--figures")
    assert code == 0, err
    grid = np.asarray(Image.open(tmp_path / "out/table09-ms3.png"))
    columns = 2 + len(load_table(9).rows)
    assert grid.shape[1] == columns * (168 + 6) + 6
    assert np.unique(grid.reshape(-1, 3), axis=0).shape[0] > 20
    assert (tmp_path / "out/table09-training.png").is_file()
    assert not (tmp_path / "out/table09-ms3-heat.png").exists()  # MS3 names no class
    assert str(tmp_path / "out/table09-ms3.png") in out


def test_one_sound_is_shown_on_three_images(table, tmp_path):
    assert table(4, "--figures")[0] == 0
    heat = np.asarray(Image.open(tmp_path / "out/table04-s4-heat.png"))
    assert heat.shape[1] == 3 * (224 + 6) + 6


def test_quick_and_full_differ_in_size_alone():
    assert setup.QUICK.steps >= 100
    assert setup.QUICK.clips * 5 >= 64
    assert setup.QUICK.images >= 64
    full = replace(setup.QUICK, name="full", steps=10_000, clips=None, images=None, frames=None)
    assert replace(full, comparator_batch=None) == setup.FULL


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("11",), "1"), (("4", "--preset", "huge"), "preset"), (("4", "--steps", "0"), "--steps must")],
)
def test_wrong_command_lines_end_with_2(capsys, arguments, words):
    assert main(["table", *arguments]) == 2
    said = capsys.readouterr()
    assert words in said.out + said.err


def test_nothing_to_test_on_ends_with_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path / "cache"))
    assert main(["table", "4", "--root", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
