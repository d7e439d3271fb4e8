"""Silent splits, black and full masks, flat heat, one sample, none: numbers, or a word on why not."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from helpers.color_world import ClassWorld, ColorWorld, PlaceWorld, foreground, said
from helpers.real_videos import write_world
from moca_avs.data.base import Sample, SceneObject
from moca_avs.errors import DataError
from moca_avs_bench.data import open_evaluation_set
from moca_avs_bench.evaluation.compare import compare
from moca_avs_bench.evaluation.controls import Prediction
from moca_avs_bench.evaluation.evaluate import evaluate, evaluate_predictions
from moca_avs_bench.evaluation.scorers import SCORERS

WORLDS = {"region": ColorWorld, "semantic": ClassWorld, "localization": PlaceWorld}
PROTOCOLS = [(kind, protocol) for kind in WORLDS for protocol in SCORERS[kind].protocols]


def silenced(kind, size=3, silent=None):
    """A split whose samples (all, or the first few) have no frame with a truth."""
    silent = size if silent is None else silent

    class Silenced(WORLDS[kind]):
        def load(self, sample_id):
            sample = super().load(sample_id)
            if int(sample_id[4:]) >= silent:
                return sample
            quiet = tuple(replace(one, sounding=one.sounding & False) for one in sample.objects)
            changed = {"masks": sample.masks & False, "objects": quiet, "swapped": None}
            if sample.labels is not None:
                changed["labels"] = sample.labels * 0
            if sample.consensus is not None:
                changed["consensus"] = sample.consensus * 0
            return replace(sample, **changed)

    return Silenced(size)


def write_masks(folder, world, value):
    for sample_id in world.ids:
        (folder / sample_id).mkdir(parents=True)
        for t, mask in enumerate(world.load(sample_id).masks):
            Image.fromarray(np.full(mask.shape, value, np.uint8)).save(folder / sample_id / f"{t:03d}.png")
    return folder


def flat(value, height):
    """A method whose heat is the same everywhere; with a mask of everything, or of nothing."""

    def method(clip):
        masks = np.full(clip.frames.shape[:3], value > 0)
        heat = np.full((len(clip), height, 12), value, np.float16)
        return said(clip, masks, heat, [""] * len(clip))

    return method


def checked(report):
    """The report's JSON, after it was found whole: no NaN, no infinity, nothing undefined without a word."""
    text, whole = report.to_markdown(), report.to_json()
    parsed = json.loads(whole, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    words = text.replace("|", " ").replace("[", " ").split()
    assert not {"nan", "inf", "-inf", "nan,", "nan]", "none", "None"} & set(words)
    assert (" – " in text) == ("–: not defined, nothing of the kind to score." in text)
    return parsed


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("silent", [0, 1, 3])
@pytest.mark.parametrize(("kind", "protocol"), PROTOCOLS)
def test_black_and_full_masks_in_a_folder(kind, protocol, silent, value, tmp_path):
    world = silenced(kind, silent=silent)
    folder = write_masks(tmp_path, world, 1 if kind == "semantic" and value else value)
    report = evaluate_predictions(folder, world, foreground=foreground, protocol=protocol)
    found = checked(report)["tiers"]["all"]["rows"]["method"]
    if kind == "localization":
        assert all(0 <= one["estimate"] <= 1 for one in found.values())
        return
    sounding = "miou_sounding" if kind == "region" else "class_miou"
    for metric, one in found.items():
        assert (one["estimate"] is None) == (one["n"] == 0), metric
    if silent == 3 and kind == "region":
        assert (found[sounding]["estimate"], found[sounding]["n"]) == (None, 0)
        assert found["silent_accuracy"]["estimate"] == (0 if value else 1)
        assert found["miou"]["estimate"] == pytest.approx(0 if value else 1, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("f_from", ["mask", "heatmap"])
@pytest.mark.parametrize("kind", WORLDS)
def test_flat_heat(kind, f_from, value, tmp_path):
    files = []
    for height in (12, 7):
        files.append(tmp_path / f"{height}.jsonl")
        world = silenced(kind, silent=1)
        report = evaluate(flat(value, height), world, f_from=f_from, jsonl=files[-1])
        checked(report)
        if kind == "region":
            assert report.score("object_accuracy").estimate == 0.5
            assert report.score("swap_accuracy").estimate == 0
    checked(compare(*files))
    checked(compare(files[0], files[0], "method", "wrong_sound"))


def test_one_sample_and_none(tmp_path):
    for kind in WORLDS:
        one = checked(evaluate(flat(0.0, 5), WORLDS[kind](1)))["tiers"]["all"]
        assert (one["samples"], one["clusters"]) == (1, 1)
        with pytest.raises(DataError, match="none of 0 samples could be scored"):
            evaluate(flat(0.0, 5), WORLDS[kind](0))


@pytest.mark.parametrize("value", [0.0, 0.4])
@pytest.mark.parametrize("boxes", ["none", "all"])
def test_boxes_around_nothing_and_around_everything(boxes, value):
    inside = np.full((1, 6, 8), boxes == "all")
    things = (
        SceneObject(inside, np.array([True]), "red", "a"),
        SceneObject(~inside, np.array([False]), "", "b"),
    )
    sample = Sample("a", None, inside, "red", "a", objects=things)
    prediction = Prediction(np.zeros((1, 6, 8), bool), np.full((1, 3, 3), value, np.float32))
    scorer = SCORERS["boxes"]
    row = scorer.score(prediction, sample, "mask")
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert row == {"iou": 0, "box_iou": 0, "pointing": None, "heat_auc": None, "which": None}
    assert set(scorer.columns({"rows": {"method": row}}, "method", "boxes")) == {"iou", "box_iou"}


@pytest.mark.parametrize("value", [0, 255])
def test_black_and_full_masks_of_real_videos(value, tmp_path):
    (tmp_path / "videos").mkdir()
    world = open_evaluation_set("boxes", write_world(tmp_path / "videos", ("red", "green"), silent=(1,)))
    folder = write_masks(tmp_path / "masks", world, value)
    report = evaluate_predictions(
        folder, world, foreground=lambda frame: np.zeros((0, *frame.shape[:2]), bool)
    )
    found = checked(report)["tiers"]["all"]["rows"]["method"]
    assert (found["heat_auc"]["estimate"], found["which"]["estimate"], found["which"]["n"]) == (0.5, None, 0)


def test_records_of_former_metrics_are_not_gone_on_with(tmp_path):
    file = tmp_path / "records.jsonl"
    evaluate(flat(0.4, 12), ColorWorld(2), jsonl=file)
    header, *lines = file.read_text().splitlines(keepends=True)
    former = {key: value for key, value in json.loads(header).items() if key != "metrics"}
    old = tmp_path / "old.jsonl"
    old.write_text(json.dumps(former) + "\n" + "".join(lines))
    with pytest.raises(Exception, match="metrics: 2 against None"):
        evaluate(flat(0.4, 12), ColorWorld(2), jsonl=old, resume=True)
    with pytest.raises(Exception, match="can't be paired: metrics"):
        compare(file, old)
    compare(old, old)  # what was evaluated before can still be read
