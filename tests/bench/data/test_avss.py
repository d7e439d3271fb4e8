"""AVSBench-semantic as officially laid out, with a color, a class bar and a tone planted in each second."""

import json

import numpy as np
import pytest
from PIL import Image

from helpers.media_files import (
    PLANTED_RATE,
    make_image,
    planted_color,
    planted_hertz,
    planted_image,
    planted_sound,
    strongest,
)
from moca_avs.errors import DataError, UsageError
from moca_avs.io.audio import write_audio
from moca_avs_bench.data import check_dataset, open_evaluation_set
from moca_avs_bench.data.avss import AVSSSet, split_names

CLASSES = ("background", "man", "electric_guitar", "dog", "guitar")
CLIPS = [
    ("a", "train", "v1s", "dog"),
    ("b", "train", "v1m", "man_electric_guitar"),
    ("c", "val", "v2", "man"),
    ("d", "test", "v1s", "dog"),
    ("e", "test", "v1m", "electric_guitar_dog"),
    ("f", "test", "v2", "guitar"),
]
SECONDS = {"v1s": 5, "v1m": 5, "v2": 10}
HEIGHT, WIDTH = 40, 60


def labels_of(second):
    """A bar whose place tells the second and whose class is not 0; blocks of 4 rows survive squashing."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[4 * second : 4 * second + 4] = second % 4 + 1
    return labels


@pytest.fixture
def root(tmp_path):
    base = tmp_path / "AVSBench-semantic"
    rows = ["vid,uid,s_min,s_sec,a_obj,split,label"]
    for number, (name, split, label, heard) in enumerate(CLIPS):
        rows.append(f"video{number // 2},{name},0,{number},{heard},{split},{label}")
        folder = base / label / name
        for i in range(SECONDS[label]):
            make_image(folder / f"frames/{i}.jpg", planted_image(number, i, HEIGHT, WIDTH), quality=95)
            if i == 0 or (label, split) != ("v1s", "train"):
                make_image(folder / f"labels_semantic/{i}.png", labels_of(i))
                make_image(folder / f"labels_rgb/{i}.png", np.full((HEIGHT, WIDTH, 3), 9, np.uint8))
        write_audio(folder / "audio.wav", planted_sound(number, SECONDS[label]), PLANTED_RATE)
    (base / "metadata.csv").write_text("\n".join(rows) + "\n")
    (base / "label2idx.json").write_text(json.dumps({name: i for i, name in enumerate(CLASSES)}))
    return tmp_path


def test_frames_labels_and_sounds_of_a_second_belong_together(root):
    data = open_evaluation_set("avss", root)
    assert data.ids == ["d", "e", "f"]
    assert data.classes == CLASSES
    for number, (sample_id, seconds) in enumerate((("d", 5), ("e", 5), ("f", 10)), start=3):
        sample = data.load(sample_id)
        assert sample.clip.frames.shape == (seconds, 224, 224, 3)  # squashed
        assert sample.classes == CLASSES
        np.testing.assert_allclose(sample.clip.times, np.arange(seconds) + 0.9375)
        for second in range(seconds):
            off = sample.clip.frames[second].astype(int) - planted_color(number, second)
            assert np.abs(off).max() <= 4  # JPEG
            expected = labels_of(second)[(np.arange(224) * HEIGHT + HEIGHT // 2) // 224]
            assert (sample.labels[second] == expected[:, :1]).all()
            window = sample.clip.window(second, 1.0)
            assert strongest(window, PLANTED_RATE) == planted_hertz(number, second)
        assert (sample.masks == (sample.labels > 0)).all()
        assert sample.labels.dtype == np.uint8
    assert data.load("d").cluster == "video1"
    assert data.load("e").cluster == "video2"


def test_training_clips_of_v1s_have_one_labeled_frame(root):
    data = AVSSSet(root / "AVSBench-semantic", "train")
    assert [len(data.load(name).labels) for name in data.ids] == [1, 5]
    assert len(data.load("a").clip) == 1


def test_categories_come_from_the_table(root):
    assert AVSSSet(root, "test").categories() == {"d": "dog", "e": "electric_guitar+dog", "f": "guitar"}
    assert AVSSSet(root, "train").categories() == {"a": "dog", "b": "man+electric_guitar"}


@pytest.mark.parametrize(
    ("joined", "names"),
    [
        ("man_electric_guitar", ["man", "electric_guitar"]),
        ("electric_guitar_guitar", ["electric_guitar", "guitar"]),
        ("ukulele_dog", ["ukulele", "dog"]),
        ("dog_dog", ["dog"]),
        ("", []),
    ],
)
def test_names_are_split_longest_first(joined, names):
    assert split_names(joined, CLASSES) == names


def test_a_palette_image_keeps_its_indices(root):
    path = root / "AVSBench-semantic/v1s/d/labels_semantic/2.png"
    indexed = Image.fromarray(labels_of(2)).convert("P")
    indexed.putdata(labels_of(2).ravel().tolist())
    indexed.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    indexed.save(path)
    assert set(np.unique(AVSSSet(root).load("d").labels[2])) == {0, 3}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("frames/3.jpg", None, r"3\.jpg"),
        ("frames/3.jpg", b"not an image", r"3\.jpg"),
        ("labels_semantic/1.png", None, r"1\.png"),
        ("labels_semantic/1.png", np.zeros((9, 8), np.uint8), r"1\.png is 8x9, its frame 60x40"),
        (
            "labels_semantic/1.png",
            np.full((40, 60), 5, np.uint8),
            r"holds class 5, label2idx.* ends at 4",
        ),
        ("labels_semantic/1.png", np.zeros((40, 60, 3), np.uint8), "a class index per pixel"),
        ("audio.wav", None, r"audio\.wav"),
    ],
)
def test_missing_and_broken_files_are_named(root, file, content, message):
    path = root / "AVSBench-semantic/v1s/d" / file
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        make_image(path, content)
    with pytest.raises(DataError, match=message):
        AVSSSet(root).load("d")


def test_the_same_uid_under_two_labels_stays_two_clips(root):
    base = root / "AVSBench-semantic"
    (base / "v1m/d").parent.joinpath("e").rename(base / "v1m/d")
    table = (base / "metadata.csv").read_text().replace("video2,e,", "video2,d,")
    (base / "metadata.csv").write_text(table)
    data = AVSSSet(root)
    assert data.ids == ["v1s/d", "v1m/d", "f"]
    assert strongest(data.load("v1m/d").clip.window(0, 1.0), PLANTED_RATE) == planted_hertz(4, 0)
    (base / "metadata.csv").write_text(table + table.splitlines()[-1] + "\n")
    with pytest.raises(DataError, match="twice"):
        AVSSSet(root)


def test_wrong_tables_say_what_is_expected(root):
    base = root / "AVSBench-semantic"
    with pytest.raises(UsageError, match="nobody"):
        AVSSSet(root).load("nobody")
    with pytest.raises(DataError, match="no clip of split 'test' of tier A"):
        AVSSSet(root, tier="A")
    for text, message in (
        ("{", "class names to indices"),
        ("[1, 2]", "0, 1, 2"),
        ('{"dog": 1}', "0, 1, 2"),
        ('{"dog": 0, "cat": 0}', "0, 1, 2"),
        ('{"dog": [0]}', "0, 1, 2"),
    ):
        (base / "label2idx.json").write_text(text)
        with pytest.raises(DataError, match=message):
            AVSSSet(root)
    (base / "label2idx.json").unlink()
    with pytest.raises(DataError, match=r"label2idx\.json"):
        AVSSSet(root)
    (base / "label2idx.json").write_text('{"background": 0}')
    table = (base / "metadata.csv").read_text()
    (base / "metadata.csv").write_text(table.replace(",v2", ",v3"))
    with pytest.raises(DataError, match="labels named v3; expected v1s, v1m, v2"):
        AVSSSet(root)
    (base / "metadata.csv").write_text("vid,uid\n1,2\n")
    with pytest.raises(DataError, match="columns vid, uid, a_obj, split, label"):
        AVSSSet(root)
    (base / "metadata.csv").unlink()
    with pytest.raises(DataError, match=r"no metadata\.csv in .*AVSBench-semantic"):
        AVSSSet(root)


def test_check_counts_by_split_and_label(root):
    report = check_dataset("avss", root)
    assert report.listed == report.complete
    assert {group: count for group, count in report.listed.items() if count} == {
        "train v1s": 1, "train v1m": 1, "val v2": 1, "test v1s": 1, "test v1m": 1, "test v2": 1,
    }  # fmt: skip
    assert sum(report.official.values()) == 8498 + 1304 + 1554
    assert not report.missing
    assert not report.ok
    (root / "AVSBench-semantic/v2/f/frames/9.jpg").unlink()
    report = check_dataset("avss", root)
    assert report.missing == ("v2/f/frames/9.jpg",)
    assert "test v2: 1 listed, 0 complete, officially 750" in str(report)
    assert "71 classes, here 5" in str(report)
