"""Evaluation on real videos: a method that hears, the same without its hearing, and the other nulls."""

import json

import cv2
import numpy as np
import pytest

from helpers.color_models import colored
from helpers.real_videos import ColorListener, write_world
from moca_avs.errors import UsageError
from moca_avs_bench.data import open_evaluation_set
from moca_avs_bench.evaluation.compare import compare
from moca_avs_bench.evaluation.controls import otsu
from moca_avs_bench.evaluation.evaluate import evaluate, evaluate_predictions
from moca_avs_bench.evaluation.report import merge

NAMES = ("red", "green", "blue", "red")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"), NAMES, quiet_boxes=(0, 1))


def salient(frame):
    """Whatever has a color."""
    return np.stack([colored(frame, name) for name in ("red", "green", "blue")])


def estimates(report, row, tier="all"):
    return {metric: one.estimate for metric, one in report.tiers[tier].rows[row].items() if one.n}


def test_duets_tell_who_hears(world, tmp_path):
    report = evaluate(ColorListener(), "duets", root=world, jsonl=tmp_path / "d.jsonl")
    assert list(report.tiers) == ["different kinds", "one kind", "same clip twice", "all"]
    assert list(report.tiers["all"].rows) == ["method", "deaf"]
    kinds = report.tiers["different kinds"]
    assert (kinds.samples, kinds.clusters) == (5, 4)
    assert estimates(report, "method", "different kinds") == {"half": 1, "both": 1, "share": 1}
    # Two red boxes: the same with either sound, so right half of the time.
    same = estimates(report, "method", "one kind")
    assert (same["half"], same["both"]) == (0.5, 0)
    assert same["share"] == pytest.approx(0.5)
    for tier in report.tiers:
        deaf = estimates(report, "deaf", tier)
        assert (deaf["half"], deaf["both"]) == (0.5, 0)
        assert deaf["share"] == pytest.approx(0.5)
    twice = report.tiers["same clip twice"]
    assert (twice.samples, twice.clusters, estimates(report, "method", "same clip twice")["half"]) == (
        4,
        4,
        0.5,
    )
    assert report.score("half").n == 20
    assert report.score("both").n == 10
    text = report.to_markdown()
    assert "null: the method without sound" in text
    assert "F from" not in text
    assert report.to_json() == evaluate(ColorListener(), "duets", root=world).to_json()
    difference = compare(tmp_path / "d.jsonl", tmp_path / "d.jsonl", "method", "deaf")
    assert difference.tiers["different kinds"]["both"].estimate == 1


def test_saved_masks_cannot_be_asked_with_another_sound(world, tmp_path):
    with pytest.raises(UsageError, match="both sounds"):
        evaluate_predictions(tmp_path, open_evaluation_set("duets", world))


def test_boxes_of_a_method_and_its_nulls(world, tmp_path):
    report = evaluate(ColorListener(), "boxes", root=world, foreground=salient, jsonl=tmp_path / "b.jsonl")
    rows = report.tiers["all"].rows
    nulls = ["wrong_sound", "deaf", "foreground", "center", "motion"]
    assert sorted(rows) == sorted(["method", *nulls, *(f"minus_{null}" for null in nulls)])
    own = estimates(report, "method")
    assert own["pointing"] == own["which"] == 1
    assert own["iou"] > 0.9  # coding blurs its border
    assert own["box_iou"] > 0.9
    assert own["heat_auc"] > 0.97
    assert estimates(report, "wrong_sound")["iou"] == estimates(report, "wrong_sound")["box_iou"] == 0
    assert estimates(report, "wrong_sound")["heat_auc"] == 0.5  # nothing of that color: no heat at all
    deaf = estimates(report, "deaf")
    assert deaf["iou"] == pytest.approx(own["iou"] / 2, abs=0.01)  # two of four are red
    assert deaf["which"] == 0.75  # red is right, green has no heat: a tie
    assert estimates(report, "foreground")["iou"] == pytest.approx(own["iou"], abs=0.01)
    assert estimates(report, "motion")["heat_auc"] > 0.6  # the box jumps to above itself
    assert 0 < estimates(report, "motion")["iou"] < 0.9
    for null in nulls:
        for metric, found in estimates(report, f"minus_{null}").items():
            assert found == pytest.approx(own[metric] - estimates(report, null)[metric])
    paired = compare(tmp_path / "b.jsonl", tmp_path / "b.jsonl", "method", "deaf").tiers["all"]["iou"]
    assert report.score("iou", "minus_deaf") == paired
    assert [report.score(metric).n for metric in ("iou", "pointing", "which")] == [4, 4, 2]
    assert "method minus null: what moves" in report.to_markdown()
    assert json.loads(report.to_json())["kind"] == "boxes"


def test_shards_merge_to_the_whole(world, tmp_path):
    whole = evaluate(ColorListener(), "boxes", root=world)
    for number in (1, 2):
        path = tmp_path / f"{number}.jsonl"
        evaluate(ColorListener(), "boxes", root=world, jsonl=path, shard=(number, 2))
    assert merge([tmp_path / "1.jsonl", tmp_path / "2.jsonl"]).to_json() == whole.to_json()


def test_large_boxes_are_scored_by_their_masks_alone(world, tmp_path):
    for path in world.glob("*.mp4"):
        (tmp_path / path.name).symlink_to(path)
    text = (world / "manifest.csv").read_text().replace("0.25,0.5,0.5,1.0", "0,0,1,0.5")
    (tmp_path / "manifest.csv").write_text(text)
    report = evaluate(ColorListener(), "boxes", root=tmp_path)
    assert {m: one.n for m, one in report.tiers["all"].rows["method"].items()} == {
        "heat_auc": 0, "pointing": 0, "iou": 4, "box_iou": 4, "which": 2,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_otsu_agrees_with_opencv(seed):
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(60, 10, 500), rng.normal(160 + 10 * seed, 20, 300)])
    values = values.clip(0, 255).astype(np.uint8)
    expected, _ = cv2.threshold(values[None], 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    assert otsu((values + 0.5) / 256) * 256 - 1 == pytest.approx(expected, abs=1)
    assert otsu(np.zeros(10)) >= 0
