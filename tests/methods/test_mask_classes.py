"""AVSS labels: which tags stand for which class, which parts are one object, and which class each gets."""

import json
from dataclasses import replace

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
from helpers.color_world import RATE, image, video
from moca_avs.errors import DataError
from moca_avs.methods.baselines import AtGdinoSam, OwodBind, SamBind
from moca_avs.methods.config import BaselineConfig, MocaConfig
from moca_avs.methods.mask_classes import TABLE, TagClassifier, read_classes, separate_objects, tag_classes
from moca_avs.methods.moca import Moca
from moca_avs.proposals.masks import pairwise_iou

CLASSES = {"background": 0, "blue": 7, "red": 3, "green": 255}
# fmt: off
AVSBENCH = (
    "accordion", "airplane", "axe", "baby", "bassoon", "bell", "bird", "boat", "boy", "bus", "car", "cat",
    "cello", "clarinet", "clipper", "clock", "dog", "donkey", "drum", "duck", "elephant", "emergency-car",
    "erhu", "flute", "frying-food", "girl", "goose", "guitar", "gun", "guzheng", "hair-dryer", "handpan",
    "harmonica", "harp", "helicopter", "hen", "horse", "keyboard", "leopard", "lion", "man", "marimba",
    "missile-rocket", "motorcycle", "mower", "parrot", "piano", "pig", "pipa", "saw", "saxophone", "sheep",
    "sitar", "sorna", "squirrel", "tabla", "tank", "tiger", "tractor", "train", "trombone", "truck",
    "trumpet", "tuba", "ukulele", "utv", "vacuum-cleaner", "violin", "wolf", "woman",
)
# fmt: on
BENCH = {name: index for index, name in enumerate(["background", *AVSBENCH])}


def classifier(grounder=None, classes=CLASSES, **changes):
    return TagClassifier(ToneTagger(), grounder or ColorGrounder(), classes, **changes)


def chord(*names):
    videos = [video([name])[0].sound for name in names]
    return np.sum(videos, axis=0)


METHODS = {
    "frozen": lambda named: Moca(
        CropEncoder(), None, ColorProposer(), MocaConfig(refine="mpm", clusters=4, window=1.0), named
    ),
    "at-gdino-sam": lambda named: AtGdinoSam(
        ToneTagger(), ColorGrounder(), ColorSegmenter(), BaselineConfig(tag_threshold=0.4), classifier=named
    ),
    "owod-bind": lambda named: OwodBind(
        CropEncoder(), ColorDetector(), ColorSegmenter(), BaselineConfig(), named
    ),
    "sam-bind": lambda named: SamBind(CropEncoder(), ColorProposer(), BaselineConfig(), named),
}


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_can_name_what_it_finds(name):
    clip, truth = video(["red", "", "blue"])
    result = METHODS[name](classifier())(clip)
    assert result.labels.dtype == np.uint8
    for frame, number in ((0, 3), (2, 7)):
        found = result.labels[frame]
        assert set(np.unique(found)) == {0, number}
        assert pairwise_iou((found == number)[None], truth[frame][None])[0, 0] > 0.85
    assert not result.labels[1].any()
    assert result.settings["labels"]["classes"] == CLASSES
    assert json.loads(json.dumps(result.settings)) == result.settings


def test_two_things_get_their_own_classes():
    red, blue = video(["red"]), video(["blue"])
    both = replace(red[0], sound=chord("red", "blue"))
    labels = METHODS["owod-bind"](classifier())(both).labels[0]
    assert pairwise_iou((labels == 3)[None], red[1])[0, 0] > 0.9
    assert pairwise_iou((labels == 7)[None], blue[1])[0, 0] > 0.9


def parts_of(frame_masks, *names):
    return np.stack([frame_masks[name] for name in names])


def test_the_grounder_decides_between_tags_and_the_sound_where_it_is_blind():
    frame, masks = image()
    parts = parts_of(masks, "red", "blue")
    sound = chord("red", "blue", "blue").astype(np.float32)  # blue is the likelier tag
    named = classifier()(frame, parts, sound, RATE)
    assert set(named[masks["red"]]) == {3}
    assert set(named[masks["blue"]]) == {7}
    assert set(named[~masks["red"] & ~masks["blue"]]) == {0}

    def blind(frame, phrases):
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)

    blind.settings = {}
    assert set(np.unique(classifier(blind)(frame, parts, sound, RATE))) == {0, 7}
    assert set(np.unique(classifier(candidates=1)(frame, parts, sound, RATE))) == {0, 7}


