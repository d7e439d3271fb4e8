import json
import math
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers import tiny_training
from helpers.tiny_training import TinyData, TinyEncoder, config
from moca_avs.errors import DataError, MocaError, UsageError
from moca_avs.model.adapter import load_adapters
from moca_avs.training import trainer
from moca_avs.training.config import TrainConfig
from moca_avs.training.objectives import OBJECTIVES
from moca_avs.training.trainer import train


def run(out: Path, resume: bool = False, data: TinyData | None = None, **changes: object) -> Path:
    options = {name: changes.pop(name) for name in ("cache", "cache_limit") if name in changes}
    settings = config(**changes)
    return train(
        TinyEncoder(), TinyData() if data is None else data, settings, out, resume, progress=False, **options
    )  # type: ignore[arg-type]


def weights(folder: Path) -> bytes:
    return (folder / "adapters.safetensors").read_bytes()


def log(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.mark.parametrize("objective", ["triplet", "audio_swap_triplet", "infonce"])
def test_loss_falls(tmp_path, objective: str) -> None:
    lines = log(run(tmp_path / "run", objective=objective, steps=150, margin=2.0, checkpoint_every=150))
    first, last = (np.mean([line["loss"] for line in part]) for part in (lines[:20], lines[-20:]))
    assert last < 0.9 * first


def test_only_the_adapters_change(tmp_path) -> None:
    encoder = TinyEncoder()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    train(encoder, TinyData(), config(margin=2.0), tmp_path / "run", progress=False)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    start = load_file(tmp_path / "run/steps/000005/adapters.safetensors")
    end = load_file(tmp_path / "run/adapters.safetensors")
    assert all(not torch.equal(start[name], end[name]) for name in end)


def test_one_seed_one_result(tmp_path) -> None:
    first, second, other = run(tmp_path / "a"), run(tmp_path / "b"), run(tmp_path / "c", seed=1)
    assert weights(first) == weights(second) != weights(other)
    assert log(first) == log(second) != log(other)
    torch.rand(3)  # nobody's business: the global generator plays no part
    assert weights(run(tmp_path / "d")) == weights(first)


def test_cached_equals_uncached(tmp_path) -> None:
    cached, computed = run(tmp_path / "cached"), run(tmp_path / "computed", cache_limit=0)
    assert weights(cached) == weights(computed)
    assert log(cached) == log(computed)
    half = run(tmp_path / "half", cache_dtype="float16")
    assert weights(half) == weights(run(tmp_path / "half computed", cache_dtype="float16", cache_limit=0))
    assert weights(half) != weights(cached)


def test_a_given_cache_serves_the_next_run(tmp_path) -> None:
    data = TinyData()
    run(tmp_path / "a", data=data, cache=tmp_path / "cache")
    reads = data.reads
    run(tmp_path / "b", data=data, cache=tmp_path / "cache", objective="infonce")
    assert data.reads == reads == len(data)


def test_the_run_folder(tmp_path) -> None:
    out = run(tmp_path / "run", log_every=3)
    steps = {"000005", "000010", "000015", "000020"}
    assert {p.name for p in out.iterdir()} == {
        "adapters.safetensors", "config.json", "log.jsonl", "pairs.safetensors", "steps"
    }  # fmt: skip
    assert {p.name for p in (out / "steps").iterdir()} == steps
    told = json.loads((out / "config.json").read_text())
    assert TrainConfig.from_dict(told["training"]) == config(log_every=3, pairing="encoder")
    assert told["encoder"]["weights"] == TinyEncoder().weights_hash()
    assert weights(out) == weights(out / "steps/000020")
    assert load_adapters(out / "adapters.safetensors", TinyEncoder()).config["count"] == 2
    assert [line["step"] for line in log(out)] == [3, 6, 9, 12, 15, 18, 20]
    line = log(out)[0]
    assert set(line) == {
        "step", "loss", "positive", "negative", "active", "gate_mean", "gate_max", "gradient", "lr"
    }  # fmt: skip


def test_the_log_has_the_loss_with_mismatched_sounds_and_the_run_is_the_same(tmp_path, monkeypatch) -> None:
    plain = run(tmp_path / "plain", steps=9, log_every=2)
    assert not any("mismatched_loss" in line for line in log(plain))
    monkeypatch.setattr(trainer, "MISMATCHED_EVERY", 3)
    measured = run(tmp_path / "measured", steps=9, log_every=2)
    found = [line["step"] for line in log(measured) if "mismatched_loss" in line]
    assert found == [4, 8]
    assert weights(plain) == weights(measured)
    without = [{k: v for k, v in line.items() if k != "mismatched_loss"} for line in log(measured)]
    assert without == log(plain)


def test_the_rate_follows_a_cosine(tmp_path) -> None:
    rates = [line["lr"] for line in log(run(tmp_path / "run"))]
    assert rates == pytest.approx([1e-2 * 0.5 * (1 + math.cos(math.pi * step / 20)) for step in range(20)])


def test_gates_start_at_zero_and_the_first_step_opens_them(tmp_path) -> None:
    line = log(run(tmp_path / "run", margin=5.0, steps=1))[0]
    assert line["gate_max"] == pytest.approx(1e-2, rel=1e-3)  # Adam's first step is the rate itself


OPTIONS = [
    {"aggregation": "pool"},
    {"weighting": "audio"},
    {"feature_space": "trunk"},
    {"share_sites": True},
    {"ncc_form": "literal"},
    {"count": 1},
    {"allow_same_clip": True},
]


@pytest.mark.parametrize("settings", OPTIONS)
def test_every_option_trains(tmp_path, settings) -> None:
    assert all(
        math.isfinite(line["loss"]) for line in log(run(tmp_path / "run", steps=3, margin=2.0, **settings))
    )


def test_pairs_follow_the_rules(tmp_path, monkeypatch) -> None:
    data, seen = TinyData(), []

    def spy(batch):
        seen.append((batch.anchors, batch.positives, batch.negatives))
        return triplet(batch)

    triplet = OBJECTIVES["triplet"]
    monkeypatch.setitem(OBJECTIVES, "triplet", spy)
    run(tmp_path / "run", data=data, steps=40)
    neighbours = load_file(tmp_path / "run/pairs.safetensors")["neighbours"].tolist()
    for anchors, positives, negatives in seen:
        assert len(set(anchors.tolist())) == len(anchors) == 4
        for a, p, n in zip(anchors.tolist(), positives.tolist(), negatives.tolist(), strict=True):
            assert p in neighbours[a]
            assert n not in neighbours[a]
            assert data.clip_id(a) not in {data.clip_id(p), data.clip_id(n)}
    assert {int(a) for anchors, _, _ in seen for a in anchors} == set(range(len(data)))
    assert len({tuple(anchors.tolist()) for anchors, _, _ in seen}) == 40


def start(out: Path, settings: dict[str, object]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, tiny_training.__file__, str(out), json.dumps(settings)])


