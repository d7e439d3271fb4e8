"""Pretrained models from folders and from a Hub: what loads is what was written, and what can't says why."""

import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from helpers.tiny_hub import tiny_hub
from helpers.tiny_pretrained import WRITERS, write_tiny_dino, write_tiny_sam
from moca_avs.errors import UsageError, WeightsError
from moca_avs.hub.catalog import PRETRAINED_MODELS
from moca_avs.hub.huggingface import ModelSources, lacking, model_folder, origin, pretrained

NO_POOLER = {"add_pooling_layer": False}


@pytest.fixture(autouse=True)
def no_weights_folder(monkeypatch):
    monkeypatch.delenv("MOCA_AVS_WEIGHTS", raising=False)


@pytest.fixture
def weights(tmp_path):
    """A weights folder with a tiny DINO."""
    write_tiny_dino(tmp_path / "weights" / "dino")
    return tmp_path / "weights"


def load_dino(weights):
    return pretrained(transformers.ViTModel, "dino", ModelSources(weights), **NO_POOLER)


def test_every_entry_is_complete():
    for name, item in PRETRAINED_MODELS.items():
        assert item.name == name
        assert item.hub.count("/") == 1
        assert item.license
        assert item.megabytes > 50
        assert item.files
    assert "non-commercial" in PRETRAINED_MODELS["imagebind"].note


def test_sources_in_their_order(tmp_path, weights, monkeypatch):
    hub = "facebook/dino-vits16"
    assert ModelSources().source("dino") == hub
    assert ModelSources(weights).source("dino") == str(weights / "dino")
    assert ModelSources(weights).source("sam") == "facebook/sam-vit-huge"  # no folder sam in there
    assert ModelSources(weights, {"dino": "facebook/dinov2-base"}).source("dino") == "facebook/dinov2-base"
    monkeypatch.setenv("MOCA_AVS_WEIGHTS", str(weights))
    assert ModelSources().source("dino") == str(weights / "dino")
    assert ModelSources(tmp_path).source("dino") == hub  # the argument outranks the environment


def test_names_and_folders_that_do_not_exist_are_told(tmp_path):
    with pytest.raises(UsageError, match="no foundation model 'sma'; there are: imagebind, dino, sam"):
        ModelSources(models={"sma": "x/y"})
    with pytest.raises(UsageError, match="no foundation model"):
        ModelSources().source("gpt")
    with pytest.raises(WeightsError, match=r"no weights folder .*gone; .*--weights or MOCA_AVS_WEIGHTS"):
        ModelSources(tmp_path / "gone").source("dino")
    with pytest.raises(WeightsError, match="is no folder here and no Hub id like owner/name"):
        model_folder("dino", ModelSources(models={"dino": str(tmp_path / "gone")}))


def test_what_is_loaded_is_what_was_written_float32_and_frozen_in_eval(weights, capfd):
    capfd.readouterr()
    model = load_dino(weights)
    assert capfd.readouterr() == ("", "")  # no bars, no advice
    assert not model.training
    model.save_pretrained(weights / "again")
    written, again = (load_file(weights / name / "model.safetensors") for name in ("dino", "again"))
    assert written.keys() == again.keys()
    assert all(torch.equal(again[key], written[key]) for key in written)


def test_half_precision_files_are_computed_in_float32(weights):
    file = weights / "dino" / "model.safetensors"
    halves = {key: value.half() for key, value in load_file(file).items()}
    save_file(halves, file, {"format": "pt"})
    config = json.loads((weights / "dino" / "config.json").read_text())
    (weights / "dino" / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    assert load_dino(weights).dtype == torch.float32


@pytest.mark.parametrize("name", list(WRITERS))
def test_every_tiny_model_loads_whole(tmp_path, name):
    folder = WRITERS[name](tmp_path / name)
    classes = {
        "sam": transformers.SamModel,
        "grounding-dino": transformers.GroundingDinoForObjectDetection,
        "owlv2": transformers.Owlv2ForObjectDetection,
        "ast": transformers.ASTForAudioClassification,
        "dino": transformers.ViTModel,
    }
    options = NO_POOLER if name == "dino" else {}
    assert pretrained(classes[name], name, ModelSources(tmp_path), **options).dtype == torch.float32
    assert lacking(name, folder) == []


# --- folders that are not right --------------------------------------------------------------------------


def drop_a_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.attention.attention.query.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def reshape_a_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["layernorm.weight"] = torch.ones(17)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def claim_fewer_layers(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))


