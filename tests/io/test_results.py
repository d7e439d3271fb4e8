import errno
import json
import resource
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from safetensors.numpy import load_file

from helpers.media_files import gray_steps, tone
from moca_avs.clip import Segmentation
from moca_avs.errors import MediaError
from moca_avs.io.frames import probe
from moca_avs.io.results import SegmentationWriter, is_complete
from moca_avs.io.video import read_clip
from moca_avs.utils.files import unwritable_error

SETTINGS = {"method": "moca", "level": -60.5, "layers": [1, 2], "nested": {"ä": None}, "on": True}


def result(count=5, height=20, width=31, grid=(3, 4), seed=0, start=0):
    rng = np.random.default_rng(seed)
    return Segmentation(
        masks=rng.random((count, height, width)) > 0.6,
        heatmaps=rng.random((count, *grid)).astype(np.float16),
        scores=rng.random(count).astype(np.float32) * np.float32(1.7),
        reasons=tuple(rng.choice(["", "silent", 'below "0.1"\n'], count).tolist()),
        times=(start + np.arange(count)) / 3,
        settings=SETTINGS,
    )


def assert_equal(found, expected):
    for name in ("masks", "heatmaps", "scores", "times"):
        assert getattr(found, name).dtype == getattr(expected, name).dtype
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert (found.reasons, found.settings) == (expected.reasons, expected.settings)


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (20, 31)])
def test_saving_and_loading_changes_nothing(tmp_path, count, height, width):
    expected = result(count, height, width)
    assert expected.save(tmp_path / "new/out") == tmp_path / "new/out"
    assert_equal(Segmentation.load(tmp_path / "new/out"), expected)
    assert is_complete(tmp_path / "new/out")


def test_empty_and_full_masks(tmp_path):
    expected = result(3)
    expected.masks[0], expected.masks[1] = False, True
    expected.save(tmp_path)
    assert_equal(Segmentation.load(tmp_path), expected)


def test_the_files_are_what_others_read(tmp_path):
    expected = result(4)
    expected.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "result.json", "heatmaps.safetensors", "masks", "heatmaps"
    }  # fmt: skip
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["complete"] is True
    assert (found["settings"], found["size"]) == (SETTINGS, [20, 31])
    for index, frame in enumerate(found["frames"]):
        assert frame["time"] == expected.times[index]
        np.testing.assert_array_equal(coco.decode(frame["rle"]).astype(bool), expected.masks[index])
        assert isinstance(frame["rle"]["counts"], str)
        png = np.asarray(Image.open(tmp_path / f"masks/{index:06d}.png"))
        np.testing.assert_array_equal(png, expected.masks[index] * np.uint8(255))
        heat = np.asarray(Image.open(tmp_path / f"heatmaps/{index:06d}.png"))
        assert (heat.shape, heat.dtype) == ((20, 31), np.uint8)
    np.testing.assert_array_equal(load_file(tmp_path / "heatmaps.safetensors")["heatmaps"], expected.heatmaps)


def test_heat_is_gray_by_value(tmp_path):
    expected = result(1, 40, 40, grid=(1, 2))
    expected.heatmaps[0] = [[0.0, 1.0]]
    expected.save(tmp_path)
    heat = np.asarray(Image.open(tmp_path / "heatmaps/000000.png"))
    assert (heat[:, 0] == 0).all()
    assert (heat[:, -1] == 255).all()
    assert (np.diff(heat[0].astype(int)) >= 0).all()
    flat = result(1, 40, 40)
    flat.heatmaps[:] = 0.5
    flat.save(tmp_path / "flat")
    assert set(np.unique(Image.open(tmp_path / "flat/heatmaps/000000.png"))) <= {127, 128}


def test_chunks_add_up(tmp_path):
    parts = [result(3, seed=1), result(1, seed=2, start=3), result(0), result(4, seed=3, start=4)]
    with SegmentationWriter(tmp_path, SETTINGS) as writer:
        for part in parts:
            writer.append(part)
    assert writer.frames == 8
    found = Segmentation.load(tmp_path)
    np.testing.assert_array_equal(found.masks, np.concatenate([part.masks for part in parts]))
    np.testing.assert_array_equal(found.heatmaps, np.concatenate([part.heatmaps for part in parts]))
    assert len(list((tmp_path / "masks").iterdir())) == 8


