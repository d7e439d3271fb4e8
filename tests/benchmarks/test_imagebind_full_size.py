"""The full-size benchmark, at tiny size: every stage runs and is reported."""

import json

import pytest
import torch

from helpers.scripts import script_module


@pytest.fixture(scope="module")
def script():
    with script_module("benchmarks/imagebind_full_size.py", "imagebind_full_size") as module:
        yield module


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_every_stage_is_measured(script, tmp_path, capsys, dtype):
    out = tmp_path / "figures.json"
    script.main(["--quick", "--batch", "2", "--steps", "3", "--dtype", dtype, "--out", str(out)])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    written = json.loads(out.read_text())
    assert written.pop("machine")["torch"] == torch.__version__
    assert written == found
    assert (found["dtype"], found["batch"], found["steps"]) == (dtype, 2, 3)
    stages = {"building", "segmenting_first", "segmenting", "states_of_a_batch", "step_first", "step"}
    assert set(found["seconds"]) == stages
    assert all(value > 0 for value in found["seconds"].values())
    peaks = [
        found["peak_gib"][f"after_{stage}"]["process"] for stage in ("building", "segmenting", "training")
    ]
    assert 0 < peaks[0] <= peaks[1] <= peaks[2]
    assert not torch.are_deterministic_algorithms_enabled()


def test_steps_change_the_adapters_and_nothing_else(script):
    encoder = script.ImageBindEncoder.random(script.TINY)
    adapters = script.AdapterSet(encoder, "last", 6)
    frozen = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    before = adapters.weights_hash()
    step = script.training_step(encoder, adapters, script.material(encoder, adapters, 2), 2)
    step()
    assert adapters.weights_hash() != before
    assert all(torch.equal(weight, frozen[name]) for name, weight in encoder.state_dict().items())