def logged(out: Path) -> int:
    path = out / "log.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_kill_and_resume_ends_bit_equal(tmp_path, one_thread) -> None:
    settings = {"steps": 90, "checkpoint_every": 7, "margin": 2.0}
    whole, killed = run(tmp_path / "whole", **settings), tmp_path / "killed"
    for after in sorted(random.sample(range(1, 45), 2)):
        process = start(killed, settings)
        while logged(killed) < after and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL, f"the run ended before it was killed at step {after}"
    (killed / "steps" / ".000777.part").mkdir(parents=True)  # what a kill may leave
    with (killed / "log.jsonl").open("a") as file:
        file.write('{"step": 119, "lo')
    run(killed, resume=True, **settings)
    assert weights(killed) == weights(whole)
    assert log(killed) == log(whole)
    assert {p.name for p in (killed / "steps").iterdir()} == {p.name for p in (whole / "steps").iterdir()}


class Interrupting(TinyData):
    """Presses Ctrl-C while the n-th image is read."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def frame(self, index: int) -> np.ndarray:
        image = super().frame(index)
        if self.reads == self.at:
            signal.raise_signal(signal.SIGINT)
        return image


def test_ctrl_c_keeps_the_step_it_was_in(tmp_path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(
            tmp_path / "run", data=Interrupting(at=36 + 30), cache_limit=0
        )  # 36 for the pairs, then steps of 8..12
    assert signal.getsignal(signal.SIGINT) is before
    (kept,) = (tmp_path / "run/steps").iterdir()
    assert len(log(tmp_path / "run")) == int(kept.name) in {3, 4}
    run(tmp_path / "run", resume=True)
    assert weights(tmp_path / "run") == weights(run(tmp_path / "whole"))
    assert log(tmp_path / "run") == log(tmp_path / "whole")


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path, monkeypatch) -> None:
    def breaks(batch):
        loss, stats = triplet(batch)
        calls.append(1)
        return loss * (float("nan") if len(calls) > 9 else 1), stats

    calls: list[int] = []
    triplet = OBJECTIVES["triplet"]
    monkeypatch.setitem(OBJECTIVES, "triplet", breaks)
    with pytest.raises(MocaError, match=r"step 10: .*finite.*lower lr"):
        run(tmp_path / "run", margin=5.0)
    assert [p.name for p in (tmp_path / "run/steps").iterdir()] == ["000005"]
    monkeypatch.setitem(OBJECTIVES, "triplet", triplet)
    run(tmp_path / "run", resume=True, margin=5.0)
    assert weights(tmp_path / "run") == weights(run(tmp_path / "whole", margin=5.0))


def test_a_finished_run_is_left_alone(tmp_path, capsys) -> None:
    out = run(tmp_path / "run")
    changed = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    train(TinyEncoder(), TinyData(), config(), out, resume=True)
    assert "finished" in "".join(capsys.readouterr())
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == changed
    with pytest.raises(UsageError, match=r"finished; resume"):
        run(out)


def test_settings_that_do_not_fit(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"48 px.* 32 px"):
        run(tmp_path / "run", image_size=48)
    with pytest.raises(DataError, match="empty"):
        run(tmp_path / "run", data=TinyData(0))
    with pytest.raises(DataError, match="clips"):
        run(tmp_path / "run", data=TinyData(2), neighbours=1)
    run(tmp_path / "run", image_size=32)  # a run that never made a step may begin anew
