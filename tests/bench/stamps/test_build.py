"""The offline benchmark from the real packages: same command, same pixels; manifest and files agree."""

import json

import numpy as np
import pytest
from PIL import Image

from moca_avs.errors import MediaError, UsageError
from moca_avs.io.audio import read_audio
from moca_avs_bench.data.avsbench import AVSBenchSet, AVSBenchTraining
from moca_avs_bench.data.check import check
from moca_avs_bench.stamps.build import build_stamps
from moca_avs_bench.stamps.media import Catalog
from moca_avs_bench.stamps.scenes import TIERS, Pool, confusable, draw_scene

pytestmark = pytest.mark.stamps

ROOTS = ("Single-source", "Multi-sources", "AVSBench-semantic")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_stamps(tmp_path_factory.mktemp("stamps") / "a", size="quick", limit=2, progress=False)


@pytest.fixture(scope="module")
def lines(built):
    """(root, manifest line) of every clip."""
    return [
        (built / root, json.loads(text))
        for root in ROOTS
        for split in ("train", "val", "test")
        for text in (built / root / "manifest" / f"{split}.jsonl").read_text().splitlines()
    ]


def stacked(root, line, item):
    mask = np.asarray(Image.open(root / item["masks"])) > 127
    return mask.reshape(len(line["frames"]), -1, mask.shape[1])


