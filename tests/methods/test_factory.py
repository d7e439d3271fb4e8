"""Names to methods: presets, run folders, published folders, Hub ids, and what is said where nothing is."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open

import moca_avs
from helpers.tiny_encoders import TinyTransformer, open_gates
from moca_avs.clip import Clip
from moca_avs.encoders import ENCODERS
from moca_avs.encoders.sound_trunks import SoundNetTrunk, YamnetTrunk
from moca_avs.errors import UsageError, WeightsError
from moca_avs.hub.catalog import SHIPPED
from moca_avs.methods import METHODS, MethodEntry
from moca_avs.methods import source as loading
from moca_avs.methods.moca import Moca
from moca_avs.methods.source import find_source
from moca_avs.model.adapter import AdapterSet, save_adapters
from moca_avs.model.adapter_file import recorded_encoder


class SizedTiny(TinyTransformer):
    """Takes the options that `lite` takes."""

    name = "tiny"

    def __init__(self, image_size=32, dilate=False):
        super().__init__()
        self.image_size, self.dilate = image_size, dilate


@pytest.fixture(autouse=True)
def world(monkeypatch, tmp_path):
    """One encoder called "tiny", nothing shipped."""
    monkeypatch.setitem(ENCODERS, "tiny", SizedTiny)
    shipped = tmp_path / "shipped"
    monkeypatch.setattr(loading, "_SHIPPED", shipped)
    return shipped


def adapters(seed=0):
    return open_gates(AdapterSet(SizedTiny(), count=2, generator=torch.Generator().manual_seed(seed)))


def write(folder, seed=0, config=None):
    folder.mkdir(parents=True, exist_ok=True)
    save_adapters(adapters(seed), folder / "adapters.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def load(name, **settings):
    return moca_avs.load(str(name), device="cpu", **({"refine": "none"} | settings))


def test_frozen_needs_no_adapters():
    method = load("tiny", method="frozen", clusters=5)
    assert isinstance(method, Moca)
    assert method.adapters is None
    assert method.settings["clusters"] == 5


def test_moca_without_shipped_adapters_says_what_to_do():
    with pytest.raises(WeightsError, match=r"no trained adapters ship with the preset 'tiny'.*'frozen'"):
        load("tiny", method="moca")


def test_a_preset_ships_adapters_and_settings(world):
    write(world / "tiny", 3, {"encoder": {"image_size": 64}, "method": {"clusters": 6, "window": 1.5}})
    assert load("tiny").settings["method"] == "frozen"  # what measured best in a preset
    method = load("tiny", method="moca", window=3.0)
    assert isinstance(method, Moca)
    assert method.settings["adapters"]["weights"] == adapters(3).weights_hash()
    assert (method.settings["clusters"], method.settings["window"]) == (6, 3.0)
    assert method.settings["encoder"]["image_size"] == 64
    assert load("tiny", image_size=96).settings["encoder"]["image_size"] == 96


def test_a_run_gives_its_newest_step(tmp_path, world):
    write(world / "tiny", 1, {"method": {"clusters": 6}})
    run = tmp_path / "run"
    for step, seed in ((500, 2), (1_000_000, 3), (200_000, 4)):
        write(run / "steps" / f"{step:06d}", seed)
    write(run / "steps" / "junk", 5)
    (run / "config.json").write_text(json.dumps({"encoder": {"name": "tiny", "image_size": 64}, "data": {}}))
    method = load(run)
    assert method.settings["adapters"]["weights"] == adapters(3).weights_hash()
    assert method.settings["encoder"]["image_size"] == 64
    assert method.settings["clusters"] == 6  # the encoder's preset says how to infer
    assert load(run / "steps" / "000500").settings["adapters"]["weights"] == adapters(2).weights_hash()
    write(run, 7)  # a finished run's last weights
    assert load(run).settings["adapters"]["weights"] == adapters(7).weights_hash()
    assert load(run, method="frozen").settings["method"] == "frozen"


def test_a_published_folder_brings_its_own_settings(tmp_path, world):
    write(world / "tiny", 1, {"method": {"clusters": 6, "window": 1.5}})
    folder = write(tmp_path / "published", 2, {"method": {"clusters": 3}})
    settings = load(folder).settings
    assert (settings["clusters"], settings["window"]) == (3, 1.5)


def test_a_hub_id_is_fetched(monkeypatch, tmp_path):
    folder = write(tmp_path / "snapshot", 4)
    asked = []

    def fetch(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert load("some/body").settings["adapters"]["weights"] == adapters(4).weights_hash()
    assert asked == [("some/body", ["adapters.safetensors", "config.json"])]


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"'no-one/nothing' is no folder here.*by hand"):
        load("no-one/nothing")


def test_the_method_works_and_the_device_is_told(tmp_path, caplog):
    folder = write(tmp_path / "published")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 50, 60, 3)).astype(np.uint8)
    clip = Clip(frames, np.array([0.5, 1.5]), (0.2 * rng.standard_normal(4000)).astype(np.float32), 2000)
    with caplog.at_level(logging.INFO, "moca_avs"):
        result = moca_avs.load(str(folder), refine="none")(clip)
    assert result.masks.shape == (2, 50, 60)
    assert result.reasons == ("", "")
    assert any(record.message.startswith("device ") for record in caplog.records)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("nothing", {}, "'nothing' is no preset .*tiny"),
        ("tiny", {"method": "magic"}, "unknown method 'magic'.*moca, frozen"),
        ("tiny", {"method": "frozen", "widow": 2}, "unknown settings widow"),
        ("tiny", {"method": "frozen", "masks": "all"}, "masks must be one of"),
    ],
)
def test_wrong_names_are_refused(name, settings, says):
    with pytest.raises(UsageError, match=says):
        load(name, **settings)


def test_an_unknown_device_is_refused():
    with pytest.raises(UsageError, match="no device"):
        moca_avs.load("tiny", method="frozen", device="abacus", refine="none")


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"holds no adapters\.safetensors"):
        load(tmp_path)
    folder = write(tmp_path / "published")
    (folder / "config.json").write_text("[1, 2]")
    with pytest.raises(WeightsError, match=r"config\.json is not a config"):
        load(folder)
    (folder / "config.json").unlink()
    (folder / "adapters.safetensors").write_bytes(b"?")
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load(folder)


def test_adapters_of_an_unknown_encoder_are_refused(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    save_adapters(AdapterSet(TinyTransformer(), count=2), folder / "adapters.safetensors")
    with pytest.raises(UsageError, match="unknown encoder 'tiny-transformer'"):
        load(folder)


def test_a_run_of_lite_on_soundnet_is_one_of_lite_soundnet_now(tmp_path):
    """Up to 0.2 `lite` was what `lite-soundnet` is; its files still say `lite`."""
    folder = tmp_path / "old"
    folder.mkdir()
    shutil.copy(SHIPPED["lite-soundnet-adapters"].path, folder / "adapters.safetensors")
    with safe_open(folder / "adapters.safetensors", "pt") as file:
        assert json.loads(file.metadata()["moca_avs_adapters"])["encoder"] == "lite"
    assert find_source(str(folder)).encoder == "lite-soundnet"


@pytest.mark.parametrize("placement", ["last", "first", "interleaved"])
@pytest.mark.parametrize("trunk", [YamnetTrunk, SoundNetTrunk])
def test_old_runs_and_new_ones_are_told_apart_at_every_placement(trunk, placement):
    layers = len(trunk.widths)
    most = 7 if placement != "last" else layers
    for count in range(1, most + 1):
        first = 0 if placement == "first" else layers - count
        read = {layer: trunk.widths[layer] for layer in range(first, first + count)}
        assert recorded_encoder("lite", read) == trunk.encoder_name
        assert recorded_encoder("imagebind", read) == "imagebind"


@pytest.mark.weights
def test_an_old_run_loads(tmp_path, monkeypatch):
    monkeypatch.undo()
    shutil.copy(SHIPPED["lite-soundnet-adapters"].path, tmp_path / "adapters.safetensors")
    method = moca_avs.load(str(tmp_path), device="cpu", refine="none")
    assert method.settings["encoder"]["name"] == "lite-soundnet"
    assert method.settings["adapters"]["count"] == 2


def test_every_method_has_a_line():
    assert list(METHODS) == ["moca", "frozen", "at-gdino-sam", "owod-bind", "sam-bind"]
    assert all(moca_avs.methods.list_methods().values())


@pytest.mark.weights
def test_lite_frozen_from_a_clip_to_masks():
    method = moca_avs.load("lite", method="frozen", device="cpu", refine="none", image_size=224)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 90, 120, 3)).astype(np.uint8)
    sound = (0.1 * rng.standard_normal(48_000)).astype(np.float32)
    sound[16_000:32_000] *= 1e-5
    result = method(Clip(frames, np.array([0.5, 1.5, 2.5]), sound, 16_000))
    assert result.masks.shape == (3, 90, 120)
    assert result.reasons == ("", "silent", "")
    assert result.masks[[0, 2]].any((1, 2)).all()
    assert result.settings["encoder"]["name"] == "lite"


@pytest.mark.parametrize(
    "config",
    [5, [1], {1: 2}, {"encoder": 5}, {"method": {"clusters": 4}, "bogus": {}}, {"encoder": {"zzz": 1}}],
    ids=str,
)
def test_a_config_of_another_shape_is_refused(config):
    with pytest.raises(UsageError):
        load("tiny", config=config)


def test_a_config_goes_before_the_presets(world):
    write(world / "tiny", 0, {"method": {"clusters": 6, "masks": "heat"}})
    assert load("tiny").settings["masks"] == "heat"
    paper = moca_avs.load("tiny", device="cpu", config={"method": {"masks": "clusters"}}, refine="none")
    assert (paper.settings["masks"], paper.settings["clusters"]) == ("clusters", 6)
    assert load("tiny", config={"clusters": 3}).settings["clusters"] == 3
    assert load("tiny", config={"clusters": 3}, clusters=2).settings["clusters"] == 2


def test_a_registered_method_gets_a_runs_adapters_if_it_says_so(tmp_path, monkeypatch):
    run, given = write(tmp_path / "run", 1), {}
    for name, needs in (("with", True), ("without", False)):
        monkeypatch.setitem(
            METHODS,
            name,
            MethodEntry(lambda config, parts: given.setdefault("adapters", parts.adapters), adapters=needs),
        )
        given.clear()
        assert load(run, method=name) == (run / "adapters.safetensors" if needs else None)
    with pytest.raises(WeightsError, match="no trained adapters ship"):
        load("tiny", method="with")
