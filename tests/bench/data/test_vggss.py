"""VGG-SS, VGGSound-Single and Flickr-SoundNet as officially laid out, each image with a tone of its own."""

import json

import numpy as np
import pytest

from helpers.media_files import (
    PLANTED_RATE,
    make_image,
    planted_color,
    planted_hertz,
    planted_image,
    planted_sound,
    strongest,
)
from moca_avs.clip import Segmentation
from moca_avs.errors import DataError, UsageError
from moca_avs.io.audio import write_audio
from moca_avs_bench.data import check_dataset, open_evaluation_set
from moca_avs_bench.data.vggsound import LocalizationSet
from moca_avs_bench.evaluation.evaluate import evaluate

HEIGHT, WIDTH, SECONDS = 30, 60, 5
ENTRIES = [
    {"file": "one", "class": "dog, barking", "bbox": [[0.25, 0.5, 0.75, 1.0]]},
    {"file": "two", "class": "cat", "bbox": [[-2.9e16, 0.0, 0.5, 0.5], [0.3, 0.3, 0.3, 0.9]]},
    {"file": "three", "class": "cat", "bbox": [[0.2, 0.2, 0.2, 0.9]]},
]
XML = """<annotation><filename>x</filename><object>
{}</object></annotation>"""
BOX = "<bbox><annotator>{}</annotator><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bbox>\n"


