import json

import pytest

from moca_avs.errors import UsageError, WeightsError
from moca_avs.fetch.registry import ASSETS, PRESETS, SHIPPED, ShippedFile
from moca_avs.models import describe, everything, fetch, named, verdict


def test_every_entry_is_complete_and_pinned():
    for name, asset in ASSETS.items():
        assert asset.name == name
        assert all(len(h) == 64 for h in (asset.archive_sha256, asset.member_sha256))
        assert asset.archive_bytes > 1e6
        assert asset.licence
    assert all(part in ASSETS for parts in PRESETS.values() for part in parts)
    assert set(everything()) == {*ASSETS, *SHIPPED}


def test_a_preset_names_its_parts():
    assert [item.name for item in named("lite")] == list(PRESETS["lite"])
    assert [item.name for item in named("u2netp")] == ["u2netp"]
    with pytest.raises(UsageError, match="no model 'sam'; choose one of lite, efficientnet-lite0"):
        named("sam")
    with pytest.raises(UsageError):
        named("lite", presets=False)


def test_descriptions_are_json_and_need_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path))
    described = [describe(item) for item in everything().values()]
    assert json.loads(json.dumps(described)) == described
    assert {d["state"] for d in described[: len(ASSETS)]} == {"not fetched"}


def test_a_shipped_file_that_is_gone_is_wrong(tmp_path):
    item = ShippedFile("gone", "Gone", "test", tmp_path / "gone.safetensors", "CC0-1.0", "a test")
    assert describe(item)["state"] == "missing"
    assert verdict(item)[0] is False
    with pytest.raises(WeightsError, match="install moca-avs again"):
        fetch(item)
    item.path.write_bytes(b"abc")
    assert describe(item)["state"] == "ships"
    assert verdict(item) == (
        True,
        "ships, SHA-256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    )
    assert fetch(item) == item.path
