"""AVSS and localization through the evaluation loop: slow sums, kill and resume, shards, nulls, memory."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from helpers import TESTS
from helpers.color_world import (
    CLASSES,
    ClassWorld,
    ColorWorld,
    PlaceWorld,
    foreground,
    listener,
    long_listener,
    namer,
    sign_painter,
)
from moca_avs.errors import DataError, UsageError
from moca_avs_bench.evaluation.compare import compare
from moca_avs_bench.evaluation.controls import draw_partners
from moca_avs_bench.evaluation.evaluate import evaluate, evaluate_predictions
from moca_avs_bench.evaluation.report import merge, read_report
from moca_avs_bench.metrics import localization as loc
from moca_avs_bench.metrics import region, semantic

HERE = TESTS
WORLDS = {"avss": (ClassWorld, "namer"), "vggss": (PlaceWorld, "long_listener")}
METHODS = {"namer": namer, "long_listener": long_listener}


def everything(method, world):
    samples = [world.load(sample_id) for sample_id in world.ids]
    return samples, [method(sample.clip) for sample in samples]


@pytest.mark.parametrize(("protocol", "padding"), [("real", 0), ("padded", 5)])
@pytest.mark.parametrize("method", [namer, sign_painter])
def test_class_scores_equal_the_pure_functions_on_the_whole_split(method, protocol, padding):
    world = ClassWorld(9)
    report = evaluate(method, world, protocol=protocol)
    samples, answers = everything(method, world)
    totals = semantic.begin(len(CLASSES))
    for sample, answer in zip(samples, answers, strict=True):
        totals = semantic.update(totals, answer.labels, sample.labels, padding)
    scores = semantic.compute(totals)
    assert report.score("class_miou").estimate == pytest.approx(scores.miou)
    assert report.score("class_f").estimate == pytest.approx(scores.f)
    assert report.score("class_miou").n == scores.frames == 9 * (5 + padding)
    masks, truth = (np.concatenate([x.masks for x in many]) for many in (answers, samples))
    assert report.score("miou").estimate == pytest.approx(region.mean_iou(masks, truth, [5] * 9))
    assert report.score("f").estimate == pytest.approx(region.f_score(masks, truth, [5] * 9))


def test_a_perfect_namer_its_control_and_nulls():
    report = evaluate(namer, ClassWorld(12), foreground=foreground)
    scores = {row: found["class_miou"].estimate for row, found in report.tiers["all"].rows.items()}
    assert scores["method"] == pytest.approx(4 / 5)  # "unseen" is never there and counts 0
    assert scores["wrong_sound"] < 0.3
    assert scores["empty"] < scores["full"] + 0.2 < 0.4
    assert scores["full"] < scores["foreground"] <= scores["all_objects"] < scores["method"]
    interval = report.score("class_miou", "foreground")
    assert interval.low < interval.estimate < interval.high
    text = report.to_markdown()
    assert "protocol real" in text
    assert "The nulls are told each clip's largest class" in text
    assert "named no classes" not in text


def test_a_method_that_names_no_classes_is_said_to():
    report = evaluate(listener, ClassWorld(4), controls=())
    assert report.unlabelled == 4
    assert report.score("class_miou").n == 0
    assert report.score("miou").estimate == pytest.approx(1)
    assert "named no classes in 4 samples" in report.to_markdown()
    assert json.loads(report.to_json())["tiers"]["all"]["rows"]["method"]["class_miou"]["estimate"] is None


def test_labels_that_do_not_fit_are_named():
    def wild(clip):
        said = namer(clip)
        said.labels[said.labels == 0] = 77
        return said

    with pytest.raises(DataError, match=r"classes below 5, found .* up to 77"):
        evaluate(wild, ClassWorld(1), controls=())


@pytest.mark.parametrize("protocol", loc.PROTOCOLS)
def test_localization_scores_equal_the_pure_functions(protocol):
    world = PlaceWorld(15)
    report = evaluate(long_listener, world, protocol=protocol)
    samples, answers = everything(long_listener, world)
    truth = np.stack([sample.consensus for sample in samples])
    heat, masks = np.concatenate([a.heatmaps for a in answers]), np.concatenate([a.masks for a in answers])
    scores = loc.ciou(loc.predicted(protocol, heat.astype(np.float32), masks), truth)
    assert report.score("ciou").estimate == pytest.approx(loc.success_rate(scores))
    assert report.score("auc").estimate == pytest.approx(loc.auc(scores))
    assert report.score("mean_ciou").estimate == pytest.approx(scores.mean())
    assert report.score("ciou").n == 15
    assert 0 < scores.mean() < 1 or protocol == "mask"


def test_localization_nulls_stand_in_every_report():
    report = evaluate(long_listener, PlaceWorld(8), foreground=foreground, protocol="mask")
    rows = report.tiers["all"].rows
    assert list(rows) == ["method", "wrong_sound", "empty", "full", "disk", "foreground"]
    assert rows["method"]["mean_ciou"].estimate > 0.95
    assert rows["wrong_sound"]["mean_ciou"].estimate < 0.1
    assert rows["empty"]["mean_ciou"].estimate == 0
    truth = np.stack([PlaceWorld(8).load(i).consensus for i in PlaceWorld(8).ids])
    assert rows["full"]["mean_ciou"].estimate == pytest.approx(truth.mean((1, 2)).mean())
    disk = np.repeat(loc.disk_mask(24, 24)[None], 8, axis=0)
    expected = loc.ciou(np.stack([loc.nearest(one, 224, 224) for one in disk]), truth).mean()
    assert rows["disk"]["mean_ciou"].estimate == pytest.approx(expected)
    assert "compare with the centered disk" in report.to_markdown()
    assert "F from" not in report.to_markdown()


@pytest.mark.parametrize("protocol", ["lvs", "ez-vsl"])
def test_the_disk_null_is_half_of_the_image_under_the_median_rules(protocol):
    report = evaluate(long_listener, PlaceWorld(6), controls=(), protocol=protocol)
    truth = np.stack([PlaceWorld(6).load(i).consensus for i in PlaceWorld(6).ids])
    exact = loc.ciou(np.repeat(loc.disk_mask(224, 224)[None], 6, axis=0), truth).mean()
    assert report.score("mean_ciou", "disk").estimate == pytest.approx(exact, abs=2e-3)


@pytest.mark.parametrize("kind", WORLDS)
def test_three_shards_merge_to_one_run(kind, tmp_path):
    world, method = WORLDS[kind][0], METHODS[WORLDS[kind][1]]
    whole = evaluate(method, world(11, broken=["clip0004"]), foreground=foreground, seed=1)
    parts = [tmp_path / f"part{i}.jsonl" for i in (1, 2, 3)]
    for i, part in enumerate(parts, 1):
        evaluate(
            method, world(11, broken=["clip0004"]), foreground=foreground, seed=1, jsonl=part, shard=(i, 3)
        )
    assert merge([parts[1], parts[2], parts[0]]).to_json() == whole.to_json()


def test_shards_of_machines_with_other_folders_merge(tmp_path):
    class Namer:
        def __init__(self, folder):
            self.settings = {"method": "namer", "classes": f"{folder}/label2idx.json"}

        def __call__(self, clip):
            return namer(clip)

    whole = evaluate(Namer("/data"), ClassWorld(6))
    parts = [tmp_path / "part1.jsonl", tmp_path / "part2.jsonl"]
    for i, (part, folder) in enumerate(zip(parts, ("/here", "/there"), strict=True), 1):
        evaluate(Namer(folder), ClassWorld(6), jsonl=part, shard=(i, 2))
    assert merge(parts).to_json() == whole.to_json()


@pytest.mark.parametrize("kind", WORLDS)
def test_a_killed_run_goes_on_to_the_same_report(kind, tmp_path):
    world, method = WORLDS[kind]
    killed = tmp_path / "killed.jsonl"
    script = f"""
