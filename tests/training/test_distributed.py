"""Two processes under torchrun are one process, whatever their parts of the batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers import parallel_run
from helpers.tiny_training import TinyData, TinyEncoder, config
from moca_avs.errors import UsageError
from moca_avs.training.config import RuntimeConfig
from moca_avs.training.distributed import DistributedContext
from moca_avs.training.trainer import check_processes, train

SETTINGS = {"batch": 5, "margin": 2.0}  # 2 anchors here, 3 there
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def start(out: Path, **options: object) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, *TWO, parallel_run.__file__, str(out), json.dumps(SETTINGS)]
    return subprocess.run(
        [*command, json.dumps(options)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )


def farthest(run: Path, other: Path) -> float:
    found, expected = (load_file(folder / "adapters.safetensors") for folder in (run, other))
    assert found.keys() == expected.keys()
    assert {value.dtype for value in found.values()} == {torch.float64}
    return max(float((found[name] - expected[name]).abs().max()) for name in expected)


def log(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """What one process with one thread makes of it: this one."""
    out, speed = tmp_path_factory.mktemp("alone") / "run", RuntimeConfig("float64")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(TinyEncoder(), TinyData(), config(**SETTINGS), out, progress=False, speed=speed)
    torch.set_num_threads(threads)
    return out


def test_two_processes_equal_one(alone, tmp_path) -> None:
    done = start(tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert farthest(tmp_path / "two", alone) < 1e-6
    assert load_file(tmp_path / "two/pairs.safetensors")["neighbours"].tolist() == (
        load_file(alone / "pairs.safetensors")["neighbours"].tolist()
    )
    for line, expected in zip(log(tmp_path / "two"), log(alone), strict=True):
        assert line == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert not (tmp_path / "two/cache").exists()


def test_a_plain_average_over_processes_would_not(alone, tmp_path) -> None:
    assert start(tmp_path / "two", unweighted=True).returncode == 0
    assert farthest(tmp_path / "two", alone) > 1e-4


def test_a_killed_process_ends_all_and_the_run_goes_on_later(alone, tmp_path) -> None:
    out = tmp_path / "two"
    killed = start(out, cache_limit=0, killed_at=18 + 80)  # 18 for its part of the pairs, then 7..9 a step
    assert killed.returncode != 0
    assert not (out / "adapters.safetensors").exists()
    assert any((out / "steps").iterdir())
    resumed = start(out, resume=True)
    assert resumed.returncode == 0, resumed.stderr
    assert farthest(out, alone) < 1e-6
    assert [line["step"] for line in log(out)] == list(range(1, 21))


def test_what_several_processes_can_not_share() -> None:
    two = DistributedContext(rank=1, size=2)
    with pytest.raises(UsageError, match="infonce"):
        check_processes(two, config(objective="infonce"), TinyData())
    with pytest.raises(UsageError, match="batch is 1"):
        check_processes(two, config(batch=1), TinyData())
    check_processes(DistributedContext(), config(objective="infonce", batch=1), TinyData())
    check_processes(two, config(batch=2), TinyData())


@pytest.mark.parametrize(("rows", "size"), [(7, 3), (6, 3), (2, 2), (9, 4)])
def test_parts_are_whole_ordered_and_even(rows: int, size: int) -> None:
    parts = [DistributedContext(rank, size).shard(rows) for rank in range(size)]
    assert [row for part in parts for row in part] == list(range(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
