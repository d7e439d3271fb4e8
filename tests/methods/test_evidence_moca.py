"""Several cues in one method: colors of sounds, tiles of wide frames, and what is left without hearing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers.tiny_encoders import TinyConvolution
from moca_avs.clip import Clip
from moca_avs.errors import UsageError
from moca_avs.methods.base import ClipFrame
from moca_avs.methods.config import MocaConfig
from moca_avs.methods.evidence_moca import EvidenceMoca
from moca_avs.model.evidence import Fusion, evidence_grid

FUSION = Fusion({"left": 4.0, "semantic": 0.0, "tags": 1.0}, -2.0, 0.0, 1.0, (1.0, 0.0))


def left(clip: Clip, index: int) -> np.ndarray:
    """Hot at the left third."""
    heat = np.zeros((6, 12), np.float32)
    heat[:, :4] = 1
    return heat


def silent(clip: Clip, index: int) -> None:
    """A cue without anything to say."""


def clip(height: int = 48, width: int = 64) -> Clip:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (2, height, width, 3)).astype(np.uint8)
    return Clip(frames, [0.5, 1.5], rng.uniform(-0.5, 0.5, 32000).astype(np.float32), 16000)


def method(cues: str = "semantic+left+tags", **settings) -> EvidenceMoca:
    config = MocaConfig(cues=cues, refine="none", **settings)
    return EvidenceMoca(
        TinyConvolution(), None, None, config, cues={"left": left, "tags": silent}, fusion=FUSION
    )


@pytest.fixture(autouse=True)
def known(monkeypatch):
    from moca_avs.cues import CUES

    monkeypatch.setitem(CUES, "left", lambda parts, config: left)


def test_the_mask_is_where_the_cue_says():
    found = method()(clip())
    assert found.heatmaps.shape == (2, *evidence_grid((48, 64)))
    assert found.masks[:, :, :20].all()
    assert not found.masks[:, :, 24:].any()
    assert ((found.scores > 0) & (found.scores < 1)).all()
    assert found.reasons == ("", "")


def test_unsure_masks_are_left_out():
    found = method(unsure=1.0)(clip())
    assert found.reasons == ("unsure", "unsure")
    assert not found.masks.any()
    assert (found.scores > 0).all()


def test_a_picture_of_one_color_is_left_empty():
    """A fade to black: every position is supported alike, which is no reason to take them all."""
    frames = clip().frames.copy()
    frames[1] = np.random.default_rng(1).integers(15, 18, frames[1].shape)  # compression noise on black
    faded = replace(clip(), frames=frames)
    found = method()(faded)
    assert found.reasons == ("", "unsure")
    assert found.masks[0].any()
    assert not found.masks[1].any()
    assert found.scores[1] == 0


def test_a_weak_cue_alone_takes_as_much_as_a_strong_one_and_a_flat_one_nothing():
    config = MocaConfig(cues="left", refine="none")

    def masks(weight: float):
        fusion = Fusion({"left": weight}, -2.0, 0.0, 1.0, (1.0, 0.0))
        return EvidenceMoca(TinyConvolution(), None, None, config, cues={"left": left}, fusion=fusion)(clip())

    strong, weak, flat = masks(2.0), masks(0.2), masks(0.0)
    assert np.array_equal(strong.masks, weak.masks)
    assert 0 < weak.masks.mean() < 0.5
    assert flat.reasons == ("unsure", "unsure")
    assert not flat.masks.any()
    assert (flat.scores == 0).all()


def test_wide_frames_are_seen_in_tiles():
    """Each tile's map is that of the tile as a picture of its own."""
    wide = clip(32, 96)
    whole = next(method(max_aspect=2.0)._semantic([ClipFrame(wide, 0)], None) for _ in (0,))[0]
    parts = []
    for start in (0, 32, 64):
        tile = Clip(
            np.ascontiguousarray(wide.frames[:, :, start : start + 32]), wide.times, wide.sound, 16000
        )
        parts.append(method()._semantic([ClipFrame(tile, 0)], None)[0])
    assert np.allclose(whole, np.concatenate(parts, 1), atol=1e-5)


