"""A few damaged files of every kind, as `make fuzz` makes 10,000 of; and that it notices what goes wrong."""

import subprocess
import sys

import pytest

from helpers import TESTS

FUZZ = TESTS.parent / "fuzz"


def run(*arguments, cwd):
    command = [sys.executable, str(FUZZ / "run.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_damaged_files_are_read_or_refused(tmp_path):
    done = run("--cases", 150, "--jobs", 1, "--first", 20_000, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert done.stdout.splitlines()[-1].split()[:2] == ["all", "150"]


def test_damage_is_the_same_for_a_seed(monkeypatch):
    import numpy as np

    monkeypatch.syspath_prepend(str(FUZZ))
    from damage import KINDS, damage

    data, other = bytes(range(256)) * 40, b"other" * 100
    for seed in range(40):
        one, two = (damage(data, other, np.random.default_rng(seed)) for _ in range(2))
        assert one == two
    for kind in KINDS.values():
        assert any(kind(data, other, np.random.default_rng(seed)) != data for seed in range(5))
        for short in (b"", b"a"):
            assert isinstance(kind(short, b"", np.random.default_rng(0)), bytes)


WORKER = """
import json, os, sys, time, traceback
for line in sys.stdin:
    record = dict(case=int(line), kind="x", file="", seconds=0, bytes=0, outcome="fault")
    try:
        BODY
    except Exception:
        print(json.dumps(record | dict(why=traceback.format_exc())), flush=True)
"""
BAD = [("raise KeyError(1)", "KeyError"), ("os.abort()", "SIGABRT"), ("time.sleep(60)", "hangs")]


@pytest.mark.parametrize(("body", "words"), BAD)
def test_a_traceback_a_crash_and_a_hang_are_faults(tmp_path, monkeypatch, body, words):
    monkeypatch.syspath_prepend(str(FUZZ))
    import run as harness

    (tmp_path / "run.py").write_text(WORKER.replace("BODY", body))
    monkeypatch.setattr(harness, "HERE", tmp_path)
    monkeypatch.setattr(harness, "STARTING", 0.0)
    outcomes = harness.run_cases([1, 2], tmp_path, 1, [], 1.0)
    assert [one["case"] for one in outcomes] == [1, 2]
    assert all(one["outcome"] == "fault" and words in one["why"] for one in outcomes)