import sys, time
sys.path.insert(0, {str(HERE)!r})
from helpers import color_world
from moca_avs_bench.evaluation.evaluate import evaluate
method = color_world.{method}
def slow(clip):
    time.sleep(0.03)
    return method(clip)
slow.__name__ = method.__name__
evaluate(slow, color_world.{world.__name__}(30), jsonl={str(killed)!r})
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    while not killed.exists() or killed.read_bytes().count(b"\n") < 5:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert killed.read_bytes().count(b"\n") < 31
    resumed = evaluate(METHODS[method], world(30), jsonl=killed, resume=True)
    whole = evaluate(METHODS[method], world(30), jsonl=tmp_path / "whole.jsonl")
    assert resumed.to_json() == whole.to_json()
    assert killed.read_text() == (tmp_path / "whole.jsonl").read_text()


@pytest.mark.parametrize("kind", WORLDS)
def test_a_file_can_be_read_by_every_protocol_of_its_kind(kind, tmp_path):
    world, method = WORLDS[kind][0], METHODS[WORLDS[kind][1]]
    evaluate(method, world(6), jsonl=tmp_path / "r.jsonl")
    for protocol in {"avss": semantic.PROTOCOLS, "vggss": loc.PROTOCOLS}[kind]:
        direct = evaluate(method, world(6), protocol=protocol)
        assert read_report([tmp_path / "r.jsonl"], protocol).to_json() == direct.to_json()
    with pytest.raises(UsageError, match="no protocol named 'avsbench'; choose from"):
        evaluate(method, world(6), protocol="avsbench")


