"""`make bench` over small scripts of every fate, and that every benchmark takes what it passes on."""

import ast
import json
import os
import sys
import time
from pathlib import Path

import pytest

from helpers.scripts import script_module

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = {
    "good": """
        print("| a |"); print("| - |"); print("| 1 |"); print()
        print(json.dumps({"b_over_a": 2.5, "n": len(sys.argv), "detail": {"x": 1}, "ok": True, "at": "it"}))
    """,
    "second": 'print(json.dumps({"b_over_a": 7.0, "quick": int("--quick" in sys.argv)}))',
    "failing": 'print("half a table"); sys.exit(3)',
    "mute": 'print("no figures")',
    "silent": "",
    "list": "print([1])",
    "hanging": """
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path(sys.argv[2]).with_name("child").write_text(str(child.pid))
        print("started", flush=True); time.sleep(60)
    """,
}


@pytest.fixture
def bench(monkeypatch, tmp_path):
    for name, body in SCRIPTS.items():
        lines = "\n".join(line.strip() for line in body.strip().splitlines())
        head = "import json, subprocess, sys, time\nfrom pathlib import Path\n"
        (tmp_path / f"{name}.py").write_text(head + lines)
    with script_module("benchmarks/bench.py", "bench_script") as module:
        monkeypatch.setattr(module, "HERE", tmp_path)
        monkeypatch.setattr(module, "MINUTES", dict.fromkeys(SCRIPTS, 1))
        yield module


def start(bench, monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["bench.py", *map(str, arguments)])
    code = bench.main()
    said = capsys.readouterr()
    return code, json.loads(said.out.splitlines()[-1]), said.err


def test_the_last_line_has_every_single_number(bench, monkeypatch, capsys, tmp_path):
    out = tmp_path / "out"
    code, figures, _ = start(bench, monkeypatch, capsys, "--only", "good", "second", "--out", out, "--quick")
    assert code == 0
    assert figures == {"b_over_a": 2.5, "n": 4, "second.b_over_a": 7.0, "quick": 1}
    page = (out / "RESULTS.md").read_text()
    assert "| 1 |" in page
    assert "--quick" in page
    assert "b_over_a" not in page
    assert start(bench, monkeypatch, capsys, "--only", "second", "--out", out)[1]["quick"] == 0


@pytest.mark.parametrize(
    ("name", "says"),
    [("failing", "exit code 3"), ("mute", "no JSON object"), ("silent", "no JSON object"),
     ("list", "no JSON object")],
)  # fmt: skip
def test_one_failure_is_named_and_the_others_go_on(bench, monkeypatch, capsys, tmp_path, name, says):
    out = tmp_path / "out"
    code, figures, complaint = start(bench, monkeypatch, capsys, "--only", name, "second", "--out", out)
    assert code == 1
    assert figures == {"b_over_a": 7.0, "quick": 0}
    assert name in complaint
    assert says in complaint
    assert says in (out / "RESULTS.md").read_text()


def test_one_that_takes_too_long_is_ended_with_what_it_started(bench, monkeypatch, capsys, tmp_path):
    out = tmp_path / "out"
    arguments = ("--only", "hanging", "--out", out, "--minutes", "0.05")
    code, figures, complaint = start(bench, monkeypatch, capsys, *arguments)
    assert (code, figures) == (1, {})
    assert "longer than 0.05 minutes" in complaint
    assert "started" in (out / "RESULTS.md").read_text()
    child = Path("/proc", (out / "child").read_text(), "stat")
    deadline = time.monotonic() + 10
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        os.sched_yield()


def test_figures_are_written_with_the_machine(bench, tmp_path, capsys):
    measuring = sys.modules["measuring"]
    about = measuring.machine()
    assert about["cores"] >= 1
    assert about["ram_gib"] > 0
    measuring.finish({"x": 1.5}, about, tmp_path / "new" / "x.json")
    assert json.loads(capsys.readouterr().out) == {"x": 1.5}
    assert json.loads((tmp_path / "new" / "x.json").read_text()) == {"machine": about, "x": 1.5}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.json"]


def test_repetitions_take_turns(bench):
    measuring = sys.modules["measuring"]
    seen = []
    found = measuring.in_turn({name: lambda name=name: seen.append(name) for name in "ab"}, 3)
    assert "".join(seen) == "ab" * 4  # one to warm up
    assert found["a"].figures()["n"] == 3
    assert f"{measuring.Timing((0.001, 0.003, 0.002)):1000}" == "2 (1–3)"


def test_every_benchmark_named_is_there():
    tree = ast.parse((BENCHMARKS / "bench.py").read_text())
    names = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "MINUTES"
    )
    assert [name for name in names if not (BENCHMARKS / f"{name}.py").exists()] == []