def cut_short(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def remove_config(folder):
    (folder / "config.json").unlink()


def break_config(folder):
    (folder / "config.json").write_text('{"hidden_size": 16,')


def spoil_config(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": "wide"}))


def remove_weights(folder):
    (folder / "model.safetensors").unlink()


def cut_a_pickle_short(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    remove_weights(folder)
    whole = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(whole[: len(whole) // 2])


BROKEN = {
    drop_a_tensor: r"lack layers\.1\.attention\.q_proj\.weight; they are another model's",
    reshape_a_tensor: r"other shapes than its config.json says: layernorm.weight \[17\] instead of \[16\]",
    claim_fewer_layers: r"more layers than its config.json says: layers\.1\.",
    cut_short: "damaged, or not what they claim to be",
    remove_config: "holds no config.json",
    break_config: "can't be loaded",
    spoil_config: "can't be loaded",
    remove_weights: "can't be loaded .*no file named model.safetensors",
    cut_a_pickle_short: "damaged, or not what they claim to be",
}


@pytest.mark.parametrize("spoil", list(BROKEN), ids=lambda spoil: spoil.__name__)
def test_a_folder_that_is_not_right_is_one_named_error(weights, spoil):
    spoil(weights / "dino")
    with pytest.raises(WeightsError, match=BROKEN[spoil]) as caught:
        load_dino(weights)
    said = str(caught.value)
    assert str(weights / "dino") in said
    assert "hf download facebook/dino-vits16 --local-dir WEIGHTS/dino" in said
    assert "\n" not in said


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_refused_and_never_run(weights, tmp_path, zipped):
    folder, harm = weights / "dino", tmp_path / "harm"
    remove_weights(folder)
    if zipped:
        torch.save({"layernorm.weight": Bomb(str(harm))}, folder / "pytorch_model.bin")
        assert zipfile.is_zipfile(folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"layernorm.weight": Bomb(str(harm))}))
    with pytest.raises(WeightsError, match="a pickle that asks for more than tensors: refused"):
        load_dino(weights)
    assert not harm.exists()


def test_pickled_tensors_load_as_safetensors_do(weights):
    expected = load_dino(weights).state_dict()
    torch.save(load_file(weights / "dino" / "model.safetensors"), weights / "dino" / "pytorch_model.bin")
    remove_weights(weights / "dino")
    found = load_dino(weights).state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_parameters_that_nobody_uses_may_be_missing(weights):
    with pytest.raises(WeightsError, match=r"lack pooler.dense.bias, pooler.dense.weight"):
        pretrained(transformers.AutoModel, "dino", ModelSources(weights))
    model = pretrained(transformers.AutoModel, "dino", ModelSources(weights), unused=r"^pooler\.")
    assert isinstance(model, transformers.ViTModel)


def test_another_models_folder_is_told(tmp_path):
    write_tiny_sam(tmp_path / "dino")
    with pytest.raises(WeightsError, match="DINO ViT-S/16"):
        load_dino(tmp_path)


def test_a_result_names_source_and_hash(weights):
    file = weights / "dino" / "model.safetensors"
    said = origin("dino", ModelSources(weights))
    assert json.loads(json.dumps(said)) == said
    assert said["source"] == str(weights / "dino")
    before = said["sha256"]["model.safetensors"]
    tensors = load_file(file)
    tensors["layernorm.weight"] += 1
    save_file(tensors, file, {"format": "pt"})
    os.utime(file, ns=(0, 0))
    assert origin("dino", ModelSources(weights))["sha256"]["model.safetensors"] != before


# --- the Hub ---------------------------------------------------------------------------------------------

FIND = """
import json
from moca_avs.errors import MocaError
from moca_avs.hub.huggingface import ModelSources, model_folder, origin
try:
    print(json.dumps([str(model_folder("dino", ModelSources())), origin("dino", ModelSources())]))
except MocaError as error:
    print(error)
"""


def elsewhere(home, endpoint, **environment):
    """Run FIND in a process of its own: the Hub's address is read when its library is imported."""
    known = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "OMP_NUM_THREADS": "1"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "MOCA_"))}
    done = subprocess.run(
        [sys.executable, "-c", FIND],
        env=kept | known | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.strip()


def test_from_the_hub_then_from_its_cache(tmp_path):
    folder = write_tiny_dino(tmp_path / "published")
    (folder / "tf_model.h5").write_bytes(b"nobody needs this")
    with tiny_hub("facebook/dino-vits16", folder) as endpoint:
        first = elsewhere(tmp_path / "home", endpoint)
    found, said = json.loads(first)
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert said == {
        "model": "dino",
        "source": "facebook/dino-vits16",
        "sha256": {"model.safetensors": sha256},
    }
    loaded = pretrained(transformers.ViTModel, "dino", ModelSources(models={"dino": found}), **NO_POOLER)
    loaded.save_pretrained(tmp_path / "again")
    written, again = (load_file(at / "model.safetensors") for at in (folder, tmp_path / "again"))
    assert all(torch.equal(again[key], written[key]) for key in written)
    assert not list((tmp_path / "home").rglob("tf_model.h5"))
    assert elsewhere(tmp_path / "home", "http://127.0.0.1:9") == first  # the Hub is gone
    assert elsewhere(tmp_path / "home", "http://127.0.0.1:9", HF_HUB_OFFLINE="1") == first


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ((403, "GatedRepo"), "is gated: accept its terms on its Hub page, run `hf auth login`"),
        ((401, "RepoNotFound"), "the Hub shows no facebook/dino-vits16; .* run `hf auth login`"),
        ((500, ""), "could not be fetched from the Hub .*500.*hf download .*WEIGHTS/dino/ holds config.json"),
    ],
)
def test_a_refusal_says_what_to_do(tmp_path, refusal, said):
    with tiny_hub("facebook/dino-vits16", None, refusal) as endpoint:
        assert re.search(said, elsewhere(tmp_path, endpoint))


@pytest.mark.parametrize("offline", ["0", "1"])
def test_no_network_says_what_to_do(tmp_path, offline):
    said = elsewhere(tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE=offline)
    assert said.startswith("DINO ViT-S/16 (facebook/dino-vits16) is not here and could not be fetched")
    assert "hf download facebook/dino-vits16 --local-dir WEIGHTS/dino" in said
    assert "--weights (or MOCA_AVS_WEIGHTS)" in said
    assert "HF_HUB_OFFLINE=1" in said
