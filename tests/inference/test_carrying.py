"""Masks carried through videos whose true masks are known: a textured disk moves over a textured ground."""

import json

import numpy as np
import pytest
from PIL import Image

from helpers.color_models import ColorProposer
from helpers.media_files import bark, look, make_video
from helpers.tiny_encoders import TinyConvolution
from moca_avs.clip import Segmentation
from moca_avs.errors import UsageError
from moca_avs.inference import carrying
from moca_avs.inference.carrying import MaskCarrier, MaskTrack
from moca_avs.inference.inputs import JobSpec
from moca_avs.inference.job import SegmentOptions
from moca_avs.inference.segment import segment_all
from moca_avs.io.frames import probe
from moca_avs.methods.config import MocaConfig
from moca_avs.methods.moca import Moca

HEIGHT, WIDTH, RATE = 90, 160, 20


def texture(seed, height, width):
    """Noise of several scales: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for size in (2, 4, 8, 16):
        noise = rng.integers(0, 256, (height // size + 2, width // size + 2, 3)).astype(np.uint8)
        total += (
            np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC), float) / 4
        )
    return np.clip((total - 128) * 1.6 + 128, 0, 255).astype(np.uint8)


def moving_disk(count, seed=0, speed=2, ground=-1, radius=16):
    """Frames uint8 [count, H, W, 3] and masks bool [count, H, W]; speeds are in pixels a frame."""
    back, front = texture(seed, HEIGHT, WIDTH + count), texture(seed + 50, HEIGHT, WIDTH)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frames, masks = [], []
    for step in range(count):
        shift = step if ground < 0 else count - step
        left = 30 + speed * step
        mask = (y - HEIGHT / 2) ** 2 + (x - left) ** 2 < radius**2
        moved = np.roll(front, left, axis=1)
        frames.append(np.where(mask[..., None], moved, back[:, shift * abs(ground) :][:, :WIDTH]))
        masks.append(mask)
    return np.stack(frames), np.stack(masks)


def iou(one, other):
    return (one & other).sum() / max((one | other).sum(), 1)


def gray(frames):
    return frames.mean(-1).round().astype(np.uint8)


@pytest.mark.parametrize("speed", [0, 1, 2, 3])
def test_a_mask_follows_what_moves_for_a_second(speed):
    frames, masks = moving_disk(RATE + 1, speed=speed)
    for order in (slice(None), slice(None, None, -1)):
        grays, truth = gray(frames)[order], masks[order]
        track = MaskTrack(truth[0], grays[0])
        found = [track.mask(track.step(one))[0] for one in grays[1:]]
        assert iou(found[RATE // 2 - 1], truth[RATE // 2]) > 0.9
        assert iou(found[-1], truth[-1]) > 0.8


def test_labels_move_with_their_mask():
    frames, masks = moving_disk(11)
    labels = np.where(np.arange(WIDTH) < 30, 3, 7).astype(np.uint8) * masks[0]
    track = MaskTrack(masks[0], gray(frames)[0])
    for one in gray(frames)[1:]:
        place = track.step(one)
    mask, found = track.mask(place, labels)
    expected = np.where(np.arange(WIDTH) < 50, 3, 7) * masks[-1]
    assert ((found > 0) == mask).all()
    assert (found == expected)[mask & masks[-1]].mean() > 0.9


def looked_at(times, masks, reasons=None, labels=None):
    count = len(times)
    return Segmentation(
        masks=masks,
        heatmaps=np.full((count, 2, 2), 0.5, np.float16),
        scores=np.linspace(0.5, 0.9, count).astype(np.float32),
        reasons=tuple(reasons or [""] * count),
        times=np.asarray(times, float),
        labels=labels,
    )


def joined(parts):
    parts = list(parts)
    return {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("masks", "scores", "times", "carried_from", "heatmaps")
    } | {"reasons": [reason for part in parts for reason in part.reasons]}


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    """Two shots of a second and a half each, with a disk that moves: path and true masks."""
    parts = [moving_disk(30, seed, ground=0) for seed in (1, 2)]
    frames, masks = (np.concatenate(found) for found in zip(*parts, strict=True))
    path = tmp_path_factory.mktemp("shots") / "shots.mkv"
    return make_video(path, frames, fps=RATE, codec="ffv1"), masks


def test_every_frame_has_the_mask_of_its_interval_and_its_shot(shots):
    path, masks = shots
    at = [10, 29, 50]  # the frames on screen at 0.5 s, 1.45 s and 2.5 s
    given = looked_at([0.5, 1.45, 2.5], masks[at], ["", "", ""])
    found = joined(MaskCarrier(path, 1.0, 0.0, None).expand(given))
    np.testing.assert_allclose(found["times"], np.arange(60) / RATE, atol=1e-3)
    ends = [("" if index < 30 or index >= 40 else "cut") for index in range(60)]
    assert found["reasons"] == ends
    for index in range(60):
        number = index // 20
        if ends[index]:
            assert not found["masks"][index].any()
            assert found["scores"][index] == 0
            assert not found["heatmaps"][index].any()
        else:
            assert iou(found["masks"][index], masks[index]) > 0.8
            assert found["scores"][index] == given.scores[number]
            assert (found["heatmaps"][index] == 0.5).all()
        if index in at:
            assert np.isnan(found["carried_from"][index])
            np.testing.assert_array_equal(found["masks"][index], masks[index])
        else:
            assert found["carried_from"][index] == given.times[number]


def test_chunks_and_blocks_change_nothing(shots, monkeypatch):
    path, masks = shots
    given = looked_at([0.25, 0.75, 1.25, 1.75], masks[[5, 15, 25, 35]], ["", "silent", "", ""])
    given.masks[1] = False
    whole = joined(MaskCarrier(path, 2.0, 0.0, 2.0).expand(given))
    monkeypatch.setattr(carrying, "_BLOCK_BYTES", 3 * masks[0].size)
    carrier, parts = MaskCarrier(path, 2.0, 0.0, 2.0), []
    for row in range(4):
        one = looked_at(given.times[[row]], given.masks[[row]], [given.reasons[row]])
        object.__setattr__(one, "scores", given.scores[[row]])
        parts += carrier.expand(one)
    assert max(len(part) for part in parts) == 3
    again = joined(parts)
    for name in whole:
        np.testing.assert_array_equal(again[name], whole[name])
    assert whole["reasons"][10:20] == ["silent"] * 10
    assert not whole["masks"][10:20].any()


def test_no_mask_is_carried_too_far(tmp_path, monkeypatch):
    monkeypatch.setattr(carrying, "REACH", 0.3)
    frames, masks = moving_disk(60, speed=0, ground=0)
    path = make_video(tmp_path / "long.mkv", frames, fps=RATE, codec="ffv1")
    found = joined(MaskCarrier(path, 0.5, 0.0, None).expand(looked_at([1.0, 2.5], masks[[20, 50]])))
    far = np.minimum(np.abs(found["times"] - 1.0), np.abs(found["times"] - 2.5)) > 0.3 + 1e-3
    assert [reason == "too far" for reason in found["reasons"]] == far.tolist()
    np.testing.assert_array_equal(found["masks"].any((1, 2)), ~far)


def test_stretches_begin_in_the_middle(shots):
    path, masks = shots
    found = joined(MaskCarrier(path, 1.0, 1.7, 2.9).expand(looked_at([2.2, 2.85], masks[[44, 57]])))
    np.testing.assert_allclose(found["times"], np.arange(34, 58) / RATE, atol=1e-3)
    assert min(iou(one, other) for one, other in zip(found["masks"], masks[34:58], strict=True)) > 0.8


def test_segmenting_with_propagation_writes_every_frame(tmp_path):
    frames, _ = moving_disk(50)
    video = make_video(tmp_path / "a.mp4", frames, fps=RATE, sound=bark(2.5)[None])

    def load():
        return Moca(TinyConvolution(), None, ColorProposer(), MocaConfig(clusters=2, window=1.0))

    jobs = [JobSpec(video, tmp_path / name) for name in ("flow", "none")]
    for job in jobs:
        options = SegmentOptions(fps=1.0, propagate=job.folder.name)
        (outcome,) = segment_all([job], load, options, progress=False)
        assert outcome.state == "done", outcome.message
        assert outcome.frames == {"flow": 50, "none": 3}[job.folder.name]
    flow, none = (Segmentation.load(job.folder) for job in jobs)
    assert len(list((jobs[0].folder / "masks").iterdir())) == len(flow) == 50
    given = np.isnan(flow.carried_from)
    assert none.carried_from is None
    np.testing.assert_allclose(flow.times[given], none.times, atol=0.06)
    np.testing.assert_array_equal(flow.masks[given], none.masks)
    for index, origin in enumerate(flow.carried_from[~given]):
        row = np.flatnonzero(none.times == origin)[0]
        assert flow.reasons[np.flatnonzero(~given)[index]] == none.reasons[row]
    entries = json.loads((jobs[0].folder / "result.json").read_text())["frames"]
    assert ["carried_from" in entry for entry in entries] == (~given).tolist()
    assert look(jobs[0].folder / "overlay.mp4")[:4] == look(jobs[1].folder / "overlay.mp4")[:4]
    again = flow.save(tmp_path / "again", overlay=True)
    assert probe(again / "overlay.mp4").duration == probe(jobs[0].folder / "overlay.mp4").duration
    np.testing.assert_array_equal(Segmentation.load(again).carried_from, flow.carried_from)


def test_an_unknown_propagation_is_refused():
    with pytest.raises(UsageError, match="propagate must be"):
        SegmentOptions(propagate="magic")
