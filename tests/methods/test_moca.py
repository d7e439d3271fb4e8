"""The whole way in a world of colors and tones, where it is known which pixels should answer."""

import json

import numpy as np
import pytest
import torch

from helpers.color_world import LOW, RATE, SIDE, video
from helpers.tiny_encoders import ColorEncoder, TinyConvolution, TinyTransformer, open_gates
from moca_avs.clip import Clip
from moca_avs.errors import UsageError
from moca_avs.methods.config import MocaConfig
from moca_avs.methods.moca import Moca, top_share
from moca_avs.model.adapter import AdapterSet
from moca_avs.proposals.masks import pairwise_iou
from moca_avs.proposals.superpixels import SuperpixelProposer


def config(**changes):
    return MocaConfig(**({"clusters": 4, "refine": "none", "window": 1.0} | changes))


def frozen(**changes):
    settings = config(**changes)
    return Moca(ColorEncoder(), None, None if settings.refine == "none" else SuperpixelProposer(), settings)


def ious(masks, truth):
    return np.diag(pairwise_iou(masks, truth))


HEARD = ["red", "blue", "", "green", "red"]


@pytest.mark.parametrize(
    ("changes", "least"),
    [
        ({}, 0.8),
        ({"cluster_space": "trunk"}, 0.8),
        ({"masks": "heat", "heat_share": 0.16}, 0.7),
        ({"refine": "mpm"}, 0.95),
        ({"refine": "best"}, 0.95),
        ({"refine": "heat", "area_power": 0.2}, 0.95),
        ({"sounding": "threshold", "sounding_threshold": 0.7}, 0.8),
        ({"batch": 2, "upsample": 1, "starts": 2}, 0.65),
    ],
    ids=str,
)
def test_the_box_that_hums_is_found_and_silence_is_empty(changes, least):
    clip, truth = video(HEARD)
    result = frozen(**changes)(clip)
    assert result.reasons == ("", "", "silent", "", "")
    sounding = np.array([0, 1, 3, 4])
    assert (ious(result.masks[sounding], truth[sounding]) > least).all()
    assert not result.masks[2].any()
    assert (result.scores[sounding] > 0.5).all()
    assert result.scores[2] == 0
    assert (result.heatmaps[2] == 0).all()
    assert np.array_equal(result.times, clip.times)


def test_heat_maps_are_half_of_one_plus_cosine():
    clip, _ = video(["red"])
    encoder = ColorEncoder()
    joint = encoder.joint_features(encoder.image_stem(encoder.prepare_images(clip.frames)))[0].numpy()
    heard = encoder.encode_audio(encoder.prepare_audio(clip.sound, RATE)[None]).embedding[0].numpy()
    lengths = np.linalg.norm(joint, axis=0) * np.linalg.norm(heard)
    expected = (1 + np.einsum("dhw,d->hw", joint, heard) / lengths) / 2
    heat = frozen()(clip).heatmaps[0]
    np.testing.assert_allclose(heat, expected, atol=1e-3)
    assert heat[3, 3] > 0.9 > 0.4 > heat[8, 12]  # in the red box, in the blue one


def test_two_sounds_at_once_can_give_two_boxes():
    red, blue = video(["red"]), video(["blue"])
    clip = Clip(red[0].frames, red[0].times, red[0].sound + blue[0].sound, RATE)
    both = frozen(sounding="threshold", sounding_threshold=0.3)(clip).masks
    assert pairwise_iou(both, red[1] | blue[1]) > 0.7
    assert pairwise_iou(frozen()(clip).masks, red[1] | blue[1]) < 0.6


@pytest.mark.parametrize("refine", ["mpm", "best"])
def test_two_sounds_at_once_can_be_matched_each_by_itself(refine):
    red, blue = video(["red"]), video(["blue"])
    clip = Clip(red[0].frames, red[0].times, red[0].sound + blue[0].sound, RATE)
    choices = {"sounding": "threshold", "sounding_threshold": 0.3, "refine": refine}
    one = frozen(**choices, when_unmatched="empty")(clip).masks
    two = frozen(**choices, when_unmatched="empty", max_sources=2)(clip).masks
    assert ious(two, red[1] | blue[1])[0] > 0.95
    assert ious(one, red[1] | blue[1])[0] < 0.7  # no one thing is both


