"""The official layouts, written here with a color, a mask and a tone planted in each second."""

import numpy as np
import pytest
from PIL import Image

from moca_avs.errors import DataError, UsageError
from moca_avs.io.audio import write_audio
from moca_avs_bench.data import check_dataset, open_evaluation_set, open_training_set
from moca_avs_bench.data.avsbench import AVSBenchSet, AVSBenchTraining

RATE = 16000
SIDE = 24


def hertz(clip, second):
    """A tone of its own for each second of each clip."""
    return 300 * (clip + 1) + 50 * second


def color(clip, second):
    return np.array([40 * second + 20, 60 * clip + 10, 200 - 30 * second], np.uint8)


def sound_of(clip):
    second = np.arange(RATE) / RATE
    parts = [0.4 * np.sin(2 * np.pi * hertz(clip, s) * second) for s in range(5)]
    return np.concatenate(parts).astype(np.float32)


def put(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def mask_of(second):
    """A bar whose place tells the second, in grays on both sides of the threshold."""
    gray = np.full((SIDE, SIDE), 127, np.uint8)
    gray[4 * second : 4 * second + 4] = 128
    return gray


CLIPS = {"train": ["a", "b"], "val": ["c"], "test": ["d", "e"]}
NAMES = [name for names in CLIPS.values() for name in names]


def make_s4(root):
    base = root / "Single-source"
    rows = ["name,start,category,split"]
    for split, names in CLIPS.items():
        for name in names:
            rows.append(f"{name},0,dog,{split}")
            place = f"{split}/dog/{name}/{name}"
            for i in range(1, 6):
                frame = np.broadcast_to(color(NAMES.index(name), i - 1), (SIDE, SIDE, 3))
                put(base / f"s4_data/visual_frames/{place}_{i}.png", np.ascontiguousarray(frame))
                if i == 1 or split != "train":
                    put(base / f"s4_data/gt_masks/{place}_{i}.png", mask_of(i - 1))
            wav = base / f"s4_data/audio_wav/{split}/dog/{name}.wav"
            write_audio(wav, sound_of(NAMES.index(name)), RATE)
    (base / "s4_meta_data.csv").write_text("\n".join(rows) + "\n")
    return root


def make_ms3(root):
    base = root / "Multi-sources"
    rows = ["name,split"]
    for split, names in CLIPS.items():
        for name in names:
            rows.append(f"{name},{split}")
            for i in range(1, 6):
                frame = np.broadcast_to(color(NAMES.index(name), i - 1), (SIDE, SIDE, 3))
                put(base / f"ms3_data/visual_frames/{name}/{name}.mp4_{i}.png", np.ascontiguousarray(frame))
                put(base / f"ms3_data/gt_masks/{split}/{name}/{name}_{i}.png", mask_of(i - 1))
            wav = base / f"ms3_data/audio_wav/{split}/{name}.wav"
            write_audio(wav, sound_of(NAMES.index(name)), RATE)
    (base / "ms3_meta_data.csv").write_text("\n".join(rows) + "\n")
    return root


MAKERS = {"s4": make_s4, "ms3": make_ms3}


@pytest.fixture(params=MAKERS)
def dataset(request, tmp_path):
    """(name, root of a whole download)."""
    return request.param, MAKERS[request.param](tmp_path)


def strongest(sound, rate):
    return np.abs(np.fft.rfft(sound, rate)).argmax()


def test_frames_masks_and_sounds_of_a_second_belong_together(dataset):
    name, root = dataset
    data = open_evaluation_set(name, root, "test")
    assert data.ids == ["d", "e"]
    assert len(data) == 2
    for number, sample_id in enumerate(data.ids, start=3):
        sample = data.load(sample_id)
        assert sample.clip.frames.shape == (5, SIDE, SIDE, 3)
        np.testing.assert_allclose(sample.clip.times, np.arange(5) + 0.9375)
        np.testing.assert_allclose(sample.clip.sound_times, np.arange(5) + 0.5)
        for second in range(5):
            assert (sample.clip.frames[second] == color(number, second)).all()
            assert (sample.masks[second] == (mask_of(second) > 127)).all()
            window = sample.clip.window(second, 1.0)
            assert window.size == RATE
            assert strongest(window, RATE) == hertz(number, second)
        assert sample.tier == ""
        assert sample.swapped is None
        assert sample.cluster == sample_id


def test_categories_come_from_the_table(tmp_path):
    make_s4(tmp_path)
    make_ms3(tmp_path)
    assert AVSBenchSet("s4", tmp_path, "test").categories() == {"d": "dog", "e": "dog"}
    assert AVSBenchSet("ms3", tmp_path, "test").categories() == {"d": "", "e": ""}


def test_training_clips_of_s4_have_one_mask(tmp_path):
    sample = AVSBenchSet("s4", make_s4(tmp_path), "train").load("a")
    assert sample.masks.shape == (1, SIDE, SIDE)
    assert len(sample.clip) == 1
    assert len(AVSBenchSet("ms3", make_ms3(tmp_path), "train").load("a").masks) == 5


def test_the_inner_folder_is_accepted_as_root(tmp_path):
    make_s4(tmp_path)
    assert AVSBenchSet("s4", tmp_path / "Single-source", "val").ids == ["c"]


def test_training_pairs_each_frame_with_its_own_sound_and_opens_no_mask(dataset):
    name, root = dataset
    for mask in list(root.rglob("gt_masks/**/*.png")):
        mask.unlink()
    data = AVSBenchTraining(name, root, window=1.0)
    assert len(data) == 10
    for index in range(10):
        clip, second = divmod(index, 5)
        assert data.clip_id(index) == NAMES[clip]
        assert (data.frame(index) == color(clip, second)).all()
        sound, rate = data.sound(index)
        assert (sound.size, rate) == (RATE, RATE)
        assert strongest(sound, rate) == hertz(clip, second)
    with pytest.raises(IndexError):
        data.frame(10)


def test_windows_are_cut_at_the_ends(tmp_path):
    data = open_training_set("s4", make_s4(tmp_path), window=2.0)
    assert [data.sound(i)[0].size for i in range(5)] == [24000, 32000, 32000, 32000, 24000]


def test_the_fingerprint_follows_content_and_window(tmp_path):
    make_s4(tmp_path)
    first = AVSBenchTraining("s4", tmp_path).fingerprint()
    assert AVSBenchTraining("s4", tmp_path).fingerprint() == first
    assert AVSBenchTraining("s4", tmp_path, window=1.0).fingerprint() != first
    put(tmp_path / "Single-source/s4_data/visual_frames/train/dog/a/a_1.png", np.zeros((5, 9, 3), np.uint8))
    assert AVSBenchTraining("s4", tmp_path).fingerprint() != first


def test_missing_and_broken_files_are_named(dataset):
    name, root = dataset
    data = AVSBenchSet(name, root, "test")
    frame = next(root.rglob("visual_frames/**/d*_3.png"))
    frame.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"d.*_3"):
        data.load("d")
    next(root.rglob("audio_wav/**/e.wav")).unlink()
    with pytest.raises(DataError, match=r"e\.wav"):
        data.load("e")