def left_half(clip):
    """Always the left half."""
    masks = np.zeros(clip.frames.shape[:3], bool)
    masks[:, :, : masks.shape[2] // 2] = True
    heat = masks[:, ::8, ::8].astype(np.float16)
    return Segmentation(masks, heat, np.ones(len(clip), np.float32), ("",) * len(clip), clip.times)


def media(base, names):
    for number, name in enumerate(names):
        make_image(base / f"frames/{name}.jpg", planted_image(number, 2, HEIGHT, WIDTH), quality=95)
        (base / "audio").mkdir(exist_ok=True)
        write_audio(base / f"audio/{name}.wav", planted_sound(number, SECONDS), PLANTED_RATE)


@pytest.fixture
def vggss(tmp_path):
    base = tmp_path / "VGG-SS"
    media(base, [entry["file"] for entry in ENTRIES])
    (base / "vggss.json").write_text(json.dumps(ENTRIES))
    return tmp_path


@pytest.fixture
def flickr(tmp_path):
    base = tmp_path / "Flickr-SoundNet"
    media(base, ["100", "200"])
    (base / "Annotations").mkdir()
    boxes = [BOX.format(1, 0, 0, 128, 256), BOX.format(2, 64, 0, 256, 256)]
    (base / "Annotations/100.xml").write_text(XML.format("".join(boxes)))
    (base / "Annotations/200.xml").write_text(XML.format(BOX.format(77, 0, 128, 256, 256)))
    return tmp_path


@pytest.mark.parametrize("name", ["vggss", "vggsound-single"])
def test_images_boxes_and_sounds_belong_together(vggss, name):
    data = open_evaluation_set(name, vggss)
    assert data.ids == ["one", "two", "three"]
    assert data.name == name
    assert data.categories() == {"one": "dog, barking", "two": "cat", "three": "cat"}
    for number, sample_id in enumerate(data.ids):
        sample = data.load(sample_id)
        assert sample.clip.frames.shape == (1, 224, 224, 3)  # squashed, not cropped
        assert np.abs(sample.clip.frames[0].astype(int) - planted_color(number, 2)).max() <= 4
        assert sample.clip.times.tolist() == [2.5]
        assert strongest(sample.clip.window(0, 1.0), PLANTED_RATE) == planted_hertz(number, 2)
        assert (sample.masks[0] == (sample.consensus > 0)).all()
    box = np.zeros((224, 224), bool)
    box[112:, 56:168] = True
    assert (data.load("one").masks[0] == box).all()
    assert data.load("two").masks.sum() == 112 * 112  # the far corner is clipped, the flat box adds nothing
    assert data.load("three").masks.sum() == 0


def test_boxes_without_area_are_scored_and_counted_as_empty(vggss):
    report = evaluate(left_half, open_evaluation_set("vggss", vggss), controls=())
    tier = report.tiers["all"]
    assert (tier.samples, tier.empty_frames) == (3, 1)
    assert not report.failed


def test_flickr_boxes_are_votes_of_annotators(flickr):
    data = open_evaluation_set("flickr", flickr)
    assert data.ids == ["100", "200"]
    assert data.categories() == {"100": "", "200": ""}
    votes = data.load("100").consensus
    assert votes[:, :56].tolist() == np.full((224, 56), 0.5).tolist()
    assert (votes[:, 56:112] == 1).all()
    assert (votes[:, 112:] == 0.5).all()
    assert (data.load("200").consensus == np.repeat([0, 0.5], 112)[:, None]).all()  # the annotator is no xmin
    for number, sample_id in enumerate(data.ids):
        assert strongest(data.load(sample_id).clip.window(0, 1.0), PLANTED_RATE) == planted_hertz(number, 2)
    report = evaluate(left_half, data)
    assert not report.no_partner  # without classes any other image's sound is a wrong one
    assert report.score("ciou", "wrong_sound").n == 2


def test_broken_samples_are_counted_and_listed_never_replaced(vggss):
    base = vggss / "VGG-SS"
    (base / "frames/one.jpg").unlink()
    (base / "audio/two.wav").write_bytes(b"no sound")
    report = evaluate(left_half, open_evaluation_set("vggss", vggss), controls=())
    assert [row["id"] for row in report.failed] == ["one", "two"]
    assert "one.jpg" in report.failed[0]["error"]
    assert report.tiers["all"].samples == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not xml", "should be an XML file"),
        (XML.format(BOX.format(1, "left", 2, 3, 4)), "should be an XML file"),
        (XML.format("<bbox><a>1</a><xmin>3</xmin></bbox>"), "xmin, ymin, xmax, ymax"),
    ],
)
def test_broken_annotations_are_named(flickr, text, message):
    (flickr / "Flickr-SoundNet/Annotations/200.xml").write_text(text)
    data = open_evaluation_set("flickr", flickr)
    with pytest.raises(DataError, match=rf"200\.xml.*{message}"):
        data.load("200")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no entry"),
        ([*ENTRIES, ENTRIES[0]], "twice"),
        ([{"file": "one"}], "should be a list"),
        ([{"file": "one", "class": "x", "bbox": [[0, 1, 2]]}], "four finite numbers"),
        ([{"file": "one", "class": "x", "bbox": [[0, 1, 2, float("inf")]]}], "four finite numbers"),
    ],
)
def test_broken_tables_are_named(vggss, content, message):
    (vggss / "VGG-SS/vggss.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        LocalizationSet("vggss", vggss)


def test_wrong_names_and_places_say_what_to_do(tmp_path, vggss):
    with pytest.raises(UsageError, match="no split 'train'; choose test"):
        open_evaluation_set("vggss", vggss, "train")
    with pytest.raises(UsageError, match="dataset must be one of s4, ms3, avss, vggss"):
        open_evaluation_set("vgg", vggss)
    with pytest.raises(UsageError, match="no image 'nobody'"):
        open_evaluation_set("vggss", vggss).load("nobody")
    with pytest.raises(DataError, match="no image of tier A"):
        open_evaluation_set("vggss", vggss, tier="A")
    with pytest.raises(DataError, match="no Annotations in"):
        open_evaluation_set("flickr", vggss)
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(DataError, match="an XML file per image"):
        open_evaluation_set("flickr", tmp_path)


def test_check_says_what_is_missing(vggss, flickr):
    assert check_dataset("vggss", vggss).complete == {"test": 3}
    (vggss / "VGG-SS/audio/two.wav").unlink()
    report = check_dataset("vggsound-single", vggss)
    assert report.missing == ("audio/two.wav",)
    assert "test: 3 listed, 2 complete, officially 5158" in str(report)
    assert "test: 2 listed, 2 complete, officially 250" in str(check_dataset("flickr", flickr))
