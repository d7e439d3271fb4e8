"""ImageBind's file: strict, without code, without a copy; where it is looked for; what is said of it."""

import json
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from helpers.tiny_imagebind import tiny_state, write_tiny_imagebind
from moca_avs import encoders
from moca_avs.encoders import build_encoder, checkpoints
from moca_avs.encoders.imagebind import FILES, ImageBindEncoder, find_weights
from moca_avs.errors import UsageError, WeightsError
from moca_avs.hub.huggingface import ModelSources
from moca_avs.hub.weight_files import tensors_sha256


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MOCA_AVS_WEIGHTS", raising=False)


@pytest.fixture
def folder(tmp_path):
    return write_tiny_imagebind(tmp_path / "weights" / "imagebind")


def rewritten(folder, change, name="imagebind_huge.pth"):
    """The file again, after `change` has had its way with the state dict."""
    state = tiny_state()
    torch.save(change(state) or state, folder / name)
    return folder / name


# --- what loads -------------------------------------------------------------------------------------------


def test_a_safetensors_copy_is_the_same_model(folder):
    pth = ImageBindEncoder.load(folder / "imagebind_huge.pth")
    save_file(tiny_state(), folder / "copy.safetensors")
    copy = ImageBindEncoder.load(folder / "copy.safetensors")
    used = {k: v for k, v in tiny_state().items() if ".text." not in k and ".imu." not in k}
    save_file(used, folder / "two.safetensors")
    two = ImageBindEncoder.load(folder / "two.safetensors")
    for other in (copy, two):
        assert other.weights_hash() == pth.weights_hash()
        for name, weight in pth.state_dict().items():
            assert torch.equal(weight, other.state_dict()[name])


def test_files_of_old_torch_load_as_well(folder):
    torch.save(tiny_state(), folder / "old.pth", _use_new_zipfile_serialization=False)
    assert ImageBindEncoder.load(folder / "old.pth").weights_hash()


def test_half_precision_files_are_widened(folder):
    path = rewritten(folder, lambda state: {k: v.half() for k, v in state.items()})
    encoder = ImageBindEncoder.load(path)
    assert {weight.dtype for weight in encoder.state_dict().values()} == {torch.float32}


def test_weights_are_mapped_not_copied(folder):
    encoder = ImageBindEncoder.load(folder / "imagebind_huge.pth")
    mapped = [
        line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line
    ]
    spans = [tuple(int(end, 16) for end in span.split("-")) for span in mapped]
    weights = list(encoder.parameters())
    inside = [any(low <= weight.data_ptr() < high for low, high in spans) for weight in weights]
    assert all(inside)


# --- what does not ----------------------------------------------------------------------------------------


def without(name):
    return lambda state: {k: v for k, v in state.items() if k != name}


def reshaped(name, *shape):
    return lambda state: state | {name: torch.zeros(*shape)}


CASES = {
    "a missing tensor": (
        without("modality_trunks.audio.blocks.3.norm_2.bias"),
        r"lacks modality_trunks\.audio\.blocks\.3\.norm_2\.bias of ImageBind",
    ),
    "a missing stem": (
        without("modality_preprocessors.vision.rgbt_stem.proj.1.weight"),
        r"no ImageBind checkpoint: modality_preprocessors\.vision\.rgbt_stem.*lacks it",
    ),
    "a missing scale": (
        without("modality_postprocessors.audio.1.log_logit_scale"),
        r"lacks .*log_logit_scale",
    ),
    "no sound": (
        lambda state: {k: v for k, v in state.items() if ".audio." not in k},
        r"modality_preprocessors\.audio.*lacks it",
    ),
    "a wrong shape": (
        reshaped("modality_trunks.vision.blocks.0.mlp.fc2.weight", 32, 63),
        r"other shapes than ImageBind: .*fc2\.weight \[32, 63\] instead of \[32, 64\]",
    ),
    "a wrong number of dimensions": (
        reshaped("modality_heads.vision.2.weight", 16),
        r"modality_heads\.vision\.2\.weight must have 2 dimensions, the file has it as \[16\]",
    ),
    "other positions": (
        reshaped("modality_preprocessors.audio.pos_embedding_helper.pos_embed", 1, 230, 24),
        r"n \* n rows for images and 229 for sound, found 257 and 230",
    ),
    "a stranger": (
        reshaped("modality_heads.smell.2.weight", 2, 2),
        r"holds modality_heads\.smell\.2\.weight",
    ),
    "whole numbers": (
        lambda state: state | {"modality_heads.vision.0.bias": torch.zeros(32, dtype=torch.int64)},
        r"floating-point weights of ImageBind, found modality_heads\.vision\.0\.bias torch\.int64",
    ),
    "another model": (lambda state: {"conv1.weight": torch.zeros(3, 3)}, "is no ImageBind checkpoint"),
    "no state dict": (lambda state: {"model": state}, "must hold a plain state dict"),
}


@pytest.mark.parametrize("case", CASES)
def test_other_weights_are_refused_by_name(folder, case):
    change, says = CASES[case]
    with pytest.raises(WeightsError, match=says) as refusal:
        ImageBindEncoder.load(rewritten(folder, change))
    assert str(folder / "imagebind_huge.pth") in str(refusal.value)


class Attack:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("written", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))])
def test_a_pickle_with_code_is_refused_and_not_run(folder, tmp_path, written):
    marker = tmp_path / "ran"
    written({**tiny_state(), "x": Attack(marker)}, folder / "imagebind_huge.pth")
    with pytest.raises(WeightsError, match="asks for more than tensors, which is refused"):
        ImageBindEncoder.load(folder / "imagebind_huge.pth")
    assert not marker.exists()


