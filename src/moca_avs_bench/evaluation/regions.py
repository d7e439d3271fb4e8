"""Scoring S4 and MS3: masks against masks, by the protocols of `metrics.region`."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np

from moca_avs.data.base import Sample
from moca_avs_bench.evaluation.controls import Prediction
from moca_avs_bench.evaluation.records import FSource, Record
from moca_avs_bench.metrics import objects, region

PROTOCOLS = get_args(region.Protocol)
METRICS = (
    "miou",
    "miou_sounding",
    "f",
    "object_accuracy",
    "swap_accuracy",
    "silent_accuracy",
    "false_silence",
)


def score(prediction: Prediction, sample: Sample, f_from: FSource) -> Record:
    """Everything that any protocol needs of one row of one sample.

    Args:
        prediction: of one row.
        sample: its truth.
        f_from: what F sweeps its thresholds over: the mask as {0, 1}, or the heat map upsampled.

    Returns:
        Per frame ``iou``, ``f`` (highest point of its curve), ``blank`` (0/1: empty mask), ``object`` and
        ``swap`` (null where undefined); and ``curve``, the F curve summed over frames with a truth: 255
        numbers from a heat map, 2 from a mask (threshold 0 and all others).
    """
    truth = sample.masks
    curves = _curves(prediction, truth, f_from)
    record: Record = {
        "iou": region.frame_iou(prediction.masks, truth).tolist(),
        "f": curves.max(1).tolist(),
        "curve": curves[region.nonempty(truth)].sum(0).tolist(),
        "blank": (~region.nonempty(prediction.masks)).astype(int).tolist(),
    }
    return record | _object_scores(prediction, sample)


def columns(record: Record, row: str, protocol: str) -> dict[str, np.ndarray]:
    """What one sample adds to each score of a row: metric -> float64 [S], the last number a count.

    A score is the highest of the sums divided by the summed count (see `metrics.bootstrap`).

    Args:
        record: of one sample.
        row: name of the row.
        protocol: what one call of the public script holds.
    """
    numbers = record["rows"][row]
    sounding = np.array(record["truth"]) > 0
    iou, blank = np.array(numbers["iou"]), np.array(numbers["blank"], float)
    per_video = protocol == "avsbench"
    found = {
        "miou": _mean(iou, per_video),
        "miou_sounding": _mean(iou[sounding], per_video),
        "f": _f_columns(numbers, int(sounding.sum()), protocol),
        "silent_accuracy": _mean(blank[~sounding]),
        "false_silence": _mean(blank[sounding]),
    }
    for metric, key in (("object_accuracy", "object"), ("swap_accuracy", "swap")):
        if key in numbers:
            found[metric] = _mean(np.array([value for value in numbers[key] if value is not None]))
    return found


def _curves(prediction: Prediction, truth: np.ndarray, f_from: FSource) -> np.ndarray:
    """F curves [T, 255] of a heat map, or their two different columns [T, 2] of a mask."""
    if f_from == "mask":
        return region.f_curves(prediction.masks, truth)[:, :2]
    heat = objects.upsample(prediction.heat, *truth.shape[1:])
    return region.f_curves(np.clip(heat, 0, 1), truth)  # interpolation may round past 1


def _object_scores(prediction: Prediction, sample: Sample) -> Record:
    """Object and swap accuracy per frame, where the sample has objects."""
    if not sample.objects:
        return {}
    masks = np.stack([thing.mask for thing in sample.objects])
    sounding = np.stack([thing.sounding for thing in sample.objects])
    found = {"object": _nullable(objects.object_accuracy(prediction.heat, masks, sounding))}
    if sample.swapped and prediction.swapped_heat is not None:
        right = objects.swap_accuracy(
            prediction.heat, prediction.swapped_heat, masks, sounding, sample.swapped[1]
        )
        found["swap"] = _nullable(right)
    return found


def _nullable(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _mean(values: np.ndarray, per_video: bool = False) -> np.ndarray:
    """Sum and count, or the video's mean and 1."""
    if not len(values):
        return np.zeros(2)
    return np.array([values.mean(), 1.0] if per_video else [values.sum(), len(values)])


def _f_columns(numbers: Record, sounding: int, protocol: str) -> np.ndarray:
    """A call of only empty truths scores 0 and counts; inside a call such frames are left out."""
    if protocol == "per_frame":
        return np.array([sum(numbers["f"]), len(numbers["f"])])
    if protocol == "dataset":
        return np.array([*numbers["curve"], sounding], float)
    return np.array([max(numbers["curve"]) / sounding if sounding else 0.0, 1.0])