def test_the_same_command_gives_the_same_files(built, tmp_path):
    (tmp_path / ".b.partial").mkdir()  # what a killed run leaves
    (tmp_path / ".b.partial" / "half.png").write_bytes(b"")
    again = build_stamps(tmp_path / "b", size="quick", limit=2, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    names = sorted(p.relative_to(built) for p in built.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    for name in names:
        if name.suffix in (".png", ".jpg"):
            with Image.open(built / name) as one, Image.open(again / name) as other:
                assert (np.asarray(one) == np.asarray(other)).all(), name
        else:
            assert (built / name).read_bytes() == (again / name).read_bytes(), name


def test_a_built_benchmark_is_found_again_and_nothing_is_overwritten(built, tmp_path):
    before = (built / "stamps.json").stat().st_mtime_ns
    assert build_stamps(built, size="quick", limit=2, progress=False) == built
    assert (built / "stamps.json").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="something else"):
        build_stamps(built, size="quick", limit=2, seed=1, progress=False)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="something else"):
        build_stamps(tmp_path, size="quick", limit=1, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(MediaError, match="can't be written"):
        build_stamps(tmp_path / "mine.txt" / "b", size="quick", limit=1, progress=False)
    with pytest.raises(UsageError, match="quick"):
        build_stamps(tmp_path / "x", size="huge")


def test_every_file_of_the_tables_is_there(built, lines):
    for root, line in lines:
        assert all((root / path).is_file() for path in [*line["frames"], line["audio"]])
    for name in ("s4", "ms3"):
        report = check(name, built)
        assert report.composite
        assert report.ok, str(report)
        assert report.listed == report.complete


def test_sources_lie_on_the_side_of_their_tier(lines):
    catalog = Catalog.load()
    sides = {m.source: m.side for m in (*catalog.cutouts, *catalog.sounds, *catalog.backgrounds)}
    for _, line in lines:
        tier = f"{line['split']}-{line['tier']}".rstrip("-")
        image, sound, ground = TIERS[tier]
        assert {sides[item["cutout"]] for item in line["objects"]} == {image}
        assert {sides[item["sound"]] for item in line["objects"]} == {sound}
        assert line["background"] == "plain" or sides[line["background"]] == ground


def test_objects_of_a_clip_cannot_be_mistaken(lines):
    for _, line in lines:
        names = [item["category"] for item in line["objects"]]
        assert not any(confusable(a, b) for i, a in enumerate(names) for b in names[:i])


def test_truth_is_the_union_of_what_is_heard(built):
    for name in ("s4", "ms3"):
        for split in ("val", "test"):
            data = AVSBenchSet(name, built, split)
            for sample_id in data.ids:
                sample = data.load(sample_id)
                union = np.zeros_like(sample.masks)
                for item in sample.objects:
                    union |= item.mask & item.sounding[:, None, None]
                assert (union == sample.masks).all()
                assert sum(item.mask.astype(int) for item in sample.objects).max() <= 1
                assert sample.tier in ("A", "B", "C")
                heard = {item.category for item in sample.objects if item.sounding.any()}
                assert set(sample.category.split("+")) == heard
                assert data.categories()[sample_id] == sample.category


def test_sounding_seconds_are_loud_and_silent_ones_quiet(lines):
    for root, line in lines:
        sound, rate = read_audio(root / line["audio"])
        levels = 10 * np.log10((sound.reshape(-1, rate).astype(np.float64) ** 2).mean(1))
        heard = np.any([item["sounding"] for item in line["objects"]], axis=0)
        assert (levels[heard] > line["room_dbfs"] + 15).all()
        assert (levels[~heard] < line["room_dbfs"] + 2).all()


def test_the_swapped_sound_is_of_a_silent_object(built):
    swapped = 0
    for name in ("s4", "ms3"):
        data = AVSBenchSet(name, built, "test")
        for sample_id in data.ids:
            sample = data.load(sample_id)
            silent = [item for item in sample.objects if not item.sounding.any()]
            assert (sample.swapped is not None) == bool(silent)
            if sample.swapped is not None:
                clip, masks = sample.swapped
                swapped += 1
                assert clip.sound.shape == sample.clip.sound.shape
                assert (clip.sound != sample.clip.sound).any()
                seconds = sample.masks.any(axis=(1, 2))
                assert (masks == silent[0].mask & seconds[:, None, None]).all()
                assert not (masks & sample.masks).any()
    assert swapped >= 4


def test_training_clips_show_no_masks_but_the_official_first(built, lines):
    for root, line in lines:
        if line["split"] == "train":
            assert all("masks" not in item for item in line["objects"])
            assert line["swap"] is None
            if root.name == "Single-source":
                assert len(list((root / "s4_data/gt_masks/train").rglob(f"{line['id']}_*.png"))) == 1
    assert len(AVSBenchTraining("s4", built)) == 5 * 2


def test_avss_labels_are_the_classes_heard(built):
    root = built / "AVSBench-semantic"
    indices = json.loads((root / "label2idx.json").read_text())
    assert indices["background"] == 0
    for text in (root / "manifest" / "test.jsonl").read_text().splitlines():
        line = json.loads(text)
        for i in range(len(line["frames"])):
            label = np.asarray(
                Image.open((root / line["frames"][i]).parents[1] / "labels_semantic" / f"{i}.png")
            )
            expected = np.zeros_like(label)
            for item in line["objects"]:
                if item["sounding"][i]:
                    expected[stacked(root, line, item)[i]] = indices[item["category"]]
            assert (label == expected).all()


def test_vggss_boxes_enclose_the_heard_object(built):
    entries = json.loads((built / "VGG-SS" / "vggss.json").read_text())
    data = AVSBenchSet("s4", built, "test")
    assert entries
    for entry in entries:
        sample = data.load(entry["file"])
        assert entry["class"] == sample.category
        x0, y0, x1, y1 = (round(v * sample.masks.shape[1]) for v in entry["bbox"][0])
        mask = sample.masks[0]
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
        assert mask[y0].any()
        assert mask[:, x0].any()
        assert (built / "VGG-SS" / "frames" / f"{entry['file']}.jpg").is_file()
        assert (built / "VGG-SS" / "audio" / f"{entry['file']}.wav").is_file()


def test_a_benchmark_of_the_validation_side_alone(tmp_path):
    folder = build_stamps(tmp_path / "v", size="validation", limit=1, progress=False)
    assert not (folder / "VGG-SS").exists()
    for root in ROOTS:
        manifest = folder / root / "manifest"
        tiers = [json.loads(line)["tier"] for line in (manifest / "val.jsonl").read_text().splitlines()]
        assert set(tiers) == {"A", "B"}
        assert not (manifest / "train.jsonl").read_text()
    assert len(AVSBenchSet("s4", folder, "val")) == 2


def test_every_cutout_and_sound_can_be_used():
    catalog = Catalog.load()
    for cutout in catalog.cutouts:
        rgba = cutout.rgba()
        assert (rgba[..., 3] > 127).sum() > 300, cutout.path
        assert not rgba.flags.writeable
    for sound in catalog.sounds:
        samples = sound.samples()
        assert samples.size > 1600, sound.path
        assert np.sqrt((samples**2).mean()) > 0.01, sound.path


def test_a_scene_can_be_drawn_from_python():
    pool, rng = Pool.of(Catalog.load(), "train"), np.random.default_rng(0)
    scene = draw_scene(pool, rng, pool.draw_classes(rng, 3), size=96)
    assert scene.frame.shape == (96, 96, 3)
    assert scene.masks.shape == (3, 1, 96, 96)
    assert len(set(scene.categories)) == 3
    assert [sound.category for sound in scene.sounds] == list(scene.categories)
