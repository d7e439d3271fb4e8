"""Evaluation over a small world: slow sums, controls, comparisons, reports."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from helpers import TESTS
from helpers.color_world import AdaptedListener, ColorWorld, foreground, listener, painter
from moca_avs.errors import DataError, UsageError
from moca_avs_bench.evaluation.compare import compare
from moca_avs_bench.evaluation.controls import draw_partners, with_audio_of
from moca_avs_bench.evaluation.evaluate import evaluate, evaluate_predictions
from moca_avs_bench.evaluation.report import read_report
from moca_avs_bench.metrics import objects, region
from moca_avs_bench.metrics.bootstrap import bootstrap_difference, bootstrap_mean

HERE = TESTS


def everything(method, dataset):
    """Samples and answers all at once, in memory: what the streamed report is checked against."""
    samples = [dataset.load(sample_id) for sample_id in dataset.ids]
    return samples, [method(sample.clip) for sample in samples]


@pytest.mark.parametrize("protocol", ["avsbench", "per_frame", "dataset"])
@pytest.mark.parametrize("method", [listener, painter])
def test_the_report_equals_the_pure_functions_on_the_whole_split(method, protocol):
    world = ColorWorld(14)
    report = evaluate(method, world, protocol=protocol)
    samples, answers = everything(method, world)
    for tier in ("A", "B", "all"):
        chosen = [i for i, sample in enumerate(samples) if tier in (sample.tier, "all")]
        masks = np.concatenate([answers[i].masks for i in chosen])
        truth = np.concatenate([samples[i].masks for i in chosen])
        videos = [len(samples[i].masks) for i in chosen]
        score = {
            metric: report.score(metric, tier=tier).estimate for metric in ("miou", "miou_sounding", "f")
        }
        assert score["miou"] == pytest.approx(region.mean_iou(masks, truth, videos, protocol))
        sounding = region.mean_iou(masks, truth, videos, protocol, sounding_only=True)
        assert score["miou_sounding"] == pytest.approx(sounding)
        assert score["f"] == pytest.approx(region.f_score(masks, truth, videos, protocol))
        silent, missed = report.score("silent_accuracy", tier=tier), report.score("false_silence", tier=tier)
        assert silent.estimate == pytest.approx(objects.silent_accuracy(masks, truth))
        assert missed.estimate == pytest.approx(objects.false_silence_rate(masks, truth))
        assert (silent.n, missed.n) == ((~truth.any((1, 2))).sum(), truth.any((1, 2)).sum())


def test_f_can_be_taken_from_the_heat_map():
    world = ColorWorld(6)
    samples, answers = everything(listener, world)
    heat = np.concatenate([objects.upsample(answer.heatmaps, 24, 24) for answer in answers])
    truth = np.concatenate([sample.masks for sample in samples])
    for protocol in ("avsbench", "per_frame", "dataset"):
        report = evaluate(listener, world, protocol=protocol, f_from="heatmap", controls=())
        expected = region.f_score(np.clip(heat, 0, 1), truth, [5] * 6, protocol)
        assert report.score("f").estimate == pytest.approx(expected)
        assert expected != pytest.approx(evaluate(listener, world, protocol=protocol).score("f").estimate)


def test_intervals_resample_source_files():
    world = ColorWorld(14)
    report = evaluate(painter, world, seed=3)
    samples, answers = everything(painter, world)
    iou = [region.frame_iou(a.masks, s.masks).mean() for s, a in zip(samples, answers, strict=True)]
    assert report.score("miou") == bootstrap_mean(iou, [s.cluster for s in samples], seed=3)
    pairs = [
        objects.object_accuracy(
            a.heatmaps, np.stack([o.mask for o in s.objects]), np.stack([o.sounding for o in s.objects])
        )
        for s, a in zip(samples, answers, strict=True)
    ]
    defined = [
        (np.nanmean(p), (~np.isnan(p)).sum(), s.cluster)
        for p, s in zip(pairs, samples, strict=True)
        if s.masks.any()
    ]
    values, weights, clusters = zip(*defined, strict=True)
    found, expected = report.score("object_accuracy"), bootstrap_mean(values, clusters, weights, seed=3)
    for end in ("estimate", "low", "high", "n", "clusters"):
        assert getattr(found, end) == pytest.approx(getattr(expected, end))


def test_a_perfect_listener_and_its_controls():
    report = evaluate(AdaptedListener(), ColorWorld(14), foreground=foreground)
    assert list(report.tiers) == ["A", "B", "all"]
    assert list(report.tiers["all"].rows) == [
        "method", "wrong_sound", "wrong_adapters", "empty", "full", "foreground", "all_objects",
    ]  # fmt: skip

    def scores(row):
        return {m: found.estimate for m, found in report.tiers["all"].rows[row].items()}

    assert scores("method") == pytest.approx(
        {"miou": 1, "miou_sounding": 1, "f": scores("method")["f"], "object_accuracy": 1, "swap_accuracy": 1,
         "silent_accuracy": 1, "false_silence": 0}
    )  # fmt: skip
    assert scores("wrong_sound")["miou_sounding"] == 0
    assert scores("wrong_sound")["object_accuracy"] <= 0.5
    assert np.isnan(scores("wrong_sound")["swap_accuracy"])
    assert scores("wrong_adapters")["miou"] == pytest.approx(1)  # masks come from its own sound
    assert scores("wrong_adapters")["object_accuracy"] <= 0.5
    assert scores("wrong_adapters")["swap_accuracy"] == 0
    for row in ("empty", "full", "foreground", "all_objects"):
        assert scores(row)["swap_accuracy"] == 0
        assert scores(row)["object_accuracy"] == 0.5
    assert scores("empty")["silent_accuracy"] == scores("empty")["false_silence"] == 1
    assert scores("full")["silent_accuracy"] == scores("full")["false_silence"] == 0
    assert scores("foreground") == pytest.approx(scores("all_objects"), nan_ok=True)
    assert 0 < scores("all_objects")["miou_sounding"] < 1
    assert report.reasons == {
        "": 70 - report.tiers["all"].empty_frames,
        "silent": report.tiers["all"].empty_frames,
    }


def test_a_method_without_adapters_has_no_adapter_control():
    rows = evaluate(listener, ColorWorld(4)).tiers["all"].rows
    assert "wrong_sound" in rows
    assert "wrong_adapters" not in rows
    assert "wrong_sound" not in evaluate(listener, ColorWorld(4), controls=()).tiers["all"].rows


@pytest.mark.parametrize("seed", range(3))
def test_partners_never_share_a_class(seed):
    world = ColorWorld(60)
    partners, categories = draw_partners(world, seed), world.categories()
    assert set(partners) == set(world.ids)
    assert all(categories[a] != categories[b] for a, b in partners.items())
    assert partners == draw_partners(ColorWorld(60), seed)
    assert partners != draw_partners(world, seed + 10)
    assert len(Counter(partners.values())) > 25  # spread over the split
    assert not world.loaded  # drawing loads nothing


def test_partners_of_several_classes_share_none_of_them():
    world = ColorWorld(6)
    labels = ["dog+cat", "dog", "cat", "cow", "cow+dog", ""]
    world.categories = lambda: dict(zip(world.ids, labels, strict=True))
    for seed in range(20):
        partners = draw_partners(world, seed)
        assert partners["clip0000"] == "clip0003"
        assert partners["clip0001"] in ("clip0002", "clip0003")
        assert partners["clip0004"] == "clip0002"
        assert "clip0005" not in partners.values()  # a silent clip is no wrong sound
    labels = ["dog"] * 6
    assert draw_partners(world, 0) == {}


def test_the_wrong_sound_covers_the_clip():
    world = ColorWorld(3)
    clip, other = world.load("clip0000").clip, world.load("clip0001").clip
    assert np.array_equal(with_audio_of(clip, other).sound, other.sound)
    short = type(other)(other.frames, other.times, other.sound[:700], 100, "short", noise_floor=-50.0)
    given = with_audio_of(clip, short)
    assert given.sample_rate == 100
    assert given.noise_floor == -50.0
    assert np.array_equal(given.sound, np.tile(other.sound[:700], 1)[:700])
    shorter = type(other)(other.frames, other.times, other.sound[:200], 100)
    assert np.array_equal(with_audio_of(clip, shorter).sound, np.tile(other.sound[:200], 3)[:500])
    assert np.array_equal(given.frames, clip.frames)
    assert given.sound_times is clip.sound_times
    silent = type(other)(other.frames, other.times, other.sound[:0], 100, "mute.mp4")
    with pytest.raises(DataError, match=r"mute\.mp4 .* no sound"):
        with_audio_of(clip, silent)


def test_compare_pairs_the_same_samples(tmp_path):
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    evaluate(listener, ColorWorld(14, broken=["clip0003"]), jsonl=one)
    evaluate(painter, ColorWorld(14, broken=["clip0006"]), jsonl=two)
    found = compare(one, two)
    assert (found.samples, found.left_out) == (12, 2)
    samples = [ColorWorld(14).load(i) for i in ColorWorld(14).ids if i not in ("clip0003", "clip0006")]
    iou = [[region.frame_iou(m(s.clip).masks, s.masks).mean() for s in samples] for m in (listener, painter)]
    expected = bootstrap_difference(*iou, [s.cluster for s in samples])
    for end in ("estimate", "low", "high", "n", "clusters"):
        assert getattr(found.tiers["all"]["miou"], end) == pytest.approx(getattr(expected, end))
    assert found.tiers["all"]["miou"].low > 0
    control = compare(one, one, "method", "wrong_sound")
    assert control.tiers["all"]["miou_sounding"].estimate == pytest.approx(1)
    assert "swap_accuracy" not in control.tiers["all"]
    assert "listener: method minus listener: wrong_sound" in control.to_markdown()
    assert json.loads(control.to_json())["samples"] == control.samples
    nothing = compare(one, one)
    assert all(i.estimate == i.low == i.high == 0 for i in nothing.tiers["all"].values())
    with pytest.raises(DataError, match="'foreground'"):
        compare(one, two, "foreground", "method")
    evaluate(painter, ColorWorld(13), jsonl=tmp_path / "three.jsonl")
    with pytest.raises(UsageError, match=r"can't be paired.*size: 14 against 13"):
        compare(one, tmp_path / "three.jsonl")


def test_a_file_can_be_read_by_another_protocol(tmp_path):
    path = tmp_path / "records.jsonl"
    evaluate(painter, ColorWorld(9), jsonl=path)
    for protocol in ("per_frame", "dataset"):
        direct = evaluate(painter, ColorWorld(9), protocol=protocol)
        assert read_report([path], protocol).to_json() == direct.to_json()


def test_the_report_is_deterministic_json_and_a_readable_table(tmp_path):
    report = evaluate(AdaptedListener(), ColorWorld(5), foreground=foreground)
    assert report.to_json() == evaluate(AdaptedListener(), ColorWorld(5), foreground=foreground).to_json()
    report.write(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["settings"] == {"method": "adapted", "window": 0.5, "sites": [1, 2]}
    assert content["tiers"]["all"]["rows"]["wrong_sound"]["swap_accuracy"]["estimate"] is None
    assert (content["protocol"], content["size"], content["seed"]) == ("avsbench", 5, 0)
    assert list(tmp_path.iterdir()) == [tmp_path / "report.json"]
    table = report.to_markdown()
    head = next(line for line in table.splitlines() if line.startswith("| row"))
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert all(line.count("|") == head.count("|") for line in rows)
    assert "control: wrong sound to everything" in table
    assert report.settings_sha256[:12] in table


def test_splits_without_tiers_or_objects_have_one_table(tmp_path):
    class Plain(ColorWorld):
        def load(self, sample_id):
            sample = super().load(sample_id)
            fields = {k: getattr(sample, k) for k in ("id", "clip", "masks", "category", "cluster")}
            return type(sample)(**fields, missing=("frame 3",))

    report = evaluate(listener, Plain(4))
    assert list(report.tiers) == ["all"]
    assert "all_objects" not in report.tiers["all"].rows
    assert report.score("object_accuracy").n == 0
    assert "object accuracy" not in report.to_markdown()
    assert report.incomplete[0] == {"id": "clip0000", "missing": ["frame 3"]}


def test_masks_in_a_folder_score_as_the_method_that_made_them(tmp_path):
    world = ColorWorld(6)
    for number, sample_id in enumerate(world.ids):
        home = tmp_path / "masks" / sample_id / ("masks" if number % 2 else "")
        home.mkdir(parents=True)
        for t, mask in enumerate(painter(world.load(sample_id).clip).masks):
            Image.fromarray(mask.astype(np.uint8) * 255).save(home / f"{t:06d}.png")
    report = evaluate_predictions(tmp_path / "masks", world, foreground=foreground)
    direct = evaluate(painter, world, foreground=foreground)
    for metric in ("miou", "miou_sounding", "f", "silent_accuracy", "false_silence"):
        assert report.score(metric) == direct.score(metric)
    assert list(report.tiers["all"].rows) == ["method", "empty", "full", "foreground", "all_objects"]

    (tmp_path / "masks" / "clip0000" / "000004.png").unlink()
    Image.new("L", (9, 24)).save(tmp_path / "masks" / "clip0002" / "000001.png")
    failed = evaluate_predictions(tmp_path / "masks", world).failed
    assert [row["id"] for row in failed] == ["clip0000", "clip0002"]
    assert "should hold 5 PNG masks, found 4" in failed[0]["error"]
    assert "24 high and 24 wide, found 24 by 9" in failed[1]["error"]
    with pytest.raises(UsageError, match="should be a folder"):
        evaluate_predictions(tmp_path / "nowhere", world)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"controls": ("wrong",)}, "no control named wrong"),
        ({"protocol": "batch"}, "no protocol named 'batch'"),
        ({"f_from": "scores"}, "mask or heatmap, found 'scores'"),
        ({"shard": (0, 3)}, "1 <= i <= n, found 0/3"),
        ({"shard": (4, 3)}, "found 4/3"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        evaluate(listener, ColorWorld(2), **options)


def test_progress_shows_a_bar(capsys):
    evaluate(listener, ColorWorld(2), progress=True)
    assert "2/2" in capsys.readouterr().err
