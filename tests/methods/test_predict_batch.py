"""Several clips asked about at once get what each gets alone, and fill the batches together."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.color_models import ColorProposer, CropEncoder
from helpers.color_world import video
from helpers.tiny_encoders import TinyConvolution, TinyTransformer, open_gates
from moca_avs.clip import Clip
from moca_avs.methods.base import BatchedMethod
from moca_avs.methods.baselines import SamBind
from moca_avs.methods.config import BaselineConfig, MocaConfig
from moca_avs.methods.moca import Moca
from moca_avs.model.adapter import AdapterSet


def clips():
    """Of other lengths, sizes and rates; one silent, one without sound, one without frames."""
    rng = np.random.default_rng(5)

    def noisy(clip, height, width, rate):
        frames = rng.integers(0, 256, (len(clip), height, width, 3)).astype(np.uint8)
        return replace(clip, frames=frames, sample_rate=rate, times=clip.times * 2000 / rate)

    first, second, third = (video(heard)[0] for heard in (["red", "", "blue"], ["green"], ["blue"] * 5))
    silent = Clip(first.frames, first.times, np.zeros_like(first.sound), 2000)
    mute = Clip(first.frames, first.times, first.sound[:0], 2000)
    empty = Clip(first.frames[:0], first.times[:0], first.sound, 2000)
    return [
        noisy(first, 40, 60, 2000),
        silent,
        noisy(second, 50, 30, 4000),
        mute,
        empty,
        noisy(third, 40, 60, 1000),
    ]


def build(make, **changes):
    encoder = make()
    torch.manual_seed(0)  # of the adapters
    config = MocaConfig(**({"window": 1.0, "clusters": 3, "proposals": "superpixels"} | changes))
    return Moca(encoder, open_gates(AdapterSet(encoder, count=2), 2.0), ColorProposer(), config)


def check(result, alone):
    """Equal bit for bit."""
    assert result.reasons == alone.reasons
    for field in ("masks", "times", "heatmaps", "scores"):
        assert np.array_equal(getattr(result, field), getattr(alone, field))
    assert result.settings == alone.settings


@pytest.mark.parametrize("make", [TinyTransformer, TinyConvolution])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batch": 2},
        {"batch": 100},
        {"masks": "heat"},
        {"refine": "none"},
        {"sounding": "threshold", "sounding_threshold": -0.5},
    ],
    ids=str,
)
def test_each_clip_gets_what_it_gets_alone(make, changes):
    together = build(make, **changes).predict_batch(clips())
    assert len(together) == 6
    assert sum(not reason for result in together for reason in result.reasons) >= 5
    for clip, result in zip(clips(), together, strict=True):
        check(result, build(make, **changes)(clip))


def test_the_order_of_clips_does_not_matter():
    order = [5, 2, 0, 4, 1, 3]
    there = build(TinyTransformer).predict_batch(clips())
    back = build(TinyTransformer).predict_batch([clips()[index] for index in order])
    for index, result in zip(order, back, strict=True):
        check(result, there[index])


def test_pieces_of_one_clip_can_be_asked_about_together():
    whole = clips()[5]
    pieces = [replace(whole, frames=whole.frames[i], times=whole.times[i]) for i in (slice(2), slice(2, 5))]
    first, second = build(TinyConvolution).predict_batch(pieces)
    alone = build(TinyConvolution)(whole)
    assert np.array_equal(np.concatenate([first.masks, second.masks]), alone.masks)
    assert first.reasons + second.reasons == alone.reasons


@pytest.mark.parametrize("make", [TinyTransformer, TinyConvolution])
def test_masks_do_not_depend_on_the_batch(make):
    alone = build(make, batch=1).predict_batch(clips())
    for batch in (2, 3, 5, 8):
        for one, result in zip(alone, build(make, batch=batch).predict_batch(clips()), strict=True):
            check(result, replace(one, settings=result.settings))


def test_a_batch_is_filled_from_several_clips():
    """Where an encoder computes on a GPU; a CPU takes them one by one."""
    method = build(TinyConvolution, batch=4)
    method.encoder.device = "cuda:0"
    stem, sizes = method.encoder.image_stem, []
    method.encoder.image_stem = lambda images: sizes.append(len(images)) or stem(images)
    results = method.predict_batch(clips())
    heard = sum(reason not in ("silent", "no sound") for result in results for reason in result.reasons)
    assert (heard, sizes) == (8, [4, 4])
    for clip in clips():  # the same frames again: remembered
        method(clip)
    assert sizes == [4, 4]


def test_equal_samples_at_another_rate_are_another_sound():
    clip = clips()[5]
    slow = replace(clip, sample_rate=500, times=clip.times * 2)
    method = build(TinyConvolution, window=100.0, batch=100)  # all of the sound, for both
    rates = []
    method.encoder.prepare_audio = lambda sound, rate: (
        rates.append(rate) or TinyConvolution.prepare_audio(method.encoder, sound, rate)
    )
    method.predict_batch([clip, slow, clip])
    assert sorted(rates) == [500, 1000]


def test_who_can_do_it():
    encoder = TinyConvolution()
    frozen = Moca(encoder, None, None, MocaConfig(refine="none", window=1.0))
    assert isinstance(frozen, BatchedMethod)
    assert isinstance(build(TinyConvolution), BatchedMethod)
    assert not isinstance(SamBind(CropEncoder(), ColorProposer(), BaselineConfig()), BatchedMethod)
    assert frozen.device.type == "cpu"
    encoder.device = "cuda:1"
    assert (frozen.device.type, frozen.device.index) == ("cuda", 1)
    for clip, result in zip(clips(), frozen.predict_batch(clips()), strict=True):
        check(result, frozen(clip))


@pytest.mark.parametrize("core", [slice(0, 2), slice(1, 4), slice(4, 5)])
def test_only_wanted_frames_are_answered(core):
    method, (clip, _) = build(TinyTransformer, masks="heat"), video(["red", "", "blue", "red", "green"])
    whole, part = method(clip), method(replace(clip, core=core))
    assert part.reasons == whole.reasons[core]
    for name in ("masks", "times", "heatmaps", "scores"):
        assert np.array_equal(getattr(part, name), getattr(whole, name)[core])
