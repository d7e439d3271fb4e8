"""Options of speed: what they may change, what they may not, and what a run folder remembers of them."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers.tiny_training import TinyData, TinyEncoder, config
from moca_avs.errors import UsageError
from moca_avs.training import precision as arithmetic
from moca_avs.training.config import RuntimeConfig
from moca_avs.training.precision import check_compiler
from moca_avs.training.trainer import train


def run(out: Path, resume: bool = False, steps: int = 10, **speed: object) -> Path:
    settings = config(steps=steps, margin=2.0)
    return train(
        TinyEncoder(), TinyData(), settings, out, resume, progress=False, speed=RuntimeConfig(**speed)
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapters.safetensors")


def log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("plain") / "run")


def unfinished(whole: Path, out: Path) -> Path:
    """The run as if it had been killed after step 5."""
    shutil.copytree(whole, out)
    (out / "adapters.safetensors").unlink()
    shutil.rmtree(out / "steps/000010")
    return out


def test_on_a_cpu_the_default_is_float32_bit_for_bit(plain, tmp_path) -> None:
    named = run(tmp_path / "named", precision="float32")
    assert (named / "adapters.safetensors").read_bytes() == (plain / "adapters.safetensors").read_bytes()
    assert json.loads((plain / "config.json").read_text())["arithmetic"] == {"precision": "float32"}


def test_checkpointed_activations_change_no_bit(plain, tmp_path) -> None:
    out = run(tmp_path / "run", checkpoint_activations=True)
    assert (out / "adapters.safetensors").read_bytes() == (plain / "adapters.safetensors").read_bytes()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_and_resumes_bit_for_bit(plain, tmp_path, precision: str) -> None:
    out = run(tmp_path / "run", precision=precision)
    found, expected = log(out)[0], log(plain)[0]
    assert found["loss"] == pytest.approx(expected["loss"], rel=0.05)
    assert found["loss"] != expected["loss"]
    assert found["gradient"] == pytest.approx(expected["gradient"], rel=0.2)
    assert {value.dtype for value in weights(out).values()} == {torch.float32}
    again = unfinished(out, tmp_path / "again")
    run(again, resume=True, precision=precision)
    assert (again / "adapters.safetensors").read_bytes() == (out / "adapters.safetensors").read_bytes()


def test_a_float16_step_that_overflows_is_left_out(tmp_path, monkeypatch) -> None:
    def large(self):
        return torch.amp.GradScaler("cpu", init_scale=2.0**126, growth_interval=10**6)

    monkeypatch.setattr(arithmetic.Precision, "scaler", large)
    lines = log(run(tmp_path / "run", precision="float16", steps=5))
    assert lines[0]["gradient"] is None
    assert lines[0]["gate_max"] == 0  # nothing was learnt from it
    assert all(math.isfinite(line["loss"]) for line in lines)


def test_float64_keeps_the_encoder_as_it_was(tmp_path) -> None:
    encoder = TinyEncoder()
    out = train(
        encoder, TinyData(), config(steps=2), tmp_path / "run", progress=False, speed=RuntimeConfig("float64")
    )
    assert {value.dtype for value in encoder.state_dict().values()} == {torch.float32}
    assert all(torch.equal(value, TinyEncoder().state_dict()[n]) for n, value in encoder.state_dict().items())
    assert {value.dtype for value in weights(out).values()} == {torch.float64}


def test_a_run_goes_on_in_its_own_arithmetic_only(plain, tmp_path) -> None:
    out = unfinished(plain, tmp_path / "run")
    with pytest.raises(UsageError, match="precision = 'float32' there, 'bfloat16' here"):
        run(out, resume=True, precision="bfloat16")


def test_a_run_from_before_there_was_a_choice_goes_on(plain, tmp_path) -> None:
    out = unfinished(plain, tmp_path / "run")
    told = json.loads((out / "config.json").read_text())
    del told["arithmetic"]
    (out / "config.json").write_text(json.dumps(told))
    run(out, resume=True)
    assert (out / "adapters.safetensors").read_bytes() == (plain / "adapters.safetensors").read_bytes()


COMPILED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_precision import run
run(Path(sys.argv[1]), steps=2, compile=True)
"""


@pytest.mark.long
def test_compiled_steps_are_the_same_up_to_rounding(tmp_path) -> None:
    try:
        check_compiler()
    except UsageError as error:  # a machine without one: nothing else may happen
        with pytest.raises(UsageError, match=re.escape(str(error))):
            run(tmp_path / "run", compile=True)
        return
    # In a process of its own: torch's compiler warns of its own inner workings, and here warnings are errors.
    context = Path(__file__).parent
    # Nor in the machine's cache of compiled code, where a killed process may have left half a file.
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled")}
    command = [sys.executable, "-c", COMPILED, tmp_path / "run", context, context.parent]
    subprocess.run(command, check=True, env=environment)
    found, expected = log(tmp_path / "run"), log(run(tmp_path / "plain", steps=2))
    for name in ("loss", "gradient", "gate_max"):
        assert [line[name] for line in found] == pytest.approx([line[name] for line in expected], rel=1e-4)


def test_without_a_compiler_it_says_so(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(arithmetic.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match=r"C\+\+ compiler"):
        run(tmp_path / "run", compile=True)
    monkeypatch.undo()
    monkeypatch.setattr(arithmetic.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setattr(arithmetic.shutil, "which", lambda name: "/usr/bin/g++")
    with pytest.raises(UsageError, match=r"Python\.h"):
        check_compiler()
