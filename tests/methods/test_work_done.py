"""How often a method asks its parts: never for silence, once for equal frames, nothing twice."""

import numpy as np
import pytest

from helpers.color_models import (
    ColorDetector,
    ColorGrounder,
    ColorProposer,
    ColorSegmenter,
    CropEncoder,
    ToneTagger,
)
from helpers.color_world import video
from helpers.tiny_encoders import TinyConvolution
from moca_avs.clip import Clip
from moca_avs.methods.baselines import AtGdinoSam, OwodBind, SamBind
from moca_avs.methods.config import BaselineConfig, MocaConfig
from moca_avs.methods.moca import Moca
from moca_avs.model.adapter import AdapterSet

METHODS = ("moca", "frozen", "at-gdino-sam", "owod-bind", "sam-bind")


class Asked:
    """A part that notes the frames it was asked about."""

    def __init__(self, part):
        self.part, self.settings, self.frames = part, part.settings, []

    def __getattr__(self, name):
        return getattr(self.part, name)

    def __call__(self, frame, *others):
        self.frames.append(frame.tobytes())
        return self.part(frame, *others)


class CountingCrops(CropEncoder):
    """Counts what it prepares."""

    def __init__(self):
        super().__init__()
        self.prepared = 0

    def prepare_images(self, frames):
        self.prepared += len(frames)
        return super().prepare_images(frames)


class CountingConvolution(TinyConvolution):
    """Counts what it prepares; takes adapters."""

    prepared = 0

    def prepare_images(self, frames):
        self.prepared += len(frames)
        return super().prepare_images(frames)


def build(name, **changes):
    """A method, its encoder (or None), and its image parts."""
    if name in ("moca", "frozen"):
        encoder, proposer = CountingConvolution(), Asked(ColorProposer())
        config = MocaConfig(**({"window": 1.0, "clusters": 2, "proposals": "superpixels"} | changes))
        adapters = AdapterSet(encoder, "last", 2, latents=2, bottleneck=4) if name == "moca" else None
        method = Moca(encoder, adapters, proposer, config)
        return method, encoder, [proposer]
    config, encoder = BaselineConfig(window=1.0), CountingCrops()
    if name == "at-gdino-sam":
        parts = [Asked(ColorGrounder()), Asked(ColorSegmenter())]
        return AtGdinoSam(ToneTagger(), *parts, config), None, parts
    if name == "owod-bind":
        parts = [Asked(ColorDetector()), Asked(ColorSegmenter())]
        return OwodBind(encoder, *parts, config), encoder, parts
    parts = [Asked(ColorProposer())]
    return SamBind(encoder, *parts, config), encoder, parts


def different(clip):
    """The same video, every frame a little different."""
    frames = clip.frames.copy()
    frames[:, 0, 0, 0] = np.arange(len(clip))
    return Clip(frames, clip.times, clip.sound, clip.sample_rate)


@pytest.mark.parametrize("name", METHODS)
def test_silent_frames_are_never_looked_at(name):
    clip = different(video(["", "red", "", "", "blue", ""])[0])
    method, encoder, parts = build(name)
    result = method(clip)
    assert [bool(reason) for reason in result.reasons] == [True, False, True, True, False, True]
    heard = {clip.frames[1].tobytes(), clip.frames[4].tobytes()}
    for part in parts:
        assert set(part.frames) == heard
        assert len(part.frames) == 2
    if name in ("moca", "frozen"):
        assert encoder.prepared == 2
    elif encoder is not None:
        assert encoder.prepared == 2 * (3 if name == "owod-bind" else 4)  # colored things, and the ground


@pytest.mark.parametrize("name", METHODS)
def test_a_video_without_any_sound_asks_nobody(name):
    clip = different(video(["", ""])[0])
    method, encoder, parts = build(name)
    for sound in (clip.sound, clip.sound[:0]):
        method(Clip(clip.frames, clip.times, sound, clip.sample_rate))
    assert encoder is None or encoder.prepared == 0
    assert all(not part.frames for part in parts)


@pytest.mark.parametrize("name", METHODS)
def test_equal_frames_are_looked_at_once_whatever_is_heard(name):
    clip, _ = video(["red", "blue", "red", "green"])
    method, encoder, parts = build(name)
    method(clip)
    method(clip)
    if name in ("moca", "frozen"):
        assert encoder.prepared == 1
    elif encoder is not None:
        assert encoder.prepared == (3 if name == "owod-bind" else 4)
    if name in ("moca", "frozen", "sam-bind"):
        assert len(parts[0].frames) == 1
    if name == "owod-bind":
        assert len(parts[0].frames) == 1  # the detector; what segments depends on the sound


def test_where_the_coarse_mask_may_be_empty_proposals_wait_for_it():
    clip = different(video(["red", "blue", "green"])[0])
    method, _, (proposer,) = build("frozen", sounding="threshold", sounding_threshold=0.999999)
    result = method(clip)
    assert result.reasons == ("below threshold",) * 3
    assert not proposer.frames
    method, _, (proposer,) = build("frozen", sounding="threshold", sounding_threshold=-1.0)
    method(clip)
    assert [frame == clip.frames[i].tobytes() for i, frame in enumerate(proposer.frames)] == [True] * 3
