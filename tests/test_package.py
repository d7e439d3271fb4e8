import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import moca_avs
from helpers.color_models import ColorProposer
from helpers.color_world import RATE, video
from helpers.tiny_encoders import ColorEncoder
from moca_avs import Clip, Segmentation
from moca_avs.errors import MediaError, UsageError
from moca_avs.io.write_video import write_video
from moca_avs.methods.config import MocaConfig
from moca_avs.methods.moca import Moca


def test_the_public_names_are_there_and_shown():
    promised = {
        *("load", "segment", "train", "evaluate", "read_clip", "stream_clips", "Clip", "Segmentation"),
        *("TrainConfig", "list_presets", "list_methods"),
        *("register_encoder", "register_method", "register_dataset", "__version__"),
    }
    assert promised == set(moca_avs.__all__)
    assert promised <= set(dir(moca_avs))
    for name in moca_avs.__all__:
        assert getattr(moca_avs, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        moca_avs.nothing  # noqa: B018


def test_what_there_is():
    assert moca_avs.list_presets()[:3] == ("lite", "imagebind", "languagebind")
    assert list(moca_avs.list_methods())[:2] == ["moca", "frozen"]


def test_importing_it_imports_nothing_heavy():
    code = "import sys, moca_avs; dir(moca_avs); print({'torch', 'numpy', 'av'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_data_sets_need_neither_torch_nor_scipy():
    modules = "sys, moca_avs.data.folder, moca_avs_bench.data.vggsound"
    code = f"import {modules}; print({{'torch', 'scipy'}} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_nothing_is_written_into_the_home_folder(tmp_path):
    code = "import moca_avs, onnxruntime, torch, skimage, av, safetensors, pycocotools.mask, huggingface_hub"
    kept = {
        name: value for name, value in os.environ.items() if name in ("PATH", "VIRTUAL_ENV", "PYTHONPATH")
    }
    subprocess.run([sys.executable, "-c", code], env={**kept, "HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.rglob("*")) == []


@pytest.fixture
def method():
    return Moca(ColorEncoder(), None, ColorProposer(), MocaConfig(refine="mpm", clusters=4, window=1.0))


def test_a_method_takes_a_clip_or_frames_with_audio(method):
    clip, _ = video(["red", "blue"])
    expected = method(clip)
    plain = method(Clip(clip.frames, clip.times, clip.sound, RATE))
    for found in (
        method((clip.frames, clip.sound, RATE)),
        method(clip.frames, clip.sound, RATE),
        method(list(clip.frames), clip.sound.astype(np.float64), RATE),
        plain,
    ):
        assert np.array_equal(found.masks, expected.masks)
        assert np.array_equal(found.times, clip.times)  # a frame in the middle of each second


@pytest.mark.parametrize(
    "given", [None, 3, [1, 2], (1, 2, 3), (np.zeros((1, 4, 4, 3), np.uint8), np.zeros(3))]
)
def test_a_method_refuses_anything_else_in_one_sentence(method, given):
    with pytest.raises(UsageError, match=r"takes a path, a Clip, or \(frames, audio, sample_rate\); found"):
        method(given)
    with pytest.raises(MediaError, match="does not exist"):
        method("nowhere.mp4")


def test_frames_may_be_lists_of_images_and_tensors(method):
    clip, _ = video(["red", "blue"])
    expected = method(clip).masks
    sound = torch.tensor(clip.sound)
    for frames in ([Image.fromarray(frame) for frame in clip.frames], list(map(torch.tensor, clip.frames))):
        assert np.array_equal(method(frames, sound.requires_grad_(), RATE).masks, expected)
    for audio in (sound.double(), sound.tolist(), sound.half().float()):
        assert np.array_equal(method(torch.tensor(clip.frames), audio, np.int64(RATE)).masks, expected)
    assert np.array_equal(method(clip.frames, 5 * clip.sound, float(RATE)).masks, expected)


def test_frames_without_sound_say_so(method):
    clip, _ = video(["red", "blue"])
    for alone in (clip.frames, list(clip.frames), torch.tensor(clip.frames)):
        with pytest.raises(UsageError, match=r"found (ndarray|list of 2|Tensor); frames need their sound"):
            method(alone)
    with pytest.raises(UsageError, match="found no sample_rate"):
        method(clip.frames, clip.sound)
    with pytest.raises(UsageError, match="found no audio"):
        method(clip.frames, None, RATE)
    mute = method(clip.frames, [], RATE)
    assert mute.reasons == ("no sound", "no sound")
    assert mute.times.tolist() == [0.5, 1.5]
    with pytest.raises(MediaError, match="sample_rate must be positive, a number in Hz, found 'x'"):
        method(clip.frames, clip.sound, "x")


def test_a_method_takes_a_path(method, tmp_path):
    clip, _ = video(["red", "blue"])
    path = write_video(tmp_path / "a.mp4", clip.frames, np.arange(2.0), clip.sound, RATE)
    seen = []
    method.predict_batch = lambda clips, **_: seen.extend(clips) or clips
    method(path)
    method(str(path))
    assert [len(one) for one in seen] == [2, 2]


def test_what_can_be_cast_is_cast():
    frames = [np.zeros((4, 5, 3), np.uint8)] * 2
    clip = Clip(frames, [0, 1], np.zeros(20), 10, sound_times=np.array([0, 1]))
    assert (clip.frames.dtype, clip.frames.shape) == (np.uint8, (2, 4, 5, 3))
    assert (clip.times.dtype, clip.sound.dtype) == (np.float64, np.float32)
    assert clip.sound_times.dtype == np.float64
    assert Clip(frames, np.zeros(2, np.float32), [], 10).sound.dtype == np.float32


def test_reprs_are_short():
    clip, _ = video(["red", ""])
    assert repr(clip) == f"Clip(2 frames of 128x128, 2.00 s of sound at {RATE} Hz)"
    result = Segmentation(
        np.zeros((2, 4, 5), bool),
        np.zeros((2, 1, 1), np.float16),
        np.zeros(2, np.float32),
        ("", "silent"),
        np.zeros(2),
        {"method": "frozen"},
    )
    assert repr(result) == "Segmentation(2 frames of 5x4, 1 with a mask, method='frozen')"


def test_a_preset_is_given_by_its_name():
    for given in (None, 5):
        with pytest.raises(UsageError, match="by its name"):
            moca_avs.load(given)


def test_coco_is_read_by_pycocotools(method, tmp_path):
    from pycocotools.coco import COCO

    clip, _ = video(["red", "", "blue"])
    result = method(clip)
    coco = COCO()
    coco.dataset = result.to_coco()
    coco.createIndex()
    assert coco.getImgIds() == [0, 1, 2]
    assert [len(coco.getAnnIds(index)) for index in range(3)] == [1, 0, 1]
    for index in (0, 2):
        (one,) = coco.loadAnns(coco.getAnnIds(index))
        assert np.array_equal(coco.annToMask(one).astype(bool), result.masks[index])
        left, top, width, height = one["bbox"]
        box = np.zeros_like(result.masks[index])
        box[top : top + height, left : left + width] = True
        assert not (result.masks[index] & ~box).any()
        assert one["area"] == result.masks[index].sum()
    assert [cat["name"] for cat in coco.loadCats(coco.getCatIds())] == ["sounding object"]


def test_training_takes_names_and_paths(tmp_path, monkeypatch):
    from helpers.media_files import bark, images, make_video
    from helpers.tiny_encoders import TinyConvolution
    from moca_avs.encoders import ENCODERS

    monkeypatch.setitem(ENCODERS, "tiny", TinyConvolution)
    for index in range(3):
        path = tmp_path / "videos" / f"{index}.mp4"
        path.parent.mkdir(exist_ok=True)
        make_video(path, images(20, 40, 60, index), sound=bark(2, seed=index)[None])
    config = moca_avs.TrainConfig(steps=1, batch=2, count=1, neighbours=1)
    run = moca_avs.train("tiny", tmp_path / "videos", config, tmp_path / "run", progress=False)
    assert (run / "adapters.safetensors").is_file()
