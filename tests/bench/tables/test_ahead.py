"""Several processes at one table: the same numbers, and every core at work."""

import pytest
import torch

from helpers.benchmark_layouts import build_world
from moca_avs_bench.tables.result import to_json
from moca_avs_bench.tables.run import _turned, run_table, sensible_jobs
from moca_avs_bench.tables.setup import BenchmarkSize, RunContext
from moca_avs_bench.tables.spec import Preset, Table, TableRow, masks_on


@pytest.fixture
def one_thread(monkeypatch):
    """Here and in the processes started from here: another number of threads adds in another order."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.weights
def test_two_processes_say_what_one_says(tmp_path, one_thread):
    world = build_world(tmp_path / "world", train=4, test=2)
    rows = [
        TableRow(f"{share}", Preset("frozen", {"image_size": 64, "heat_share": share}))
        for share in (0.1, 0.2, 0.3)
    ]
    table = Table(1, "x", masks_on("ms3"), tuple(rows))
    said = []
    for jobs in (1, 2):
        setup = RunContext(
            str(world),
            size=BenchmarkSize("tiny", 1),
            runs=tmp_path / f"runs{jobs}",
            progress=False,
            image_size=64,
        )
        said.append(to_json(run_table(table, setup, jobs=jobs)))
        assert len(list((setup.folder / "cells").glob("*.jsonl"))) == 3
    assert said[0] == said[1]


def test_processes_start_at_different_ends():
    rows = tuple("abcdef")
    turned = ["".join(_turned(rows, index, 3)) for index in (1, 2)]
    assert turned == ["fedcba", "dcbaef"]
    assert all(sorted(order) == list(rows) for order in turned)


def test_one_process_where_memory_is_dear():
    assert sensible_jobs("imagebind", "cpu") == sensible_jobs("lite", "cuda") == 1
