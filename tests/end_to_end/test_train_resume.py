"""`moca train --out run --resume` alone goes on as if nothing had happened; a run may be made longer."""

import json
import shutil

import pytest

from helpers.media_files import training_videos

pytestmark = pytest.mark.weights

SMALL = ("--batch", "2", "--neighbours", "1", "--lr", "1e-3", "--allow-same-clip", "--checkpoint-every", "1")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return training_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def whole(videos, tmp_path_factory):
    """Three steps in one go, begun in the folder that the videos lie in."""
    from moca_avs.cli import main

    run = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as here:
        here.chdir(videos.parent)
        given = ("train", "--data", videos.name, "--out", str(run), *SMALL, "--steps", "3", "--device", "cpu")
        assert main(given) == 0
    return run


@pytest.fixture
def stopped(whole, tmp_path):
    """The same, as if it had been killed after the second step."""
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "adapters.safetensors").unlink()
    shutil.rmtree(run / "steps" / "000003")
    return run


def adapters(run):
    return (run / "adapters.safetensors").read_bytes()


def test_resume_alone_ends_bit_equal(moca, whole, stopped):
    ended = moca("train", "--out", stopped, "--resume", "--device", "cpu")
    assert ended.code == 0, ended.err
    assert adapters(stopped) == adapters(whole)
    assert (stopped / "config.json").read_text() == (whole / "config.json").read_text()


def test_flags_that_agree_or_change_no_step_are_taken(moca, whole, stopped, tmp_path):
    others = (
        "--checkpoint-every",
        "500",
        "--log-every",
        "2",
        "--cache",
        tmp_path / "c",
        "--cache-limit",
        "0",
    )
    given = ("--lr", ".001", "--allow-same-clip", "--preset", "lite", "--steps", "3", *others)
    ended = moca("train", "--out", stopped, "--resume", "--device", "cpu", *given)
    assert ended.code == 0, ended.err
    assert adapters(stopped) == adapters(whole)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--lr", "2e-3"), "--lr 0.002 (0.001 there)"),
        (("--steps", "2", "--seed", "4"), "--steps 2 (3 there), --seed 4 (0 there)"),
        (("--steps", "2"), "can be made longer, not shorter"),
        (("--no-deterministic",), "--deterministic False (True there)"),
        (("--objective", "infonce"), "--objective listening (paper there)"),
        (("--preset", "imagebind"), "--preset imagebind (lite there)"),
        (("--precision", "bfloat16"), "--precision bfloat16 (float32 there)"),
    ],
)
def test_flags_that_do_not_agree_are_refused_by_name(moca, stopped, given, said):
    before = sorted(path.name for path in stopped.rglob("*"))
    ended = moca("train", "--out", stopped, "--resume", *given)
    assert ended.code == 2
    assert said in ended.err
    assert sorted(path.name for path in stopped.rglob("*")) == before


def test_a_finished_run_can_be_made_longer(moca, whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    ended = moca("train", "--out", run, "--resume", "--steps", "5", "--device", "cpu")
    assert ended.code == 0, ended.err
    assert "3 steps become 5: what is still to do follows the longer run's learning rate" in ended.err
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2, 3, 4, 5]
    assert log[3]["lr"] == pytest.approx(1e-3 * 0.3454915, rel=1e-5)  # (1 + cos(3/5 pi)) / 2
    config = json.loads((run / "config.json").read_text())
    assert (config["training"]["steps"], config["extended"]) == (5, [3])
    assert adapters(run) == (run / "steps/000005/adapters.safetensors").read_bytes() != adapters(whole)
    assert moca("train", "--out", run, "--resume", "--device", "cpu").code == 0
    assert json.loads((run / "config.json").read_text()) == config


def test_other_data_and_a_run_that_does_not_say_its_data(moca, stopped, videos, tmp_path):
    other = shutil.copytree(videos, tmp_path / "other")
    (other / "3.mp4").unlink()
    ended = moca("train", "--out", stopped, "--resume", "--data", other, "--device", "cpu")
    assert ended.code == 2
    assert "data settings (fingerprint" in ended.err
    config = json.loads((stopped / "config.json").read_text())
    del config["command"]
    (stopped / "config.json").write_text(json.dumps(config))
    ended = moca("train", "--out", stopped, "--resume", "--device", "cpu")
    assert ended.code == 2
    assert "--data is needed" in ended.err
    assert moca("train", "--out", stopped, "--resume", "--data", videos, "--device", "cpu").code == 0


def test_a_config_that_is_no_runs(moca, stopped):
    (stopped / "config.json").write_text('{"training": {"lr": "much"}}')
    ended = moca("train", "--out", stopped, "--resume")
    assert ended.code == 2
    assert "is not the config of a training run" in ended.err
