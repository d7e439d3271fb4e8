"""The layouts that stamps writes, read back by the loaders of the official ones."""

import json

import numpy as np
import pytest

from moca_avs.io.audio import read_audio
from moca_avs_bench.data import check_dataset, open_evaluation_set
from moca_avs_bench.stamps.build import build_stamps

pytestmark = pytest.mark.stamps


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_stamps(tmp_path_factory.mktemp("stamps") / "a", size="quick", limit=2, progress=False)


@pytest.mark.parametrize("name", ["s4", "ms3", "avss", "vggss", "vggsound-single"])
def test_nothing_is_missing(built, name):
    report = check_dataset(name, built)
    assert report.composite
    assert report.ok, str(report)
    assert sum(report.listed.values()) > 0


@pytest.mark.parametrize("split", ["val", "test"])
def test_class_maps_are_what_sounds(built, split):
    data = open_evaluation_set("avss", built, split)
    lengths = set()
    for sample_id in data.ids:
        sample = data.load(sample_id)
        lengths.add(len(sample.clip))
        assert sample.clip.frames.shape[1:] == (384, 384, 3)  # its own size
        expected = np.zeros_like(sample.labels)
        for item in sample.objects:
            heard = item.mask & item.sounding[:, None, None]
            expected[heard] = data.classes.index(item.category)
        assert (sample.labels == expected).all()
        assert (sample.masks == (expected > 0)).all()
        assert data.categories()[sample_id] == sample.category
        assert sample.clip.sound.size == len(sample.clip) * sample.clip.sample_rate
        if sample.swapped is not None:
            assert not (sample.swapped[1] & sample.masks).any()
    assert lengths == {5, 10}


def test_a_clip_written_twice_is_the_same_in_both_layouts(built):
    for name in ("s4", "ms3"):
        one, other = (open_evaluation_set(each, built, "test") for each in (name, "avss"))
        shared = set(one.ids) & set(other.ids)
        assert shared
        for sample_id in shared:
            left, right = one.load(sample_id), other.load(sample_id)
            assert (left.masks == right.masks).all()
            assert (left.clip.sound == right.clip.sound).all()
            assert (left.cluster, left.tier, left.category) == (right.cluster, right.tier, right.category)


def test_training_clips_of_v1s_are_labeled_once(built):
    data = open_evaluation_set("avss", built, "train")
    labels = {json.loads(line)["id"]: json.loads(line)["label"] for line in manifest(built)}
    for sample_id in data.ids:
        folder = data.base / labels[sample_id] / sample_id
        count = {"v1s": 1, "v1m": 5, "v2": 10}[labels[sample_id]]
        assert len(list((folder / "labels_semantic").iterdir())) == count


def manifest(built):
    return (built / "AVSBench-semantic/manifest/train.jsonl").read_text().splitlines()


def test_boxes_enclose_what_sounds(built):
    sources, s4 = open_evaluation_set("vggss", built), open_evaluation_set("s4", built)
    for sample_id in sources.ids:
        sample, source = sources.load(sample_id), s4.load(sample_id)
        assert sample.clip.frames.shape == (1, 384, 384, 3)
        rows, columns = np.nonzero(source.masks[0])
        box = np.zeros((384, 384), bool)
        box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        assert (sample.masks[0] ^ box).mean() < 0.02  # 224 positions stand for 384
        sound, rate = read_audio(sources.base / f"audio/{sample_id}.wav")
        assert (sound == source.clip.sound).all()
        assert sample.clip.times.tolist() == [len(sound) / rate / 2]
        assert (sample.cluster, sample.tier, sample.category) == (
            source.cluster,
            source.tier,
            source.category,
        )
