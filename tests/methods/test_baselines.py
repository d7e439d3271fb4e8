"""The training-free baselines in a world of colors and tones: it is known which pixels should answer."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.color_models import (
    ColorDetector,
    ColorGrounder,
    ColorProposer,
    ColorSegmenter,
    CropEncoder,
    ToneTagger,
)
from helpers.color_world import RATE, video
from moca_avs.clip import Clip
from moca_avs.errors import UsageError
from moca_avs.methods.baselines import (
    AtGdinoSam,
    OwodBind,
    SamBind,
    above_threshold,
    box_crops,
    embed_crops,
    mask_crops,
    paint_heatmap,
)
from moca_avs.methods.config import BaselineConfig
from moca_avs.proposals.masks import pairwise_iou


def build(name, classifier=None, **changes):
    config = BaselineConfig(**({"window": 1.0} | changes))
    if name == "at-gdino-sam":
        return AtGdinoSam(ToneTagger(), ColorGrounder(), ColorSegmenter(), config, classifier=classifier)
    if name == "owod-bind":
        return OwodBind(CropEncoder(), ColorDetector(), ColorSegmenter(), config, classifier)
    return SamBind(CropEncoder(), ColorProposer(), config, classifier)


BASELINES = ("at-gdino-sam", "owod-bind", "sam-bind")
HEARD = ["red", "blue", "", "green", "red"]
every_baseline = pytest.mark.parametrize("name", BASELINES)


def ious(masks, truth):
    return np.diag(pairwise_iou(masks, truth))


@every_baseline
def test_what_hums_is_found_and_silence_is_empty(name):
    clip, truth = video(HEARD)
    result = build(name)(clip)
    assert result.reasons == ("", "", "silent", "", "")
    sounding = np.array([0, 1, 3, 4])
    assert (ious(result.masks[sounding], truth[sounding]) > 0.9).all()
    assert not result.masks[2].any()
    assert (result.scores[sounding] > 0.5).all()
    assert result.scores[2] == 0
    assert (result.heatmaps[2] == 0).all()
    assert result.labels is None
    assert np.array_equal(result.times, clip.times)


@every_baseline
def test_another_sound_another_mask(name):
    red, blue = video(["red"]), video(["blue"])
    swapped = replace(red[0], sound=blue[0].sound)
    masks = np.stack([build(name)(red[0]).masks[0], build(name)(swapped).masks[0]])
    assert not (masks[0] & masks[1]).any()
    assert (ious(masks, np.concatenate([red[1], blue[1]])) > 0.9).all()


@every_baseline
def test_heat_is_higher_where_it_hums(name):
    clip, truth = video(["green"])
    _, others = video(["blue"])
    heat = np.kron(build(name)(clip).heatmaps[0].astype(float), np.ones((8, 8)))
    assert heat.min() >= 0
    assert heat.max() <= 1
    assert heat[truth[0]].mean() > heat[others[0]].mean() + 0.2


@every_baseline
def test_permuted_frames_give_permuted_answers(name):
    clip, _ = video(HEARD)
    order = np.array([3, 0, 4, 2, 1])
    # Each frame keeps its own second: the image is tinted, so that no two frames are equal.
    frames = np.stack([np.clip(f.astype(int) + 3 * k, 0, 255) for k, f in enumerate(clip.frames)])
    clip = replace(clip, frames=frames.astype(np.uint8))
    moved = Clip(clip.frames[order], np.arange(5) + 0.5, clip.sound, RATE, sound_times=clip.times[order])
    plain, permuted = build(name)(clip), build(name, batch=2, crop_batch=3)(moved)
    assert np.array_equal(permuted.masks, plain.masks[order])
    np.testing.assert_allclose(permuted.heatmaps, plain.heatmaps[order], atol=1e-3)
    np.testing.assert_allclose(permuted.scores, plain.scores[order], rtol=1e-4)
    assert permuted.reasons == tuple(plain.reasons[k] for k in order)


@every_baseline
def test_two_sounds_at_once_give_two_things(name):
    red, blue = video(["red"]), video(["blue"])
    both = replace(red[0], sound=red[0].sound + blue[0].sound)
    found = build(name, tag_threshold=0.4)(both).masks
    assert ious(found, red[1] | blue[1])[0] > 0.9


@every_baseline
def test_nothing_heard_is_empty(name):
    clip, _ = video(["red", "red"])
    mute = replace(clip, sound=np.zeros(0, np.float32))
    still = replace(clip, sound=clip.sound * 1e-6)
    for quiet, reason in ((mute, "no sound"), (still, "silent")):
        result = build(name)(quiet)
        assert result.reasons == (reason, reason)
        assert not result.masks.any()
        assert not result.heatmaps.any()


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("at-gdino-sam", {"tag_threshold": 1.0}, "no tag"),
        ("owod-bind", {"objectness": 0.95}, "no box"),
        ("owod-bind", {"score": "literal", "bind_threshold": 1.0}, "below threshold"),
        ("sam-bind", {"score": "literal", "bind_threshold": 1.0}, "below threshold"),
    ],
)
def test_why_frames_are_empty(name, changes, reason):
    result = build(name, **changes)(video(["red"])[0])
    assert result.reasons == (reason,)
    assert not result.masks.any()
    assert result.scores[0] == 0


@pytest.mark.parametrize(
    ("name", "reason"), list(zip(BASELINES, ("no box", "no box", "no proposal"), strict=True))
)
def test_an_empty_image_is_empty(name, reason):
    clip, _ = video(["red"])
    gray = replace(clip, frames=np.full_like(clip.frames, 110))
    method = build(name)
    if name == "sam-bind":
        method.proposer = lambda frame: np.zeros((0, *frame.shape[:2]), bool)
    assert method(gray).reasons == (reason,)


def test_the_grounder_is_asked_what_was_heard():
    method = build("at-gdino-sam")
    method(video(["red", "", "blue"])[0])
    assert method.grounder.asked == [["red"], ["blue"]]


def test_a_rescaled_tag_is_a_share_of_the_likeliest():
    red, blue = video(["red"]), video(["blue"])
    mixed = replace(red[0], sound=red[0].sound + 0.85 * blue[0].sound)  # power: .58 and .42
    assert build("at-gdino-sam").grounder.asked == []
    shares = {}
    for how in ("literal", "rescaled"):
        method = build("at-gdino-sam", tag_score=how, tag_threshold=0.6)
        result = method(mixed)
        shares[how] = method.grounder.asked, result.reasons[0]
    assert shares == {"literal": ([], "no tag"), "rescaled": ([["red"], ["blue"]], "")}


def test_the_same_image_is_looked_at_once():
    clip, _ = video(["red", "blue", "green"])
    method = build("owod-bind")
    method(clip)
    method(clip)
    assert method.detector.asked == 1
    assert method.encoder.images_encoded == 3


@every_baseline
def test_large_frames_come_back_at_their_size(name):
    clip, truth = video(["red"])
    large = replace(clip, frames=np.repeat(np.repeat(clip.frames, 5, 1), 8, 2))
    result = build(name)(large)
    wide = np.repeat(np.repeat(truth, 5, 1), 8, 2)
    assert result.masks.shape == wide.shape
    assert ious(result.masks, wide)[0] > 0.9


@every_baseline
def test_settings_say_which_rule_ran(name):
    method = build(name, score="literal", tag_threshold=0.25)
    settings = json.loads(json.dumps(method.settings))
    assert settings == method.settings == method(video(["red"])[0]).settings
    assert (settings["method"], settings["score"], settings["tag_threshold"]) == (name, "literal", 0.25)
    assert settings["versions"]["torch"] == torch.__version__
    parts = {
        "at-gdino-sam": {"tagger": "tones", "grounder": "colors", "segmenter": "color masks"},
        "owod-bind": {"detector": "color boxes", "segmenter": "color masks", "encoder": "color"},
        "sam-bind": {"proposer": "colors", "encoder": "color"},
    }
    assert {part: settings[part]["name"] for part in parts[name]} == parts[name]


def test_the_papers_thresholds_are_the_defaults():
    config = BaselineConfig()
    assert (config.tag_threshold, config.objectness, config.bind_threshold) == (0.5, 0.5, 0.7)
    assert config.score == "rescaled"


@pytest.mark.parametrize(
    ("cosine", "rescaled", "literal"),
    [
        ([0.1, 0.2, 0.3], [0, 0, 1], [0, 0, 0]),
        ([0.71, 0.9, 0.69], [0, 1, 0], [1, 1, 0]),
        ([-0.2, 0.25, 0.3], [0, 1, 1], [0, 0, 0]),
        ([0.05], [1], [0]),
        ([0.3, 0.3], [1, 1], [0, 0]),
        ([], [], []),
    ],
)
def test_the_two_rules(cosine, rescaled, literal):
    cosine = np.array(cosine, np.float32)
    assert above_threshold(cosine, BaselineConfig()).tolist() == [bool(x) for x in rescaled]
    assert above_threshold(cosine, BaselineConfig(score="literal")).tolist() == [bool(x) for x in literal]


def test_crops_show_the_box_and_nothing_else():
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    boxes = np.array(
        [[3, 4, 10, 9], [2.2, 3.7, 5.1, 6.0], [-5, -5, 100, 100], [29.9, 19.9, 40, 40], [7, 7, 7, 7]]
    )
    crops = list(box_crops(frame, boxes.astype(np.float32)))
    expected = [frame[4:9, 3:10], frame[3:6, 2:6], frame, frame[19:, 29:], frame[7:8, 7:8]]
    for crop, right in zip(crops, expected, strict=True):
        assert np.array_equal(crop, right)


def test_masked_crops_hide_the_ground_behind_the_things_mean_color():
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    mask = np.zeros((20, 30), bool)
    mask[5:9, 6:12] = True
    mask[5, 6:9] = False
    (crop,) = mask_crops(frame, mask[None])
    assert crop.shape == (4, 6, 3)
    assert np.array_equal(crop[mask[5:9, 6:12]], frame[mask])
    assert np.abs(crop[0, 0] - frame[mask].mean(0)).max() <= 0.5
    assert (crop[0, :3] == crop[0, 0]).all()


def test_embeddings_are_unit_vectors_whatever_the_batch():
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (h, w, 3)).astype(np.uint8) for h, w in ((4, 9), (64, 64), (100, 3))]
    one, many = (embed_crops(CropEncoder(), crops, batch) for batch in (1, 8))
    np.testing.assert_allclose(one, many, atol=1e-6)
    np.testing.assert_allclose(one.norm(dim=1), 1, atol=1e-6)
    assert embed_crops(CropEncoder(), [], 4).shape == (0, 4)


def test_heat_is_the_highest_value_that_covers_a_pixel():
    regions = np.zeros((3, 8, 12), bool)
    regions[0, :4], regions[1, :, :6], regions[2, 6:] = True, True, True
    values = np.array([0.5, 0.25, 0.75], np.float32)
    slow = [
        [max([v for r, v in zip(regions, values, strict=True) if r[y, x]], default=0) for x in range(12)]
        for y in range(8)
    ]
    pooled = np.array(slow).reshape(4, 2, 4, 3).mean((1, 3))
    np.testing.assert_allclose(paint_heatmap(regions, values, 4), pooled, atol=1e-3)
    assert not paint_heatmap(regions[:0], values[:0], 4).any()


@pytest.mark.parametrize(
    "changes",
    [
        {"score": "best"},
        {"tag_score": "max"},
        {"tag_threshold": 2},
        {"crop_batch": 0},
        {"proposals": "dogs"},
        {"window": 0},
    ],
    ids=str,
)
def test_settings_that_do_not_exist_are_refused(changes):
    with pytest.raises(UsageError, match="found"):
        BaselineConfig(**changes)
