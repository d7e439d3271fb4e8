import json

import pytest

from moca_avs.cli import main
from moca_avs.fetch.registry import ASSETS, PRESETS, SHIPPED


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path))
    return tmp_path


def run(capsys, *arguments):
    code = main(["models", *arguments])
    return code, capsys.readouterr()


def test_list_names_everything_with_state_size_and_licence(capsys, cache):
    code, said = run(capsys, "list", "--json")
    found = {item["name"]: item for item in json.loads(said.out)}
    assert code == 0
    assert set(found) == {*ASSETS, *SHIPPED}
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
