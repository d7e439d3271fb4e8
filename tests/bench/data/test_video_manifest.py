"""Folders of videos with a manifest, read and scored as boxes."""

import numpy as np
import pytest

from helpers.real_videos import LOOKED_AT, loudest, write_manifest, write_video, write_world
from moca_avs.errors import DataError, MediaError, UsageError
from moca_avs_bench.data import check_dataset, open_evaluation_set
from moca_avs_bench.data.video_manifest import kind_of, one_kind, read_manifest
from moca_avs_bench.evaluation.controls import draw_partners, with_audio_around


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"), silent=(3,), quiet_boxes=(1,))


def test_a_sample_is_the_frame_at_its_time_with_its_boxes(world):
    boxes = open_evaluation_set("boxes", world)
    assert (boxes.ids, len(boxes), boxes.kind) == (["0", "1", "2", "3"], 4, "boxes")
    sample = boxes.load("1")
    clip = sample.clip
    assert clip.times == pytest.approx([LOOKED_AT])
    assert clip.sound_start == pytest.approx(LOOKED_AT - 3)
    assert len(clip.sound) / clip.sample_rate == pytest.approx(6, abs=0.05)
    assert clip.motion_times[[0, -1]] == pytest.approx([1, 6.9], abs=0.11)  # the video ends at 7 s
    assert loudest(clip) == "green"
    expected = np.zeros((64, 96), bool)
    expected[32:, 24:48] = True
    assert np.array_equal(sample.masks, expected[None])
    assert (sample.cluster, sample.category) == ("1", "green")
    assert [thing.sounding.tolist() for thing in sample.objects] == [[True], [False]]
    assert sample.objects[1].mask.sum() == round(0.4 * 64) * round(0.4 * 96)
    assert len(boxes.load("0").objects) == 1
    with pytest.raises(UsageError, match="no clip 'x'"):
        boxes.load("x")


def test_a_silent_clip_is_nobodys_wrong_sound(world):
    boxes = open_evaluation_set("boxes", world)
    assert boxes.categories() == {"0": "red", "1": "green", "2": "blue", "3": ""}
    for seed in range(6):
        partners = draw_partners(boxes, seed)
        assert "3" not in partners.values()
        assert all(partners[one] != one for one in boxes.ids)


def test_a_wrong_sound_keeps_its_place_beside_the_frame(world):
    boxes = open_evaluation_set("boxes", world)
    clip, other = boxes.load("0").clip, boxes.load("2").clip
    wrong = with_audio_around(clip, other)
    assert np.array_equal(wrong.window(0, 1.0), other.window(0, 1.0))
    assert loudest(wrong) == "blue"
    assert wrong.frames is clip.frames


@pytest.mark.parametrize(
    ("kind", "sounds", "expected"),
    [
        ("", "dogs barking (seconds 1-2)", "barking+dog"),
        ("", "drum kit / hi-hat", "drum+hat+kit"),
        ("", "double bass", "bass+double"),
        ("", "", ""),
        (" Dog + Cat", "a lion", "cat+dog"),
    ],
)
def test_kinds_are_words_or_what_the_manifest_says(kind, sounds, expected):
    assert kind_of(kind, sounds) == expected


def test_clips_with_a_common_part_are_of_one_kind():
    assert one_kind("barking+dog", "dog")
    assert not one_kind("dog", "dogs")
    assert not one_kind("", "")


def row(**changes):
    return {"file": "a.mp4", "time_s": "1", "sounding_boxes": "0,0,.5,1", **changes}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(), row()], "line 3 .* a second time"),
        ([row(time_s="soon")], "line 2 .*time_s must be 0 s or more, found 'soon'"),
        ([row(sounding_boxes="")], "must have a sounding box"),
        ([row(file="")], "must have a file"),
        ([row(sounding_boxes="0,0,1")], "sounding_boxes must be x0,y0,x1,y1"),
        ([row(sounding_boxes="0.5,0,0.5,1")], "x0 < x1"),
        ([row(silent_boxes="0,0,1,1;0,0,2,1")], "silent_boxes must be .* found '0,0,2,1'"),
        (
            [{"file": "a.mp4", "time_s": 1}],
            "sounding_boxes and a line for each video; found the columns file, time_s and 1 lines",
        ),
    ],
)
def test_a_manifest_that_makes_no_sense_is_told_by_line(tmp_path, rows, message):
    write_manifest(tmp_path, rows)
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path)


def test_a_missing_manifest_video_or_frame_is_told(tmp_path):
    with pytest.raises(DataError, match=r"manifest\.csv is not there"):
        open_evaluation_set("boxes", tmp_path)
    write_video(tmp_path / "a.mp4", "red")
    write_manifest(tmp_path, [row(time_s=60), row(file="sub/b.mp4")])
    boxes = open_evaluation_set("boxes", tmp_path)
    assert boxes.ids == ["a", "sub/b"]
    assert boxes.categories() == {"a": "", "sub/b": ""}
    for one in boxes.ids:
        with pytest.raises(MediaError):
            boxes.load(one)
    with pytest.raises(UsageError, match="only a test"):
        open_evaluation_set("boxes", tmp_path, split="val")
    report = check_dataset("boxes", tmp_path)
    assert (report.listed, report.complete, report.missing) == ({"test": 2}, {"test": 1}, ("sub/b.mp4",))
    assert not report.ok
    assert "manifest.csv" in str(report)
    (tmp_path / "manifest.csv").write_text("file,time_s\na.mp4,1\n")
    assert check_dataset("duets", tmp_path).ok