def test_a_sound_that_stands_for_no_class_names_nothing():
    frame, masks = image()
    sound = chord("red").astype(np.float32)
    assert not classifier(classes={"background": 0, "cow": 4})(
        frame, parts_of(masks, "red"), sound, RATE
    ).any()


def test_the_smaller_of_two_overlapping_objects_is_on_top():
    frame, masks = image()
    everything = np.ones_like(masks["red"])
    labels = classifier()(frame, np.stack([masks["red"], everything]), chord("red", "blue"), RATE)
    assert set(labels[masks["red"]]) == {3}
    assert (labels[~masks["red"]] > 0).all()


def test_parts_are_separate_where_they_overlap_by_less_than_three_tenths():
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(50):
        parts = np.zeros((6, 10, 10), bool)
        for part in parts:
            top, left, height, width = rng.integers((0, 0, 0, 1), (7, 7, 6, 7))
            part[top : top + height, left : left + width] = True
        found = separate_objects(parts)
        groups = [{index} for index in range(6) if parts[index].any()]
        joined = True
        while joined:  # merge any two groups with members that overlap enough, until none do
            joined = False
            for a in range(len(groups)):
                for b in range(a + 1, len(groups)):
                    pairs = [(parts[i], parts[j]) for i in groups[a] for j in groups[b]]
                    if any((p & q).sum() >= 0.3 * (p | q).sum() for p, q in pairs):
                        groups[a] |= groups.pop(b)
                        joined = True
                        break
                if joined:
                    break
        expected = {np.any([parts[i] for i in group], axis=0).tobytes() for group in groups}
        assert {mask.tobytes() for mask in found} == expected
        assert len(found) == len(groups)
        outcomes.add(len(groups))
    assert len(outcomes) > 3


def test_avsbenchs_classes_are_all_known_to_the_table():
    assert len(BENCH) == 71
    table = json.loads(TABLE.read_text())
    assert {name.replace("-", " ") for name in AVSBENCH} <= set(table["audioset"])
    indices = [i for entries in table["imagenet"].values() for entry in entries for i in np.ravel(entry)]
    assert min(indices) >= 0
    assert max(indices) < 1000


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("Accordion", "accordion"),
        ("Male speech, man speaking", "man"),
        ("Female singing", "woman"),
        ("Baby cry, infant cry", "baby"),
        ("Vacuum cleaner", "vacuum-cleaner"),
        ("Chicken, rooster", "hen"),
        ("Fixed-wing aircraft, airplane", "airplane"),
        ("Ambulance (siren)", "emergency-car"),
        ("Electric guitar", "guitar"),
        ("Ukulele", "ukulele"),
        ("Machine gun", "gun"),
        ("imagenet 402", "guitar"),
        ("imagenet 207", "dog"),
        ("imagenet 882", "vacuum-cleaner"),
        ("imagenet 291", "lion"),
        ("imagenet 340", ""),  # no zebra among AVSBench's classes
        ("Silence", ""),
        ("imagenet 1", ""),
    ],
)
def test_what_tags_stand_for(tag, name):
    assert tag_classes([tag], BENCH)[0] == (BENCH[name] if name else 0)


def test_a_special_class_is_preferred_to_a_general_one():
    tags = ["Electric guitar", "imagenet 546", "Guitar"]
    assert tag_classes(tags, {"guitar": 1, "electric_guitar": 2}).tolist() == [2, 2, 1]
    assert tag_classes(tags, {"guitar": 1}).tolist() == [1, 1, 1]
    assert tag_classes(["imagenet 291"], {"Lion": 9}).tolist() == [9]


def test_a_list_the_table_does_not_know_is_matched_by_names():
    tags = ["Wind chime", "Sonar, deep", "Toothbrush"]
    assert tag_classes(tags, {"background": 0, "wind-chime": 4, "sonar": 5}).tolist() == [4, 5, 0]


def test_class_lists_are_read_and_refused(tmp_path):
    path = tmp_path / "label2idx.json"
    path.write_text(json.dumps(CLASSES))
    assert read_classes(path) == CLASSES
    for text in ("[1, 2]", '{"dog": "1"}', '{"dog": 256}', '{"dog": true}', "{}", "{"):
        path.write_text(text)
        with pytest.raises(DataError, match="label2idx"):
            read_classes(path)
    with pytest.raises(DataError, match="can't be read"):
        read_classes(tmp_path / "none.json")