def test_nothing_at_all_can_be_written(tmp_path):
    with SegmentationWriter(tmp_path, {}):
        pass
    assert len(Segmentation.load(tmp_path)) == 0


def test_the_overlay_is_written_with_its_sound(tmp_path):
    expected = result(4, 32, 48)
    expected.save(tmp_path, frames=gray_steps(4), sound=tone(1.4)[0], sample_rate=22050)
    info = probe(tmp_path / "overlay.mp4")
    assert (info.height, info.width, info.has_sound) == (32, 48, True)
    clip = read_clip(tmp_path / "overlay.mp4", fps="native")
    np.testing.assert_allclose(clip.times, expected.times, atol=1e-5)
    with pytest.raises(MediaError, match="like the masks"):
        expected.save(tmp_path / "b", frames=gray_steps(3))
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_result_keeps_its_frames_and_says_so(tmp_path, error):
    expected = result(3)

    def interrupted():
        with SegmentationWriter(tmp_path, SETTINGS) as writer:
            writer.append(expected)
            raise error

    with pytest.raises(error):
        interrupted()
    assert json.loads((tmp_path / "result.json").read_text())["complete"] is False
    assert not is_complete(tmp_path)
    assert_equal(Segmentation.load(tmp_path), expected)


def test_interrupted_inside_a_frame(tmp_path, monkeypatch):
    expected = result(5)
    heatmap = Image.Image.save
    seen = []

    def save(image, path, **options):
        seen.append(path)
        if len(seen) == 6:  # the heat map of the third frame: its mask is there already
            raise KeyboardInterrupt
        heatmap(image, path, **options)

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(KeyboardInterrupt), SegmentationWriter(tmp_path, SETTINGS) as writer:
        writer.append(expected)
    found = Segmentation.load(tmp_path)
    np.testing.assert_array_equal(found.masks, expected.masks[:2])
    np.testing.assert_array_equal(found.heatmaps, expected.heatmaps[:2])
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["000000.png", "000001.png"]


def test_a_killed_writer_leaves_no_result_but_valid_parts(tmp_path):
    code = """
        import os, sys, time
        sys.path.insert(0, {here!r})
        from test_results import SETTINGS, SegmentationWriter, result
        with SegmentationWriter({folder!r}, SETTINGS) as writer:
            writer.append(result(3))
            print("ready", flush=True)
            time.sleep(60)
    """.format(here=str(__import__("pathlib").Path(__file__).parent), folder=str(tmp_path / "out"))
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    out = tmp_path / "out"
    assert not is_complete(out)
    with pytest.raises(MediaError, match="holds no result"):
        Segmentation.load(out)
    (out / "result.json.partial").rename(out / "result.json")
    (out / "heatmaps.safetensors.partial").rename(out / "heatmaps.safetensors")
    assert_equal(Segmentation.load(out), result(3))


def test_an_earlier_result_is_replaced(tmp_path):
    result(6, 8, 8).save(tmp_path, frames=np.zeros((6, 8, 8, 3), np.uint8))
    expected = result(2)
    expected.save(tmp_path)
    assert_equal(Segmentation.load(tmp_path), expected)
    assert len(list((tmp_path / "masks").iterdir())) == 2
    assert not (tmp_path / "overlay.mp4").exists()


def test_masks_of_another_origin_are_left_alone(tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/000000.png").write_bytes(b"truth")
    with pytest.raises(MediaError, match="another origin"):
        result(2).save(tmp_path)
    assert (tmp_path / "masks/000000.png").read_bytes() == b"truth"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match=r"file/out can't be written: Not a directory"):
        result(2).save(tmp_path / "file/out")


