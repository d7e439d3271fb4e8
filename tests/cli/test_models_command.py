import json

import pytest

from helpers.tiny_pretrained import write_tiny_dino
from moca_avs.cli import main
from moca_avs.hub.catalog import ASSETS, PRESETS, PRETRAINED_MODELS, SHIPPED


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path))
    return tmp_path


def run(capsys, *arguments):
    code = main(["models", *arguments])
    return code, capsys.readouterr()


def test_list_names_everything_with_state_size_and_license(capsys, cache):
    code, said = run(capsys, "list", "--json")
    found = {item["name"]: item for item in json.loads(said.out)}
    assert code == 0
    assert set(found) == {*ASSETS, *SHIPPED, *PRETRAINED_MODELS}
    assert found["u2netp"]["state"] == "not fetched"
    assert all(item["licence"] and item["bytes"] >= 0 for item in found.values())
    assert run(capsys, "list")[1].out.splitlines()[0].split() == [
        "name",
        "state",
        "MB",
        "licence",
        "what",
        "for",
    ]


def test_show_tells_source_path_and_hash(capsys, cache):
    code, said = run(capsys, "show", "soundnet8")
    assert code == 0
    assert ASSETS["soundnet8"].member_sha256 in said.out
    assert str(cache) in said.out
    assert "PyPI" in said.out


def test_check_finds_a_damaged_file_and_exits_with_1(capsys, cache):
    path = cache / "files" / "u2netp" / "u2netp.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not the network")
    code, said = run(capsys, "check", "u2netp")
    assert code == 1
    assert ASSETS["u2netp"].member_sha256 in said.out
    assert "moca: 1 of 1 are wrong: u2netp" in said.err


def test_nothing_fetched_is_nothing_wrong(capsys, cache):
    code, said = run(capsys, "check", "lite")
    assert code == 0
    assert [line.split(":")[0] for line in said.out.splitlines()] == list(PRESETS["lite"])


@pytest.mark.weights
def test_fetch_gets_a_preset_and_prints_where(capsys):
    code, said = run(capsys, "fetch", "lite", "--json")
    assert code == 0
    assert set(json.loads(said.out)) == set(PRESETS["lite"])


def test_a_weights_folder_and_another_source_are_shown(capsys, cache, tmp_path):
    folder = write_tiny_dino(tmp_path / "weights" / "dino")
    code, said = run(capsys, "show", "dino", "--weights", str(tmp_path / "weights"), "--json")
    assert code == 0
    assert json.loads(said.out)["path"] == str(folder)
    code, said = run(capsys, "check", "dino", "--model", f"dino={folder}")
    assert code == 0
    assert said.out.startswith(f"dino: good, {folder}, model.safetensors SHA-256 ")
    (folder / "config.json").unlink()
    code, said = run(capsys, "check", "dino", "--model", f"dino={folder}")
    assert code == 1
    assert "lacks config.json" in said.out


def test_fetch_without_the_hub_is_one_message_and_exit_code_1(capsys, cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, said = run(capsys, "fetch", "sam")
    assert code == 1
    assert said.out == ""
    assert said.err.startswith("moca: SAM ViT-H (facebook/sam-vit-huge) is not here and could not be fetched")
    assert "hf download facebook/sam-vit-huge --local-dir WEIGHTS/sam" in said.err
    assert len(said.err.splitlines()) == 1


def test_show_imagebind_prints_sizes_and_license(capsys, cache):
    code, said = run(capsys, "show", "imagebind", "--json")
    found = json.loads(said.out)
    assert code == 0
    assert found["adapter_parameters"] == {"P": 1_330_956, "Q": 1_304_838}
    assert "non-commercial" in found["note"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--for", "imagebind", "--method", "at-gdino-sam"), ["ast", "grounding-dino", "sam"]),
        (("--for", "languagebind", "--set", "refine=none"), ["languagebind-image", "languagebind-audio"]),
        (("--for", "lite", "--config", "paper"), ["efficientnet-lite0", "yamnet", "u2netp"]),
    ],
)
def test_fetch_for_a_preset_and_method_gets_all_they_need(capsys, cache, monkeypatch, arguments, names):
    monkeypatch.setattr("moca_avs.cli.models.require_weights", lambda names, sources: None)
    monkeypatch.setattr("moca_avs.cli.models.fetch", lambda item, sources: f"/there/{item.name}")
    code, said = run(capsys, "fetch", *arguments)
    assert code == 0
    assert said.out.splitlines() == [f"{name}: /there/{name}" for name in names]


def test_fetch_for_without_the_hub_lists_all_at_once(capsys, cache, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    code, said = run(capsys, "fetch", "--for", "imagebind")
    assert code == 1
    assert [line.split(":")[0] for line in said.err.splitlines()[1:4]] == [
        "  imagebind",
        "  grounding-dino",
        "  sam",
    ]
    assert "8302 MB in all" in said.err


@pytest.mark.parametrize("arguments", [(), ("sam", "--for", "lite")])
def test_fetch_takes_a_name_or_a_preset(capsys, arguments):
    code, said = run(capsys, "fetch", *arguments)
    assert code == 2
    assert "--for PRESET" in said.err