@pytest.mark.parametrize("kept", [0, 10, 1000, 0.5, 0.99])
@pytest.mark.parametrize("name", ["imagebind_huge.pth", "model.safetensors"])
def test_a_file_cut_short_is_refused(folder, name, kept):
    path = folder / name
    if name.endswith("safetensors"):
        save_file(tiny_state(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if kept >= 1 or kept == 0 else int(kept * len(whole))])
    with pytest.raises(WeightsError, match=r"get the file again|delete it, run again"):
        ImageBindEncoder.load(path)


def test_a_missing_file_is_named(tmp_path):
    for name in ("gone.pth", "gone.safetensors"):
        with pytest.raises(WeightsError, match=name):
            ImageBindEncoder.load(tmp_path / name)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (None, r"number of attention heads of its vision trunk of width 32 \(found None\).*vision_num_heads"),
        ('{"vision_num_heads": 4}', r"audio trunk of width 24 \(found None\)"),
        ('{"vision_num_heads": 5, "audio_num_heads": 3}', r"\(found 5\)"),
        ('{"vision_num_heads": "4"}', r"\(found 4\)"),
        ("{", "no readable JSON"),
        ("[1]", "must hold a JSON object, found list"),
    ],
)
def test_heads_that_are_not_told_are_asked_for(folder, config, says):
    (folder / "config.json").unlink()
    if config is not None:
        (folder / "config.json").write_text(config)
    with pytest.raises(WeightsError, match=says):
        ImageBindEncoder.load(folder / "imagebind_huge.pth")


# --- the hash ---------------------------------------------------------------------------------------------


def test_the_hash_is_of_the_bytes_and_the_heads_and_remembered(folder, monkeypatch):
    path = folder / "imagebind_huge.pth"
    counted = []

    def counting(tensors):
        counted.append(len(tensors))
        return tensors_sha256(tensors)

    monkeypatch.setattr(checkpoints, "tensors_sha256", counting)
    first = ImageBindEncoder.load(path).weights_hash()
    assert ImageBindEncoder.load(path, image_size=448).weights_hash() == first
    assert len(counted) == 1
    assert len(first) == 64

    def nudge(state):
        state["modality_heads.audio.2.weight"][0, 0] += 1e-6

    assert ImageBindEncoder.load(rewritten(folder, nudge)).weights_hash() != first
    rewritten(folder, lambda state: None)
    (folder / "config.json").write_text('{"vision_num_heads": 8, "audio_num_heads": 3}')
    assert ImageBindEncoder.load(path).weights_hash() != first
    assert len(counted) == 3


def test_a_damaged_note_is_not_believed(folder, tmp_path):
    expected = ImageBindEncoder.load(folder / "imagebind_huge.pth").weights_hash()
    (note,) = (tmp_path / "cache" / "hashes").iterdir()
    note.write_text("short")
    assert ImageBindEncoder.load(folder / "imagebind_huge.pth").weights_hash() == expected
    assert note.read_text() == expected


# --- where it is looked for, what is said -----------------------------------------------------------------


def test_folders_files_and_the_environment(folder, monkeypatch, tmp_path):
    weights = folder.parent
    file = folder / "imagebind_huge.pth"
    assert find_weights(ModelSources(weights)) == file
    assert find_weights(ModelSources(models={"imagebind": str(folder)})) == file
    assert find_weights(ModelSources(models={"imagebind": str(file)})) == file
    monkeypatch.setenv("MOCA_AVS_WEIGHTS", str(weights))
    assert find_weights(ModelSources()) == file
    file.unlink()
    for name in reversed(FILES):
        (folder / name).touch()
        assert find_weights(ModelSources()) == folder / name


def test_a_folder_without_the_file_says_what_belongs_there(tmp_path):
    (tmp_path / "imagebind").mkdir()
    with pytest.raises(WeightsError, match=r"holds none of imagebind_huge\.pth.*hf download"):
        build_encoder("imagebind", sources=ModelSources(tmp_path))


def test_the_license_is_told_once(folder, caplog, monkeypatch):
    monkeypatch.setattr(encoders, "_told", set())
    with caplog.at_level(logging.WARNING, "moca_avs"):
        for _ in range(2):
            encoder = build_encoder("imagebind", sources=ModelSources(folder.parent), image_size=28)
    assert (encoder.name, encoder.image_size, encoder.grid) == ("imagebind", 28, 2)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "non-commercial" in told[0]


def test_options_of_another_encoder_are_refused(folder):
    with pytest.raises(UsageError, match=r"'imagebind' has no option dilate; it has: image_size$"):
        build_encoder("imagebind", sources=ModelSources(folder.parent), dilate=True)
    with pytest.raises(UsageError, match="'lite' has no option dtype; it has: image_size, dilate, binding"):
        build_encoder("lite", dtype="bfloat16")


def test_the_preset_is_the_papers_choices():
    config = json.loads((Path(encoders.__file__).parents[1] / "weights/imagebind/config.json").read_text())
    assert config["encoder"] == {"image_size": 224}
    assert (config["method"]["masks"], config["method"]["refine"]) == ("clusters", "mpm")


def test_a_user_reads_the_license_on_stderr(folder):
    code = (
        "import sys; from pathlib import Path; from moca_avs.encoders import build_encoder;"
        "from moca_avs.hub.huggingface import ModelSources; sources = ModelSources(Path(sys.argv[1]));"
        "[build_encoder('imagebind', sources=sources) for _ in range(2)]"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder.parent)], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert done.stderr.count("non-commercial use only") == len(done.stderr.splitlines()) == 1
