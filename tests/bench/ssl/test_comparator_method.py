"""Heat to masks, with a system that knows colors and tones; and what a file of another system is told."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers.color_world import COLORS, HIGH, ColorPairs, rectangles
from moca_avs.clip import Clip
from moca_avs.errors import UsageError, WeightsError
from moca_avs_bench.ssl import ComparatorConfig, HeatConfig
from moca_avs_bench.ssl.backbone import ResNet18, min_max_normalize, resnet_objects
from moca_avs_bench.ssl.method import (
    ComparatorMethod,
    TrainedSystem,
    load_comparator,
    new_system,
    save_system,
)

RATE, SIDE = HIGH.rate, ColorPairs.side
CONFIG = ComparatorConfig(image_size=SIDE, seconds=0.5)


class ColorSystem(nn.Module):
    """What EZ-VSL would be, had it learnt that colors go with tones: a map of 16 x 16 positions."""

    name, stride = "ez-vsl", 4

    def image_map(self, images):
        rgb = F.avg_pool2d(images, self.stride) * 0.226 + torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        chroma = rgb - rgb.mean(1, keepdim=True)
        return F.normalize(torch.cat([chroma, torch.full_like(chroma[:, :1], 0.3)], 1), dim=1)

    def sound_vectors(self, sounds):
        time = torch.arange(sounds.shape[1]) / RATE
        power = [(sounds * torch.exp(-2j * torch.pi * hz * time)).mean(1).abs() for hz in HIGH.hertz]
        colors = torch.tensor(list(COLORS.values()), dtype=torch.float32) / 255
        heard = torch.stack(power, 1) @ (colors - 1 / 3)
        return F.pad(F.normalize(heard, dim=1), (0, 1))[:, None]


class Things:
    """Every colored thing by itself, as a proposer."""

    settings = {"name": "things"}  # noqa: RUF012

    def __call__(self, frame):
        return np.stack([(frame == color).all(-1) for color in COLORS.values()])


def method(proposer=None, objects=None, **settings):
    trained = TrainedSystem(ColorSystem(), CONFIG, "data")
    return ComparatorMethod(trained, HeatConfig(window=0.5, **settings), proposer, objects)


def scene(names=("dog", "cow"), heard="dog", seed=0):
    frame, masks = rectangles(list(names), np.random.default_rng(seed), SIDE)
    return Clip(frame[None], np.array([0.25]), HIGH.tone(heard, 0.5).astype(np.float32), RATE), masks


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("masks", ["half", "share"])
def test_heat_and_mask_find_what_is_heard(seed, masks):
    ask = method(masks=masks, heat_share=28 * 28 / SIDE**2)
    for heard in range(2):
        clip, things = scene(heard=("dog", "cow")[heard], seed=seed)
        said = ask(clip)
        assert said.heatmaps.shape == (1, 16, 16)
        assert iou(said.masks[0], things[heard]) > 0.6
        assert not (said.masks[0] & things[1 - heard]).any()
        top, left = np.unravel_index(said.heatmaps[0].argmax(), (16, 16))
        assert things[heard][4 * top + 2, 4 * left + 2]
        assert said.scores[0] > 0.9
        assert said.reasons == ("",)


def test_mpm_gives_the_proposal_and_not_the_heat():
    clip, things = scene()
    said = method(Things(), refine="mpm")(clip)
    assert np.array_equal(said.masks[0], things[0])
    strict = {"refine": "mpm", "match_iou": 1.0}
    assert np.array_equal(method(Things(), **strict)(clip).masks, method()(clip).masks)
    empty = method(Things(), when_unmatched="empty", **strict)(clip)
    assert not empty.masks.any()
    assert empty.reasons == ("no proposal",)


def test_silence_and_no_sound_leave_frames_empty():
    clip, _ = scene()
    for sound, reason in ((np.zeros_like(clip.sound), "silent"), (clip.sound[:0], "no sound")):
        said = method()(Clip(clip.frames, clip.times, sound, RATE))
        assert said.reasons == (reason,)
        assert not said.masks.any()
        assert not said.heatmaps.any()


@pytest.mark.parametrize("gray", [0, 77, 200])
def test_flat_heat_has_no_mask(gray):
    clip, _ = scene()
    flat = Clip(np.full_like(clip.frames, gray), clip.times, clip.sound, RATE)
    said = method()(flat)
    assert said.reasons == ("no mask",)
    assert not said.masks.any()
    assert len(np.unique(said.heatmaps)) == 1


def test_a_frame_answers_alike_in_any_order():
    scenes = [scene(seed=seed, heard=("dog", "cow")[seed % 2])[0] for seed in range(4)]
    frames = np.concatenate([clip.frames for clip in scenes])
    sound = np.concatenate([clip.sound for clip in scenes])
    sources = np.arange(4) * 0.5 + 0.25
    system = new_system("mix-and-localize", 0).eval()
    ask = partial(ComparatorMethod, TrainedSystem(system, CONFIG, "data"), HeatConfig(window=0.5, batch=3))
    forward = ask()(Clip(frames, np.arange(4.0), sound, RATE, sound_times=sources))
    order = np.array([2, 0, 3, 1])
    backward = ask()(Clip(frames[order], np.arange(4.0), sound, RATE, sound_times=sources[order]))
    assert np.array_equal(backward.heatmaps, forward.heatmaps[order])
    assert np.array_equal(backward.masks, forward.masks[order])
    assert np.array_equal(backward.scores, forward.scores[order])
    assert len({heat.tobytes() for heat in forward.heatmaps}) == 4


def test_the_object_map_is_mixed_in_at_its_share():
    clip, things = scene()

    def objects(frame):
        return torch.from_numpy((frame == COLORS["cow"]).all(-1).astype(np.float32))[2::4, 2::4]

    alone = min_max_normalize(torch.from_numpy(method()(clip).heatmaps[0].astype(np.float32)))
    said = method(objects=objects, object_map="lite")(clip)
    expected = min_max_normalize(0.4 * alone + 0.6 * objects(clip.frames[0]))
    np.testing.assert_allclose(said.heatmaps[0].astype(np.float32), expected.numpy(), atol=2e-3)
    assert (said.masks[0] & things[1]).any()  # what it adds is deaf
    deafless = method(objects=objects, object_map="lite", object_share=0.0)(clip)
    assert np.array_equal(deafless.masks, method()(clip).masks)


def test_a_resnet_is_an_object_map(tmp_path):
    torch.save(ResNet18().state_dict(), tmp_path / "resnet18.pth")
    found = resnet_objects(tmp_path / "resnet18.pth", 64)(scene()[0].frames[0])
    assert found.shape == (2, 2)
    assert (found >= 0).all()
    assert found.std() > 0


@pytest.mark.weights
def test_lites_image_network_is_an_object_map(tmp_path):
    save_system(new_system("ez-vsl", 0), CONFIG, "data", tmp_path / "comparator.safetensors")
    clip = scene()[0]
    guided = load_comparator(tmp_path, object_map="lite")(clip)
    alone = load_comparator(tmp_path)(clip)
    assert guided.heatmaps.shape == alone.heatmaps.shape == (1, 2, 2)
    assert not np.array_equal(guided.heatmaps, alone.heatmaps)


def test_what_does_not_go_together_is_refused():
    for settings in (
        {"masks": "all"},
        {"refine": "best"},
        {"object_map": "resnet18"},
        {"object_weights": "file"},
        {"classes": "label2idx.json"},
        {"proposals": "wishes"},
    ):
        with pytest.raises(UsageError):
            HeatConfig(**settings)
    with pytest.raises(UsageError, match="proposer"):
        method(refine="mpm")
    with pytest.raises(UsageError, match="proposer"):
        method(Things())
    lvs = TrainedSystem(new_system("lvs", 0), CONFIG, "data")
    with pytest.raises(UsageError, match="only ez-vsl"):
        ComparatorMethod(lvs, HeatConfig(object_map="lite"), None, lambda frame: torch.zeros(4, 4))


def test_a_file_loads_as_what_it_is_and_as_nothing_else(tmp_path):
    system = new_system("lvs", 3)
    file = tmp_path / "comparator.safetensors"
    save_system(system, CONFIG, "data", file)
    loaded = load_comparator(tmp_path, system="lvs")
    for name, value in system.state_dict().items():
        assert torch.equal(loaded.system.state_dict()[name], value), name
    assert loaded.trained.config == CONFIG
    assert loaded.settings["system"]["name"] == "lvs"
    with pytest.raises(WeightsError, match="holds lvs, not ez-vsl"):
        load_comparator(file, system="ez-vsl")
    with pytest.raises(WeightsError, match="not there"):
        load_comparator(tmp_path / "elsewhere.safetensors")
    with pytest.raises(UsageError, match="unknown settings"):
        load_comparator(file, steps=3)


def test_files_of_other_things_are_refused(tmp_path):
    from moca_avs.hub.weight_files import read_safetensors, write_safetensors

    file = tmp_path / "comparator.safetensors"
    save_system(new_system("lvs", 0), CONFIG, "data", file)
    tensors, about = read_safetensors(file)
    bad = {name: value.clone() for name, value in tensors.items()}
    bad["image_net.conv1.weight"][0, 0, 0, 0] = float("nan")
    for state, metadata, message in (
        (tensors, {}, "holds no comparator"),
        (tensors, {**about, "system": "mix-and-localize"}, "lacks"),
        (tensors, {**about, "config": "5"}, "does not say how"),
        (bad, about, "no numbers"),
    ):
        write_safetensors(state, file, metadata)
        with pytest.raises(WeightsError, match=message):
            load_comparator(file)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="no whole safetensors"):
        load_comparator(file)
