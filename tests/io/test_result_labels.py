"""Classes of pixels on disk: exact for us, class indices in a PNG for everybody else."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from moca_avs.clip import Segmentation
from moca_avs.errors import MediaError
from moca_avs.io.results import SegmentationWriter


def result(count=4, seed=0, labels=True):
    rng = np.random.default_rng(seed)
    masks = rng.random((count, 9, 13)) > 0.5
    return Segmentation(
        masks=masks,
        heatmaps=rng.random((count, 2, 3)).astype(np.float16),
        scores=np.ones(count, np.float32),
        reasons=("",) * count,
        times=np.arange(count, dtype=float),
        labels=(rng.choice([0, 1, 70, 255], masks.shape) * masks).astype(np.uint8) if labels else None,
    )


def test_classes_come_back_as_they_were(tmp_path):
    expected = result()
    expected.labels[1] = 0  # a frame in which nothing was named
    expected.save(tmp_path)
    found = Segmentation.load(tmp_path)
    assert found.labels.dtype == np.uint8
    assert np.array_equal(found.labels, expected.labels)
    assert np.array_equal(found.masks, expected.masks)
    for index, labels in enumerate(expected.labels):
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"labels/{index:06d}.png")), labels)
    frames = json.loads((tmp_path / "result.json").read_text())["frames"]
    assert [set(frame["classes"]) for frame in frames][:2] == [{"1", "70", "255"}, set()]


def test_chunks_of_classes_add_up(tmp_path):
    first, second = result(2, 1), result(3, 2)
    with SegmentationWriter(tmp_path, {}) as writer:
        writer.append(first)
        writer.append(second)
    assert np.array_equal(Segmentation.load(tmp_path).labels, np.concatenate([first.labels, second.labels]))


def test_without_classes_there_is_none(tmp_path):
    result().save(tmp_path)
    result(2, labels=False).save(tmp_path)  # an earlier result's are gone
    assert Segmentation.load(tmp_path).labels is None
    assert not list(tmp_path.glob("labels/*.png"))
    assert "classes" not in (tmp_path / "result.json").read_text()


def test_classes_must_fit_the_masks():
    good = result()
    for labels in (good.labels[:2], good.labels.astype(np.int64)):
        with pytest.raises(MediaError, match=r"labels must be uint8 \[4, 9, 13\]"):
            replace(good, labels=labels)