def test_a_mask_of_another_size_is_refused(tmp_path):
    make_ms3(tmp_path)
    put(tmp_path / "Multi-sources/ms3_data/gt_masks/test/d/d_2.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"d_2\.png is 8x8, its frame 24x24"):
        AVSBenchSet("ms3", tmp_path, "test").load("d")


def test_wrong_names_and_places_say_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"s4_meta_data\.csv"):
        AVSBenchSet("s4", tmp_path)
    with pytest.raises(UsageError, match="s4, ms3"):
        AVSBenchSet("s5", tmp_path)
    make_s4(tmp_path)
    with pytest.raises(DataError, match="tier A"):
        AVSBenchSet("s4", tmp_path, "test", tier="A")
    with pytest.raises(UsageError, match="nobody"):
        AVSBenchSet("s4", tmp_path, "test").load("nobody")
    (tmp_path / "Single-source" / "s4_meta_data.csv").write_text("name,split\nd,test\n")
    with pytest.raises(DataError, match="category"):
        AVSBenchSet("s4", tmp_path)


def test_check_counts_what_is_there_and_lists_what_is_not(dataset):
    name, root = dataset
    whole = check_dataset(name, root)
    assert whole.listed == whole.complete == {"train": 2, "val": 1, "test": 2}
    assert not whole.missing
    assert not whole.ok  # far fewer clips than officially released
    next(root.rglob("audio_wav/**/e.wav")).unlink()
    report = check_dataset(name, root)
    assert report.complete == {"train": 2, "val": 1, "test": 1}
    assert len(report.missing) == 1
    assert report.missing[0].endswith("e.wav")
    assert "e.wav" in str(report)
    assert "officially 740" in str(report) or "officially 64" in str(report)