def test_two_evaluations_of_classes_are_compared(tmp_path):
    for name, method in (("one", namer), ("two", sign_painter)):
        evaluate(method, ClassWorld(12), jsonl=tmp_path / f"{name}.jsonl")
    found = compare(tmp_path / "one.jsonl", tmp_path / "two.jsonl").tiers["all"]["class_miou"]
    one, two = (read_report([tmp_path / f"{name}.jsonl"]).score("class_miou") for name in ("one", "two"))
    assert found.estimate == pytest.approx(one.estimate - two.estimate)
    assert 0 < found.low <= found.estimate <= found.high
    assert "mIoU over classes" in compare(tmp_path / "one.jsonl", tmp_path / "two.jsonl").to_markdown()
    evaluate(long_listener, PlaceWorld(12), jsonl=tmp_path / "three.jsonl")
    with pytest.raises(UsageError, match=r"can't be paired.*kind: 'semantic' against 'localization'"):
        compare(tmp_path / "one.jsonl", tmp_path / "three.jsonl")


def test_class_maps_in_a_folder_score_as_the_method_that_made_them(tmp_path):
    world = ClassWorld(5)
    for sample_id in world.ids:
        (tmp_path / sample_id).mkdir()
        for t, labels in enumerate(namer(world.load(sample_id).clip).labels):
            Image.fromarray(labels).save(tmp_path / sample_id / f"{t}.png")
    report, direct = evaluate_predictions(tmp_path, world), evaluate(namer, world)
    for metric in ("class_miou", "class_f", "miou", "f"):
        assert report.score(metric) == direct.score(metric)
    Image.new("RGB", (24, 24)).save(tmp_path / "clip0001" / "3.png")
    failed = evaluate_predictions(tmp_path, world).failed
    assert [row["id"] for row in failed] == ["clip0001"]
    assert "a class index per pixel" in failed[0]["error"]


@pytest.mark.parametrize("seed", range(3))
def test_a_split_without_any_class_draws_any_other_clip(seed):
    world = ColorWorld(20)
    world.categories = lambda: dict.fromkeys(world.ids, "")
    partners = draw_partners(world, seed)
    assert set(partners) == set(world.ids)
    assert all(one != other for one, other in partners.items())
    assert len(set(partners.values())) > 8


@pytest.mark.long
@pytest.mark.parametrize("kind", WORLDS)
def test_a_thousand_videos_need_the_memory_of_ten(kind):
    sys.path.insert(0, str(HERE.parent / "benchmarks"))
    from evaluation_memory import in_own_process

    assert in_own_process(kind, 1000) <= 1.1 * in_own_process(kind, 10)