def test_deaf_hears_nothing_and_nothing_may_be_left():
    guessing = method().deaf()
    assert guessing is not None
    assert guessing.names == ["left"]
    one, other = (
        guessing(Clip(clip().frames, clip().times, factor * clip().sound, 16000)) for factor in (1, -0.3)
    )
    assert np.array_equal(one.heatmaps, other.heatmaps)
    assert method("semantic+tags").deaf() is None


def test_names_may_be_a_tuple_and_must_exist():
    assert MocaConfig(cues=("semantic", "tags")).cues == "semantic+tags"
    for wrong in ("semantic+semantic", "smell", ""):
        with pytest.raises(UsageError, match="cues must be"):
            MocaConfig(cues=wrong)
    with pytest.raises(UsageError, match="no cue was given for motion"):
        method("semantic+motion")


def alternating(clip: Clip, index: int) -> np.ndarray:
    """Hot at the left on even seconds, at the right on odd ones."""
    heat = np.zeros((6, 12), np.float32)
    heat[:, :4] = 1
    return heat if int(clip.times[index]) % 2 == 0 else heat[:, ::-1]


def film(cut: float, silent_second: int | None = None) -> Clip:
    """Five seconds at one frame a second, with a cut."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (5, 48, 64, 3)).astype(np.uint8)
    sound = rng.uniform(-0.5, 0.5, 80000).astype(np.float32)
    if silent_second is not None:
        sound[silent_second * 16000 : (silent_second + 1) * 16000] = 0
    times = np.arange(150) / 30
    scenes = (rng.integers(0, 255, (2, 36, 64))).astype(np.uint8)
    return Clip(
        frames,
        np.arange(5) + 0.5,
        sound,
        16000,
        motion_frames=scenes[(times >= cut).astype(int)],
        motion_times=times,
    )


@pytest.mark.parametrize(("cut", "silent_second"), [(9, None), (2, None), (9, 3)])
def test_evidence_is_averaged_within_shots_where_something_is_heard(monkeypatch, cut, silent_second):
    from moca_avs.cues import CUES
    from moca_avs.methods.base import silence_reasons

    monkeypatch.setitem(CUES, "left", lambda parts, config: alternating)
    fusion = Fusion({"left": 4.0}, -2.0, 0.0, 1.0, (1.0, 0.0))

    def built(smoothing: float) -> EvidenceMoca:
        config = MocaConfig(cues="left", refine="none", smoothing=smoothing)
        return EvidenceMoca(TinyConvolution(), None, None, config, cues={"left": alternating}, fusion=fusion)

    clip, method = film(cut, silent_second), built(0.5)
    heard = [not reason for reason in silence_reasons(clip, method.config)]
    assert heard.count(False) == (silent_second is not None)
    alone = np.stack([next(method.cue_maps([ClipFrame(clip, i)]))["left"] * 4 - 2 for i in range(5)])
    expected = []
    for i in range(5):
        near = [k for k in (i - 1, i + 1) if 0 <= k < 5 and heard[k] and (k + 0.5 < cut) == (i + 0.5 < cut)]
        mean = (alone[i] + sum(0.5 * alone[k] for k in near)) / (1 + 0.5 * len(near))
        mean = mean.mean() + (mean - mean.mean()) * max(1, 1.3 / mean.std())  # no cue of objectness
        expected.append(1 / (1 + np.exp(-mean)) if heard[i] else np.zeros_like(mean))
    found = method(clip).heatmaps
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-3)
    assert not np.allclose(found, built(0.0)(clip).heatmaps, atol=1e-2)
    # Pieces of the video with one frame more at each end say the same as the whole.
    for first in range(5):
        low = max(first - 1, 0)
        part = replace(
            clip,
            frames=clip.frames[low : first + 2],
            times=clip.times[low : first + 2],
            core=slice(first - low, first - low + 1),
        )
        assert np.array_equal(method(part).heatmaps[0], found[first])


def test_where_nothing_tells_of_cuts_each_frame_stands_alone():
    pair = clip()
    assert np.array_equal(method(smoothing=1.0)(pair).heatmaps, method(smoothing=0.0)(pair).heatmaps)
