import json
import os

import pytest

from helpers.tiny_pretrained import write_tiny_dino, write_tiny_weights
from moca_avs.cli.models import all_models, check_model, describe, fetch, find_model
from moca_avs.errors import UsageError, WeightsError
from moca_avs.hub.cache import file_sha256
from moca_avs.hub.catalog import ASSETS, PRESETS, PRETRAINED_MODELS, SHIPPED, ShippedFile
from moca_avs.hub.huggingface import ModelSources


def test_every_entry_is_complete_and_pinned():
    for name, asset in ASSETS.items():
        assert asset.name == name
        assert all(len(h) == 64 for h in (asset.archive_sha256, asset.member_sha256))
        assert asset.archive_bytes > 1e6
        assert asset.license
    assert all(part in ASSETS for parts in PRESETS.values() for part in parts)
    assert set(all_models()) == {*ASSETS, *SHIPPED, *PRETRAINED_MODELS}


def test_a_preset_names_its_parts():
    assert [item.name for item in find_model("lite")] == list(PRESETS["lite"])
    assert [item.name for item in find_model("u2netp")] == ["u2netp"]
    with pytest.raises(UsageError, match="no model 'sma'; choose one of lite, lite-soundnet, eff"):
        find_model("sma")
    with pytest.raises(UsageError):
        find_model("lite", presets=False)


def test_descriptions_are_json_and_need_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path))
    described = [describe(item) for item in all_models().values()]
    assert json.loads(json.dumps(described)) == described
    assert {d["state"] for d in described[: len(ASSETS)]} == {"not fetched"}


def test_a_shipped_file_that_is_gone_is_wrong(tmp_path):
    item = ShippedFile("gone", "Gone", "test", tmp_path / "gone.safetensors", "CC0-1.0", "a test")
    assert describe(item)["state"] == "missing"
    assert check_model(item)[0] is False
    with pytest.raises(WeightsError, match="install moca-avs again"):
        fetch(item)
    item.path.write_bytes(b"abc")
    assert describe(item)["state"] == "ships"
    assert check_model(item) == (
        True,
        "ships, SHA-256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    )
    assert fetch(item) == item.path


def test_a_foundation_model_in_a_folder_is_described_fetched_and_judged(tmp_path):
    folder, item = write_tiny_dino(tmp_path / "dino"), PRETRAINED_MODELS["dino"]
    sources = ModelSources(tmp_path)
    described = describe(item, sources)
    file = folder / "model.safetensors"
    assert (described["state"], described["path"], described["source"]) == ("here", str(folder), str(folder))
    assert described["bytes"] == file.stat().st_size
    assert described["sha256"] == {"model.safetensors": file_sha256(file)}
    assert "next_step" not in described
    assert fetch(item, sources) == folder
    assert check_model(item, sources)[0]
    assert file_sha256(file) in check_model(item, sources)[1]


def test_a_foundation_model_that_lacks_a_file_or_is_cut_short_is_wrong(tmp_path):
    folder, item = write_tiny_dino(tmp_path / "dino"), PRETRAINED_MODELS["dino"]
    sources = ModelSources(tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1])
    assert check_model(item, sources)[0] is False
    assert "is cut short or no weight file" in check_model(item, sources)[1]
    (folder / "model.safetensors").write_bytes(whole)
    (folder / "preprocessor_config.json").unlink()
    described = describe(item, sources)
    assert described["state"] == "incomplete"
    assert "hf download facebook/dino-vits16" in described["next_step"]
    assert check_model(item, sources) == (
        False,
        f"{folder} lacks preprocessor_config.json; {described['next_step']}",
    )
    with pytest.raises(WeightsError, match=r"lacks preprocessor_config\.json"):
        fetch(item, sources)


def test_imagebinds_sizes_need_no_weights(tmp_path):
    described = describe(PRETRAINED_MODELS["imagebind"], ModelSources(models={"imagebind": str(tmp_path)}))
    assert described["adapter_parameters"] == {"P": 1_330_956, "Q": 1_304_838}
    assert (described["image_blocks"], described["audio_blocks"]) == (32, 12)
    assert described["adapter_pairs"]["last"]["6"][-1] == [31, 11]
    assert json.loads(json.dumps(described)) == described
    assert "adapter_pairs" not in describe(PRETRAINED_MODELS["imagebind"], details=False)


def test_every_tiny_model_is_whole(tmp_path):
    sources = ModelSources(write_tiny_weights(tmp_path))
    names = sorted(entry.name for entry in os.scandir(tmp_path))
    assert [describe(PRETRAINED_MODELS[name], sources)["state"] for name in names] == ["here"] * len(names)
    assert all(check_model(PRETRAINED_MODELS[name], sources)[0] for name in names)