def test_source_size_is_kept_and_large_frames_are_worked_on_small():
    clip, truth = video(["red", "green"])
    large = np.repeat(np.repeat(clip.frames, 5, 1), 8, 2)  # 640 x 1024
    wide = np.repeat(np.repeat(truth, 5, 1), 8, 2)
    result = frozen(refine="best")(Clip(large, clip.times, clip.sound, RATE))
    assert result.masks.shape == wide.shape
    assert (ious(result.masks, wide) > 0.93).all()


def test_why_frames_are_empty():
    clip, _ = video(["red", "red"])
    mute = Clip(clip.frames, clip.times, np.zeros(0, np.float32), RATE)
    assert frozen()(mute).reasons == ("no sound", "no sound")
    late = Clip(clip.frames, np.array([0.5, 11.5]), clip.sound, RATE)
    assert frozen()(late).reasons == ("", "no sound")
    assert frozen(similarity=0.999)(clip).reasons == ("below threshold",) * 2
    assert frozen(sounding="threshold", sounding_threshold=0.9999)(clip).reasons == ("below threshold",) * 2
    unmatched = frozen(refine="mpm", match_iou=1.0, when_unmatched="empty")(clip)
    assert unmatched.reasons == ("no proposal",) * 2
    for result in (frozen()(mute), frozen(similarity=0.999)(clip), unmatched):
        assert not result.masks.any()


def test_no_frames_give_no_answers():
    clip, _ = video(["red"])
    empty = Clip(clip.frames[:0], clip.times[:0], clip.sound, RATE)
    assert frozen()(empty).masks.shape == (0, SIDE, SIDE)


def test_the_recordings_noise_floor_can_be_given():
    """A piece cut out of a long video knows the video's floor, not only its own."""
    clip, _ = video(["", ""], room=-50)
    assert frozen()(clip).reasons == ("not above the recording's own floor",) * 2
    known = Clip(clip.frames, clip.times, clip.sound, RATE, noise_floor=-75.0)
    assert frozen()(known).reasons == ("", "")


def test_the_gate_and_the_ear_have_their_own_windows():
    """A frame in a quiet second, a second from the next sound: the ear could hear it, the gate does not."""
    clip, _ = video(["red", "", "", "red"])
    assert frozen(window=3.0)(clip).reasons == ("", "silent", "silent", "")
    assert frozen(window=1.0, gate_window=3.0)(clip).reasons == ("", "", "", "")


def test_sound_times_choose_the_second():
    clip, truth = video(["red", "blue"])
    moved = Clip(clip.frames, clip.times, clip.sound, RATE, sound_times=clip.times[::-1].copy())
    assert (ious(frozen()(moved).masks, truth[::-1]) > 0.8).all()


def test_nothing_is_computed_twice_or_in_vain():
    clip, _ = video(["red", "", "red", "red", ""])
    same = Clip(clip.frames, clip.times, np.tile(LOW.tone("red"), 5).astype(np.float32), RATE)
    encoder = ColorEncoder()
    method = Moca(encoder, None, None, config())
    assert method(clip).reasons == ("", "silent", "", "", "silent")
    assert (encoder.sounds_encoded, encoder.images_encoded) == (3, 1)  # five equal frames, two silent
    method(same)
    assert (encoder.sounds_encoded, encoder.images_encoded) == (4, 1)  # five equal sounds


def test_batches_do_not_matter():
    clip, _ = video(HEARD)
    one, all_at_once = frozen(batch=1)(clip), frozen(batch=8)(clip)
    assert np.array_equal(one.masks, all_at_once.masks)
    assert np.array_equal(one.scores, all_at_once.scores)
    assert np.array_equal(one.heatmaps, all_at_once.heatmaps)


