"""VGGSound from its table and clip files: the middle frame with the sound around it."""

import csv

import numpy as np
import pytest

from helpers.media_files import PLANTED_RATE, planted_hertz, planted_sound, strongest
from moca_avs.errors import DataError
from moca_avs.io.write_video import write_video
from moca_avs_bench.data import check_dataset, open_training_set
from moca_avs_bench.data.layout import read_entries
from moca_avs_bench.data.vggsound import VGGSoundTraining

SECONDS = 3
ROWS = [
    ("aaa", 30, "dog barking", "train"),
    ("b,b", 0, "playing violin, fiddle", "train"),
    ("gone", 5, "cat", "train"),
    ("ccc", 12, "dog barking", "test"),
    ("-dd", 170, "people cheering", "train"),
]


def video(path, clip):
    """Second s shows gray 40 + 60 s; its tone is `planted.hertz`."""
    frames = [np.full((32, 48, 3), 40 + 60 * s, np.uint8) for s in range(SECONDS) for _ in range(5)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames, np.arange(len(frames)) / 5, planted_sound(clip, SECONDS), PLANTED_RATE)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path / "cache"))
    base = tmp_path / "VGGSound"
    base.mkdir()
    with (base / "vggsound.csv").open("w", newline="") as file:
        csv.writer(file).writerows(ROWS)
    video(base / "video/aaa_000030.mp4", 0)
    video(base / "video/deeper/b,b_000000.mp4", 1)
    video(base / "test/ccc_000012.mp4", 2)
    video(base / "-dd_000170.mp4", 3)
    return tmp_path


def test_labels_with_commas_are_one_column(root):
    entries = read_entries("vggsound", root / "VGGSound")
    assert [entry.name for entry in entries][:2] == ["aaa_000030", "b,b_000000"]
    assert [entry.split for entry in entries] == ["train", "train", "train", "test", "train"]


def test_every_training_clip_gives_its_middle_with_its_own_sound(root):
    data = open_training_set("vggsound", root, window=0.8)
    clips = {"video/aaa_000030.mp4": 0, "video/deeper/b,b_000000.mp4": 1, "-dd_000170.mp4": 3}
    assert {data.clip_id(i) for i in range(len(data))} == set(clips)
    for index in range(len(data)):
        assert abs(int(data.frame(index).mean()) - 100) < 8
        sound, rate = data.sound(index)
        assert rate == PLANTED_RATE
        assert sound.size == pytest.approx(0.8 * PLANTED_RATE, abs=2)
        middle = strongest(np.pad(sound, (0, PLANTED_RATE))[:PLANTED_RATE], PLANTED_RATE)
        assert middle == pytest.approx(planted_hertz(clips[data.clip_id(index)], 1), abs=2)


def test_missing_and_broken_files_are_listed_and_never_replaced(root):
    (root / "VGGSound/video/aaa_000030.mp4").write_bytes(b"cut off")
    data = VGGSoundTraining(root)
    assert len(data) == 2
    assert data.missing == ("gone_000005.mp4",)
    reasons = dict(data.skipped)
    assert set(reasons) == {"video/aaa_000030.mp4", "vggsound.csv"}
    assert "1 of 4 training clips have no file, such as gone_000005.mp4" in reasons["vggsound.csv"]


def test_it_is_decoded_once_and_follows_the_files(root):
    first = VGGSoundTraining(root, side=32)
    store = next(path for path in (root / "cache/folders").iterdir() if path.is_dir())
    stamp = (store / "index.json").stat().st_mtime_ns
    again = VGGSoundTraining(root, side=32)
    assert again.fingerprint() == first.fingerprint()
    assert (store / "index.json").stat().st_mtime_ns == stamp
    video(root / "VGGSound/video/gone_000005.mp4", 4)
    other = VGGSoundTraining(root, side=32)
    assert len(other) == 4
    assert other.fingerprint() != first.fingerprint()
    assert VGGSoundTraining(root, side=32, window=1.0).fingerprint() != other.fingerprint()


def test_check_lists_missing_clips_and_is_not_about_the_official_number(root):
    report = check_dataset("vggsound", root)
    assert report.listed == {"train": 4, "test": 1}
    assert report.complete == {"train": 3, "test": 1}
    assert report.missing == ("gone_000005.mp4",)
    assert "about 199,500 clips of 309 classes" in str(report)
    video(root / "VGGSound/gone_000005.mp4", 4)
    assert check_dataset("vggsound", root).ok


def test_bad_tables_are_named(root, tmp_path):
    path = root / "VGGSound/vggsound.csv"
    path.write_text("aaa,30,dog,train\nbbb,0,violin, fiddle,train\n")
    with pytest.raises(DataError, match=r"line 2 of .*a label with commas in quotes"):
        VGGSoundTraining(root)
    path.write_text("")
    with pytest.raises(DataError, match="is empty"):
        VGGSoundTraining(root)
    path.write_text("zzz,30,dog,train\n")
    with pytest.raises(DataError, match=r"none of 1 training clips has a file .*zzz_000030\.mp4"):
        VGGSoundTraining(root)
    path.unlink()
    with pytest.raises(DataError, match=r"no vggsound\.csv"):
        VGGSoundTraining(root)
