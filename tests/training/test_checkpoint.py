import json
import pickle
import resource
import shutil
from pathlib import Path

import pytest
import torch

from helpers.tiny_training import TinyData, TinyEncoder, config
from moca_avs.errors import MocaError, UsageError, WeightsError
from moca_avs.training.checkpoint import latest_checkpoint
from moca_avs.training.trainer import train


def run(out: Path, resume: bool = False, encoder: TinyEncoder | None = None, **changes: object) -> Path:
    return train(encoder or TinyEncoder(), TinyData(), config(**changes), out, resume, progress=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def unfinished(finished, tmp_path) -> Path:
    """The run as if it had been killed after step 13."""
    out = shutil.copytree(finished, tmp_path / "run")
    (out / "adapters.safetensors").unlink()
    for step in ("000015", "000020"):
        shutil.rmtree(out / "steps" / step)
    lines = (out / "log.jsonl").read_text().splitlines(keepends=True)
    (out / "log.jsonl").write_text("".join(lines[:13]))
    return out


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 64
    path.write_bytes(content)


class Malicious:
    def __reduce__(self):
        return (open, ("/tmp/moca-avs-was-here", "w"))


def carry_code(path: Path) -> None:
    path.write_bytes(pickle.dumps(Malicious(), protocol=2))


def other_step(path: Path) -> None:
    torch.save(torch.load(path, weights_only=True) | {"step": 9}, path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("adapters.safetensors", cut),
        ("adapters.safetensors", flip),
        ("adapters.safetensors", Path.unlink),
        ("state.pt", cut),
        ("state.pt", flip),
        ("state.pt", Path.unlink),
        ("state.pt", carry_code),
        ("state.pt", other_step),
        ("state.pt", lambda path: torch.save([1], path)),
        ("state.pt", lambda path: path.write_bytes(b"")),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(finished, unfinished, name, damage) -> None:
    last = unfinished / "steps/000010"
    damage(last / name)
    with pytest.raises(WeightsError, match=r"steps/000010 is damaged.*delete that folder"):
        run(unfinished, resume=True)
    assert not Path("/tmp/moca-avs-was-here").exists()
    shutil.rmtree(last)
    run(unfinished, resume=True)
    assert (unfinished / "adapters.safetensors").read_bytes() == (
        finished / "adapters.safetensors"
    ).read_bytes()


def test_a_run_killed_before_its_last_file_is_completed(finished, unfinished) -> None:
    shutil.copytree(finished / "steps/000020", unfinished / "steps/000020")
    run(unfinished, resume=True)
    assert (unfinished / "adapters.safetensors").read_bytes() == (
        finished / "adapters.safetensors"
    ).read_bytes()


def test_other_settings_are_refused_by_name(unfinished) -> None:
    with pytest.raises(UsageError, match=r"training settings \(lr = 0\.01 there, 0\.5 here\)"):
        run(unfinished, resume=True, lr=0.5)
    with pytest.raises(UsageError, match="encoder settings"):
        run(unfinished, resume=True, encoder=TinyEncoder(seed=1))
    with pytest.raises(UsageError, match="data settings"):
        train(TinyEncoder(), TinyData(seed=1), config(), unfinished, resume=True, progress=False)
    with pytest.raises(UsageError, match=r"unfinished; resume"):
        run(unfinished)


def test_settings_that_change_no_step_may_differ(unfinished, finished) -> None:
    run(unfinished, resume=True, checkpoint_every=7, log_every=3)
    assert (unfinished / "adapters.safetensors").read_bytes() == (
        finished / "adapters.safetensors"
    ).read_bytes()
    assert (unfinished / "config.json").read_bytes() == (finished / "config.json").read_bytes()


def test_a_run_is_made_longer_but_not_shorter(unfinished, finished, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"steps = 20 there, 19 here"):
        run(unfinished, resume=True, steps=19)
    for steps in (22, 25):  # the second of a finished run
        run(unfinished, resume=True, steps=steps)
        assert latest_checkpoint(unfinished).name == f"{steps:06d}"
    told = json.loads((unfinished / "config.json").read_text())
    assert (told["training"]["steps"], told["extended"]) == (25, [20, 22])
    lines = (unfinished / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 26))


def test_a_run_killed_while_it_was_made_longer_is_not_taken_for_finished(
    finished, tmp_path, monkeypatch
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")

    def kill(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", kill)
        with pytest.raises(KeyboardInterrupt):
            run(out, resume=True, steps=22)
    assert not (out / "adapters.safetensors").exists()
    run(out, resume=True)  # the shorter run, completed again
    assert (out / "adapters.safetensors").read_bytes() == (finished / "adapters.safetensors").read_bytes()


def test_a_config_that_is_none_of_ours(unfinished) -> None:
    (unfinished / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"config\.json is not the config"):
        run(unfinished, resume=True)


def test_places_that_are_no_run(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds no run"):
        run(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        run(tmp_path / "notes.txt")
    with pytest.raises(MocaError, match="could not write"):
        run(tmp_path / "notes.txt" / "run")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_resuming_nothing_starts(tmp_path, finished) -> None:
    out = run(tmp_path / "run", resume=True)
    assert (out / "adapters.safetensors").read_bytes() == (finished / "adapters.safetensors").read_bytes()


def test_a_full_disk_leaves_whole_checkpoints(unfinished, finished) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))
    try:
        with pytest.raises(MocaError, match=r"could not write .*000015.*then resume"):
            run(unfinished, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert latest_checkpoint(unfinished) == unfinished / "steps/000010"
    run(unfinished, resume=True)
    assert (unfinished / "adapters.safetensors").read_bytes() == (
        finished / "adapters.safetensors"
    ).read_bytes()


def test_latest_checkpoint(unfinished, tmp_path) -> None:
    (unfinished / "steps/.000050.part").mkdir()
    assert latest_checkpoint(unfinished) == unfinished / "steps/000010"
    assert latest_checkpoint(tmp_path / "nowhere") is None
