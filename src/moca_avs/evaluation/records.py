"""One JSON line per sample holds its numbers frame by frame; all scores are rebuilt from those lines."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from moca_avs.datasets.base import Sample
from moca_avs.errors import DataError, UsageError
from moca_avs.evaluation.answers import Answer
from moca_avs.metrics import objects, region

FORMAT = 1
Record = dict[str, Any]
Header = dict[str, Any]
FSource = Literal["mask", "heatmap"]

METRICS = (
    "miou",
    "miou_sounding",
    "f",
    "object_accuracy",
    "swap_accuracy",
    "silent_accuracy",
    "false_silence",
)


def score(answer: Answer, sample: Sample, f_from: FSource) -> Record:
    """Everything that any protocol needs of one row of one sample.

    Args:
        answer: of one row.
        sample: its truth.
        f_from: what F sweeps its thresholds over: the mask as {0, 1}, or the heat map upsampled.

    Returns:
        Per frame ``iou``, ``f`` (highest point of its curve), ``blank`` (0/1: empty mask), ``object`` and
        ``swap`` (null where undefined); and ``curve``, the F curve summed over frames with a truth: 255
        numbers from a heat map, 2 from a mask (threshold 0 and all others).

    Raises:
        DataError: on masks of another shape than the truth.
    """
    truth = sample.masks
    if answer.masks.shape != truth.shape:
        raise DataError(
            f"masks must have the truth's shape {list(truth.shape)}, found {list(answer.masks.shape)}"
        )
    curves = _curves(answer, truth, f_from)
    record: Record = {
        "iou": region.frame_iou(answer.masks, truth).tolist(),
        "f": curves.max(1).tolist(),
        "curve": curves[region.nonempty(truth)].sum(0).tolist(),
        "blank": (~region.nonempty(answer.masks)).astype(int).tolist(),
    }
    record.update(_hearing(answer, sample))
    if answer.reasons:
        record["reasons"] = list(answer.reasons)
    return record


def columns(record: Record, row: str, protocol: region.Protocol) -> dict[str, np.ndarray]:
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


def read_header(path: Path) -> Header:
    """The first line of a file of records.

    Raises:
        DataError: where the file is missing or begins with something else.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            header = json.loads(lines.readline() or "null")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} should be the JSONL file of an evaluation: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DataError(f"{path} should begin with an evaluation header of format {FORMAT}; make it again")
    return header


def read_records(path: Path) -> Iterator[Record]:
    """Records in the file's order, one at a time; a last line cut off by a kill is not one.

    Raises:
        DataError: on a damaged line.
    """
    with path.open(encoding="utf-8") as lines:
        next(lines, None)  # the header
        for number, line in enumerate(lines, 2):
            if not line.endswith("\n"):
                return
            try:
                yield json.loads(line)
            except ValueError as error:
                raise DataError(f"line {number} of {path} is damaged: {error}; remove the file") from error


def read_together(paths: Sequence[Path]) -> tuple[Header, Iterator[Record]]:
    """The records of several shards in the split's order, one at a time, under their one header.

    Raises:
        UsageError: where the files are not of one evaluation.
        DataError: on a missing or damaged file.
    """
    if not paths:
        raise UsageError("no JSONL file was given; name at least one")
    header, *others = [
        {key: value for key, value in read_header(path).items() if key != "shard"} for path in paths
    ]
    for path, other in zip(paths[1:], others, strict=True):
        check_same(header, other, f"{path} is not of the same evaluation as {paths[0]}")
    streams = [read_records(path) for path in paths]
    return header, heapq.merge(*streams, key=lambda record: record["index"])


def check_same(expected: Header, found: Header, complaint: str) -> None:
    """Raises UsageError that names what differs between two headers."""
    differing = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    if differing:
        details = "; ".join(f"{key}: {expected.get(key)!r} against {found.get(key)!r}" for key in differing)
        raise UsageError(f"{complaint}: {details}"[:2000])


def _curves(answer: Answer, truth: np.ndarray, f_from: FSource) -> np.ndarray:
    """F curves [T, 255] of a heat map, or their two different columns [T, 2] of a mask."""
    if f_from == "mask":
        return region.f_curves(answer.masks, truth)[:, :2]
    heat = objects.upsample(answer.heat, *truth.shape[1:])
    return region.f_curves(np.clip(heat, 0, 1), truth)  # interpolation may round past 1


def _hearing(answer: Answer, sample: Sample) -> Record:
    """Object and swap accuracy per frame, where the sample has objects."""
    if not sample.objects:
        return {}
    masks = np.stack([thing.mask for thing in sample.objects])
    sounding = np.stack([thing.sounding for thing in sample.objects])
    found = {"object": _nullable(objects.object_accuracy(answer.heat, masks, sounding))}
    if sample.swapped and answer.swapped_heat is not None:
        right = objects.swap_accuracy(answer.heat, answer.swapped_heat, masks, sounding, sample.swapped[1])
        found["swap"] = _nullable(right)
    return found


def _nullable(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _mean(values: np.ndarray, per_video: bool = False) -> np.ndarray:
    """Sum and count, or the video's mean and 1."""
    if not len(values):
        return np.zeros(2)
    return np.array([values.mean(), 1.0] if per_video else [values.sum(), len(values)])


def _f_columns(numbers: Record, sounding: int, protocol: region.Protocol) -> np.ndarray:
    """A call of only empty truths scores 0 and counts; inside a call such frames are left out."""
    if protocol == "per_frame":
        return np.array([sum(numbers["f"]), len(numbers["f"])])
    if protocol == "dataset":
        return np.array([*numbers["curve"], sounding], float)
    return np.array([max(numbers["curve"]) / sounding if sounding else 0.0, 1.0])
