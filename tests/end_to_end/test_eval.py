"""`moca eval` and `moca data check` on a small dataset in AVSBench's own layout."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from helpers.media_files import bark, images, make_wav

CLIPS = (("d1", "dog"), ("c1", "cat"), ("d2", "dog"), ("b1", "bird"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four S4 test clips: a bright square sounds; its exact mask is the truth."""
    base = tmp_path_factory.mktemp("avsbench") / "Single-source"
    base.mkdir()
    with (base / "s4_meta_data.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "start", "category", "split"])
        rows.writerows([name, 0, category, "test"] for name, category in CLIPS)
    for seed, (name, category) in enumerate(CLIPS):
        frames = images(5, 64, 64, seed=seed * 11)
        for kind, stack in (("visual_frames", frames), ("gt_masks", truth(frames))):
            folder = base / "s4_data" / kind / "test" / category / name
            folder.mkdir(parents=True)
            for index, one in enumerate(stack, 1):
                Image.fromarray(one).save(folder / f"{name}_{index}.png")
        sounds = base / "s4_data" / "audio_wav" / "test" / category
        sounds.mkdir(parents=True, exist_ok=True)
        make_wav(sounds / f"{name}.wav", bark(5, 16000, seed), 16000)
    return base.parent


def truth(frames):
    return (frames[..., 0] > 200).astype(np.uint8) * 255


@pytest.fixture
def predictions(root, tmp_path):
    """Perfect masks of all clips but the last, which gets empty ones."""
    for name, category in CLIPS:
        source = root / "Single-source/s4_data/gt_masks/test" / category / name
        (tmp_path / "masks" / name).mkdir(parents=True)
        for path in source.iterdir():
            mask = np.asarray(Image.open(path))
            Image.fromarray(mask * (name != "b1")).save(tmp_path / "masks" / name / path.name)
    return tmp_path / "masks"


def test_masks_of_any_system_are_scored_and_shards_merge_to_the_same(moca, root, predictions, tmp_path):
    common = ("--root", root, "--predictions", predictions, "--no-foreground")
    ended = moca("eval", *common, "--out", tmp_path / "all.json")
    assert ended.code == 0, ended.err
    assert "s4 test: protocol avsbench" in ended.out
    assert "4 of 4 samples" in ended.out
    report = json.loads((tmp_path / "all.json").read_text())
    assert report["tiers"]["all"]["rows"]["method"]["miou"]["estimate"] == pytest.approx(0.75)
    for shard in ("1/2", "2/2"):
        name = f"part{shard[0]}.json"
        assert moca("eval", *common, "--shard", shard, "--out", tmp_path / name).code == 0
    parts = [tmp_path / f"part{index}.jsonl" for index in (1, 2)]
    assert moca("eval", "--merge", *parts, "--out", tmp_path / "merged.json").code == 0
    assert (tmp_path / "merged.json").read_text() == (tmp_path / "all.json").read_text()


def test_an_evaluation_is_not_overwritten_but_resumed(moca, root, predictions, tmp_path):
    common = ("--root", root, "--predictions", predictions, "--no-foreground", "--out", tmp_path / "r.json")
    assert moca("eval", *common).code == 0
    whole = (tmp_path / "r.jsonl").read_text().splitlines(keepends=True)
    refused = moca("eval", *common)
    assert refused.code == 2
    assert "exists: resume the evaluation it holds, or remove it" in refused.err
    (tmp_path / "r.jsonl").write_text("".join(whole[:3]) + whole[3][:20])  # killed in the middle of a line
    assert moca("eval", *common, "--resume").code == 0
    assert (tmp_path / "r.jsonl").read_text() == "".join(whole)


def test_a_sample_that_can_not_be_read_is_counted_and_exits_with_1(moca, root, predictions, tmp_path):
    next((predictions / "d1").iterdir()).unlink()
    common = ("--root", root, "--predictions", predictions, "--no-foreground")
    ended = moca("eval", *common, "--out", tmp_path / "r.json")
    assert ended.code == 1
    assert "1 failed" in ended.out
    assert "d1" in ended.out.split("failed:")[1]


@pytest.mark.weights
def test_a_method_is_scored_beside_its_control_and_nulls(moca, root, tmp_path):
    method = ("--method", "frozen", "--device", "cpu", "--shard", "1/2")
    ended = moca("eval", "--root", root, *method, "--out", tmp_path / "r.json")
    assert ended.code == 0, ended.err
    for row in ("| method", "control: wrong sound to everything", "null: salient foreground", "null: empty"):
        assert row in ended.out
    report = json.loads((tmp_path / "r.json").read_text())
    assert f"encoder weights: SHA-256 {report['settings']['encoder']['weights']}" in ended.out
    rows = report["tiers"]["all"]["rows"]
    assert 0 <= rows["method"]["miou"]["estimate"] <= 1
    assert rows["empty"]["miou"]["estimate"] == 0


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--root", "{empty}"), 1, "no s4_meta_data.csv in"),
        (("--root", "{root}", "--shard", "half", "--predictions", "{empty}"), 2, "--shard must be I/N"),
        (("--root", "{root}", "--shard", "3/2", "--predictions", "{empty}"), 2, "1 <= i <= n"),
        (("--root", "{root}", "--predictions", "{empty}/gone"), 2, "should be a folder of predicted masks"),
        (("--root", "{root}", "--dataset", "coco"), 2, "coco"),
        (("--merge", "{empty}/gone.jsonl"), 1, "should be the JSONL file of an evaluation"),
    ],
)
def test_what_can_not_be_evaluated_is_told(moca, root, tmp_path, options, code, said):
    (tmp_path / "empty").mkdir()
    sources = {"root": root, "empty": tmp_path / "empty"}
    ended = moca(
        "eval",
        *(option.format(**sources) for option in options),
        "--no-foreground",
        "--out",
        tmp_path / "r.json",
    )
    assert ended.code == code
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_data_check_says_what_is_missing(moca, root, tmp_path):
    ended = moca("data", "check", "s4", "--root", root)
    assert ended.code == 1
    assert "test: 4 listed, 4 complete, officially 740" in ended.out
    ended = moca("data", "check", "ms3", "--root", root)
    assert ended.code == 1
    assert "no ms3_meta_data.csv" in ended.err