@pytest.mark.parametrize("make", [TinyTransformer, TinyConvolution])
def test_zero_gates_are_the_frozen_method(make):
    encoder = make()
    clip, _ = video(HEARD)
    plain = Moca(encoder, None, None, config())(clip)
    fused = Moca(encoder, AdapterSet(encoder, count=2), None, config())(clip)
    for field in ("masks", "heatmaps", "scores", "times"):
        assert np.array_equal(getattr(plain, field), getattr(fused, field))
    assert plain.reasons == fused.reasons


@pytest.mark.parametrize("make", [TinyTransformer, TinyConvolution])
def test_another_clips_sound_reaches_the_adapters_only(make):
    encoder = make()
    adapters = open_gates(AdapterSet(encoder, count=2), 2.0)
    method = Moca(encoder, adapters, None, config())
    clip, _ = video(["red", "", "blue"])
    other, _ = video(["green", "green", ""])
    right, wrong = method(clip), method(clip, adapter_clip=other)
    assert right.reasons == wrong.reasons == ("", "silent", "")  # the gate hears the clip itself
    assert not np.allclose(right.heatmaps[0], wrong.heatmaps[0])
    again = method(clip, adapter_clip=clip)
    assert np.array_equal(again.heatmaps, right.heatmaps)
    silent_gates = Moca(encoder, AdapterSet(encoder, count=2), None, config())
    assert np.array_equal(silent_gates(clip).heatmaps, silent_gates(clip, adapter_clip=other).heatmaps)
    short = Clip(other.frames[:1], other.times[:1], other.sound[:RATE], RATE)
    assert method(clip, adapter_clip=short).reasons == ("", "silent", "")
    with pytest.raises(UsageError, match="adapter_clip has no sound"):
        method(clip, adapter_clip=Clip(other.frames, other.times, other.sound[:0], RATE))


def test_weights_are_not_touched():
    encoder = TinyTransformer()
    adapters = open_gates(AdapterSet(encoder, count=2))
    before = encoder.weights_hash(), adapters.weights_hash()
    Moca(encoder, adapters, None, config())(video(["red"])[0])
    assert (encoder.weights_hash(), adapters.weights_hash()) == before


def test_settings_say_everything():
    encoder = TinyTransformer()
    adapters = AdapterSet(encoder, count=2)
    method = Moca(encoder, adapters, SuperpixelProposer(), config(refine="mpm"))
    settings = json.loads(json.dumps(method.settings))
    assert settings == method.settings == method(video(["red"])[0]).settings
    assert settings["method"] == "moca"
    assert settings["encoder"]["weights"] == encoder.weights_hash()
    assert settings["adapters"]["weights"] == adapters.weights_hash()
    assert settings["adapters"]["pairs"] == [[2, 1], [3, 2]]
    assert settings["proposer"]["name"] == "superpixels"
    assert settings["window"] == 1.0
    assert settings["versions"]["torch"] == torch.__version__
    plain = Moca(encoder, None, None, config()).settings
    assert (plain["method"], plain["adapters"], plain["proposer"]) == ("frozen", None, None)


def test_a_share_of_the_heat():
    heat = np.random.default_rng(0).random((10, 20)).astype(np.float32)
    for share, count in ((0.1, 20), (0.0, 1), (1.0, 200), (0.123, 25)):
        mask = top_share(heat, share)
        assert mask.sum() == count
        assert heat[mask].min() >= heat[~mask].max(initial=-1)


def test_proposals_need_a_proposer():
    with pytest.raises(UsageError, match="needs a proposer"):
        Moca(ColorEncoder(), None, None, MocaConfig(refine="mpm"))


@pytest.mark.parametrize(
    "changes",
    [
        {"masks": "all"},
        {"clusters": 0},
        {"window": 0},
        {"refine": "sam"},
        {"heat_share": 1.5},
        {"similarity": "x"},
    ],
    ids=str,
)
def test_settings_that_do_not_exist_are_refused(changes):
    with pytest.raises(UsageError, match="found"):
        MocaConfig(**changes)


def test_settings_travel_as_json():
    settings = MocaConfig(masks="heat", window=1.5)
    assert MocaConfig.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    with pytest.raises(UsageError, match="unknown settings widow"):
        MocaConfig.from_dict({"widow": 2})
