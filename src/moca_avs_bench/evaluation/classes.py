"""Scoring AVSS: class maps against class maps (`metrics.semantic`), and what is heard against background.

Where an answer names no classes, it has no class scores, and the report says so; what it found is
still scored as a mask, as in S4 (protocol ``avsbench``).
"""

from __future__ import annotations

import numpy as np

from moca_avs.data.base import Sample
from moca_avs.errors import DataError
from moca_avs_bench.evaluation import regions
from moca_avs_bench.evaluation.controls import Prediction
from moca_avs_bench.evaluation.records import FSource, Record
from moca_avs_bench.metrics import semantic

PROTOCOLS = semantic.PROTOCOLS
METRICS = ("class_miou", "class_f", *regions.METRICS)
STATISTICS = {"class_miou": semantic.mean_over_classes, "class_f": semantic.mean_over_classes}

LOADED = 10
"""Frames that the public loader makes of every clip; those that a clip doesn't have are its padding."""


def score(prediction: Prediction, sample: Sample, f_from: FSource) -> Record:
    """What `regions.score` says of the masks; and, of labels, sums over the frames of each class found.

    Args:
        prediction: of one row.
        sample: its truth, with `labels`.
        f_from: see `regions.score`.

    Returns:
        Also ``classes``: ``index`` of the classes in prediction or truth, and for each the frames that
        hold it (``seen``) and the sums of ``iou`` and ``f``.

    Raises:
        DataError: on labels of another shape, or with a class that the dataset doesn't have.
    """
    record = regions.score(prediction, sample, f_from)
    if prediction.labels is None or sample.labels is None:
        return record
    if prediction.labels.shape != sample.labels.shape or prediction.labels.max() >= len(sample.classes):
        raise DataError(
            f"labels must be {list(sample.labels.shape)} with classes below {len(sample.classes)}, "
            f"found {list(prediction.labels.shape)} up to {prediction.labels.max()}"
        )
    totals = semantic.update(semantic.begin(len(sample.classes)), prediction.labels, sample.labels)
    index = np.flatnonzero(totals.seen)
    record["classes"] = {
        "index": index.tolist(),
        "seen": totals.seen[index].astype(int).tolist(),
        "iou": totals.iou[index].tolist(),
        "f": totals.f[index].tolist(),
    }
    return record


def columns(record: Record, row: str, protocol: str) -> dict[str, np.ndarray]:
    """What one sample adds to each score of a row.

    Args:
        record: of one sample.
        row: name of the row.
        protocol: "real" or "padded".

    Returns:
        metric -> float64 [S]; S = 2 C + 1 for class scores (see `semantic.mean_over_classes`).
    """
    found = regions.columns(record, row, "avsbench")
    said = record["rows"][row].get("classes")
    if said is None:
        return found
    frames, count = len(record["truth"]), record["class_count"]
    padding = max(LOADED - frames, 0) if protocol == "padded" else 0
    seen = _spread(said, "seen", count, padding)
    for metric, key in (("class_miou", "iou"), ("class_f", "f")):
        found[metric] = np.concatenate([_spread(said, key, count, padding), seen, [frames + padding]])
    return found


def _spread(said: Record, key: str, classes: int, padding: int) -> np.ndarray:
    """Sums per class, float64 [C]; padding is background in prediction and truth."""
    sums = np.zeros(classes)
    sums[said["index"]] = said[key]
    sums[0] += padding
    return sums
