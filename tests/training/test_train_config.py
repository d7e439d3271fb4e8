import dataclasses
import json
import subprocess
import sys

import pytest

from moca_avs.errors import UsageError
from moca_avs.training.config import TrainConfig

CHANGED = {
    "objective": "listening",
    "lr": 1e-3,
    "steps": 7,
    "batch": 3,
    "margin": 0.5,
    "window": 5,
    "ssd": 0.5,
    "ncc": 2.0,
    "ncc_form": "literal",
    "max_disparity": 2,
    "weighting": "audio",
    "aggregation": "matching",
    "feature_space": "joint",
    "placement": "interleaved",
    "count": 2,
    "latents": 8,
    "bottleneck": 64,
    "share_sites": True,
    "neighbours": 3,
    "allow_same_clip": True,
    "pairing": "facebook/dinov2-base",
    "neighbour_search": "faiss",
    "seed": 5,
    "image_size": 256,
    "cache_dtype": "float16",
    "checkpoint_every": 9,
    "log_every": 2,
    "deterministic": False,
}


def test_defaults_are_the_papers() -> None:
    config = TrainConfig()
    paper = {"lr": 1e-4, "steps": 10_000, "batch": 8, "margin": 0.3, "placement": "last", "count": 6}
    assert {name: getattr(config, name) for name in paper} == paper
    assert (config.objective, config.window, config.ssd, config.ncc) == ("triplet", 3, 1.0, 1.0)
    assert (config.neighbours, config.allow_same_clip, config.feature_space) == (10, False, "joint")


def test_round_trip(tmp_path) -> None:
    assert set(CHANGED) == {field.name for field in dataclasses.fields(TrainConfig)}
    config = TrainConfig(**CHANGED)
    config.save(tmp_path / "config.json")
    assert TrainConfig.load(tmp_path / "config.json") == config
    assert TrainConfig.from_dict({"lr": 0.5}) == TrainConfig(lr=0.5)


def test_hash_tells_every_field_apart() -> None:
    default = TrainConfig()
    single = [dataclasses.replace(default, **{name: value}) for name, value in CHANGED.items()]
    same = {"aggregation", "feature_space"}  # "audio" weighting above forces their defaults
    assert len({config.hash() for config in [default, *single]}) == 1 + len(CHANGED) - len(same)
    assert TrainConfig().hash() == default.hash()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 1.5),
        ("batch", True),
        ("window", 2),
        ("window", -1),
        ("lr", -1e-4),
        ("lr", float("nan")),
        ("margin", float("inf")),
        ("seed", -1),
        ("image_size", 0),
        ("max_disparity", -1),
        ("objective", "seeing"),
        ("ncc_form", "cost"),
        ("share_sites", 1),
        ("placement", "middle"),
        ("pairing", ""),
        ("neighbour_search", "annoy"),
        ("steps", "many"),
    ],
)
def test_bad_values_are_named(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=field):
        TrainConfig(**{field: value})  # type: ignore[arg-type]


def test_settings_that_make_no_sense_together() -> None:
    with pytest.raises(UsageError, match="both 0"):
        TrainConfig(ssd=0, ncc=0)
    with pytest.raises(UsageError, match="feature_space"):
        TrainConfig(weighting="audio", feature_space="trunk")
    with pytest.raises(UsageError, match="aggregation"):
        TrainConfig(weighting="audio", aggregation="pool")


@pytest.mark.parametrize("text", ["{", "[1]", json.dumps({"learning_rate": 1})])
def test_bad_files(tmp_path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        TrainConfig.load(path)
    with pytest.raises(UsageError, match=r"missing\.json"):
        TrainConfig.load(tmp_path / "missing.json")


def test_importing_the_config_does_not_import_torch() -> None:
    code = "import sys, moca_avs.training; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("old", "new"), [("paper", "triplet"), ("mismatched", "audio_swap_triplet"), ("listening", "infonce")]
)
def test_files_keep_the_old_names_of_objectives(old: str, new: str) -> None:
    config = TrainConfig(objective=old)
    assert config.objective == new
    assert config == TrainConfig(objective=new)
    assert config.to_dict()["objective"] == old
    assert TrainConfig.from_dict({"objective": old}) == config