def test_a_full_disk_keeps_what_was_finished(tmp_path):
    expected = result(5)

    def fill():
        with SegmentationWriter(tmp_path, SETTINGS) as writer:
            (tmp_path / "heatmaps/000003.png").symlink_to("/dev/full")
            writer.append(expected)

    with pytest.raises(MediaError, match=r"disk is full.*The 3 frames finished before are kept in"):
        fill()
    found = Segmentation.load(tmp_path)
    np.testing.assert_array_equal(found.masks, expected.masks[:3])
    assert not is_complete(tmp_path)
    assert not (tmp_path / "masks/000003.png").exists()


@pytest.mark.parametrize("room", [900, 1234, 2000, 2500, 3456])
def test_files_that_may_not_grow_stay_valid(tmp_path, room):
    """A real limit of the system at some odd byte: the JSON line or the heat being written is cut."""
    expected = result(12, 24, 24, grid=(10, 10))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(MediaError, match="frames finished before are kept"):
            expected.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    found = Segmentation.load(tmp_path)
    assert 0 < len(found) < 12
    np.testing.assert_array_equal(found.masks, expected.masks[: len(found)])
    np.testing.assert_array_equal(found.heatmaps, expected.heatmaps[: len(found)])


def test_the_message_of_a_full_disk():
    error = unwritable_error("/some/where", OSError(errno.ENOSPC, "No space left on device"))
    assert str(error) == "/some/where can't be written: the disk is full; free some space or choose another"


def test_sizes_must_agree(tmp_path):
    with SegmentationWriter(tmp_path, {}) as writer:
        writer.append(result(1))
        for other in (result(1, 20, 32), result(1, grid=(5, 5))):
            with pytest.raises(MediaError, match=r"masks \[20, 31\]"):
                writer.append(other)
    assert len(Segmentation.load(tmp_path)) == 1


def test_what_json_cannot_hold(tmp_path):
    bad = result(2)
    bad.scores[1] = np.nan
    with pytest.raises(MediaError, match="frame 1 can't be written as JSON"):
        bad.save(tmp_path / "a")
    assert len(Segmentation.load(tmp_path / "a")) == 1
    with pytest.raises(MediaError, match="settings can't be written as JSON"):
        SegmentationWriter(tmp_path / "b", {"model": object()}).__enter__()
    assert not (tmp_path / "b").exists()


def test_damaged_results(tmp_path):
    with pytest.raises(MediaError, match=r"holds no result: .*result\.json is missing"):
        Segmentation.load(tmp_path)
    assert not is_complete(tmp_path / "missing")
    result(2).save(tmp_path)
    good = (tmp_path / "result.json").read_text()
    for bad in (good[:100], good.replace('"score"', '"scare"'), good.replace("[20, 31]", "[20, 30]"), "[]"):
        (tmp_path / "result.json").write_text(bad)
        with pytest.raises(MediaError, match="damaged"):
            Segmentation.load(tmp_path)
    (tmp_path / "result.json").write_text(good)
    (tmp_path / "heatmaps.safetensors").write_bytes(b"x" * 50)
    with pytest.raises(MediaError, match="damaged"):
        Segmentation.load(tmp_path)


@pytest.mark.parametrize("size", [[64, 31], [1, 31], [20, 30]])
@pytest.mark.parametrize("part", ["rle", "classes"])
def test_a_mask_of_another_size_is_damage_and_not_stretched(tmp_path, part, size):
    whole = replace(result(2), labels=np.ones((2, 20, 31), np.uint8))
    whole.save(tmp_path)
    text = json.loads((tmp_path / "result.json").read_text())
    rle = text["frames"][1][part]
    (rle if part == "rle" else rle["1"])["size"] = size
    (tmp_path / "result.json").write_text(json.dumps(text))
    with pytest.raises(MediaError, match=r"damaged.*among masks of"):
        Segmentation.load(tmp_path)


def test_writing_is_quick_and_flat(tmp_path):
    """Long results cost as much per frame as short ones."""
    part = result(40, 16, 16)
    with SegmentationWriter(tmp_path, SETTINGS) as writer:
        spans = []
        for _ in range(6):
            begin = time.process_time()
            writer.append(part)
            spans.append(time.process_time() - begin)
    assert min(spans[3:]) < 3 * min(spans[:3])
