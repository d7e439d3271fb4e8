"""The revision of a Hub repository that is used first is the one that is used from then on."""

import json

import pytest

from helpers.tiny_pretrained import write_tiny_dino
from moca_avs.errors import WeightsError
from moca_avs.hub.cache import file_sha256
from moca_avs.hub.huggingface import ModelSources, model_folder
from moca_avs.hub.pins import check_pin, pinned, pins_file

DINO, COMMIT, LATER = "facebook/dino-vits16", "a" * 40, "b" * 40


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("MOCA_AVS_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def snapshot(home, commit=COMMIT, seed=0):
    """A repository in the Hub's cache whose "main" is this commit."""
    repository = home / "hub" / "models--facebook--dino-vits16"
    folder = write_tiny_dino(repository / "snapshots" / commit)
    if seed:
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-1] + bytes([seed]))
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    return folder


def test_first_use_is_noted_and_a_main_that_moves_is_not_followed(home):
    folder = snapshot(home)
    assert pinned(DINO) == {}
    assert model_folder("dino", ModelSources()) == folder  # whole in the cache: nobody is asked
    sha256 = file_sha256(folder / "model.safetensors")
    assert json.loads(pins_file().read_text()) == {
        DINO: {"revision": COMMIT, "sha256": {"model.safetensors": sha256}}
    }
    snapshot(home, LATER, seed=7)
    assert model_folder("dino", ModelSources()) == folder
    assert pinned(DINO) == {"revision": COMMIT}


def test_other_bytes_under_the_same_revision_are_refused(home):
    folder = snapshot(home)
    model_folder("dino", ModelSources())
    snapshot(home, seed=7)
    with pytest.raises(WeightsError, match=r"first used with SHA-256 [0-9a-f]{64}, found .*delete"):
        model_folder("dino", ModelSources())
    pins_file().write_text("{}")
    assert model_folder("dino", ModelSources()) == folder


def test_bytes_that_are_not_what_the_hub_promised_are_not_noted(home):
    folder = snapshot(home)
    blob = folder.parent.parent / "blobs" / ("0" * 64)  # the Hub's cache names a file by its SHA-256
    blob.parent.mkdir()
    (folder / "model.safetensors").rename(blob)
    (folder / "model.safetensors").symlink_to(blob)
    with pytest.raises(WeightsError, match="found 0000000"):
        model_folder("dino", ModelSources())
    assert not pins_file().exists()


def test_a_folder_of_ones_own_is_nobodys_revision(home, tmp_path):
    folder = write_tiny_dino(tmp_path / "mine" / "dino")
    check_pin(DINO, folder, [folder / "model.safetensors"])
    assert model_folder("dino", ModelSources(tmp_path / "mine")) == folder
    assert not pins_file().exists()


def test_damaged_notes_are_told(home):
    snapshot(home)
    pins_file().write_text("[1")
    with pytest.raises(WeightsError, match=r"moca-avs-pins\.json can't be read .*delete it"):
        model_folder("dino", ModelSources())
