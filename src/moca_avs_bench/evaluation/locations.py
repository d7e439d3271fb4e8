"""Scoring localization (VGG-SS, VGGSound-Single, Flickr-SoundNet) by the rules of `metrics.localization`."""

from __future__ import annotations

import numpy as np

from moca_avs.data.base import Sample
from moca_avs.errors import DataError
from moca_avs_bench.evaluation.controls import Prediction
from moca_avs_bench.evaluation.records import FSource, Record
from moca_avs_bench.metrics import localization

PROTOCOLS = localization.PROTOCOLS
METRICS = ("ciou", "auc", "mean_ciou")


def score(prediction: Prediction, sample: Sample, f_from: FSource) -> Record:
    """The cIoU of one image by every protocol.

    Args:
        prediction: of one row.
        sample: its truth, with `consensus`.
        f_from: has no meaning here.

    Returns:
        ``ciou``: protocol -> number.

    Raises:
        DataError: where the sample has no ground-truth map.
    """
    if sample.consensus is None:
        raise DataError(f"sample {sample.id} has no ground-truth map; localization sets have one")
    heat = prediction.heat.astype(np.float32)
    found = {
        protocol: localization.ciou(
            localization.predicted(protocol, heat, prediction.masks), sample.consensus[None]
        ).item()
        for protocol in PROTOCOLS
    }
    return {"ciou": found}


def columns(record: Record, row: str, protocol: str) -> dict[str, np.ndarray]:
    """What one image adds to each score of a row: metric -> float64 [2], the last number a count.

    Args:
        record: of one sample.
        row: name of the row.
        protocol: "lvs", "ez-vsl" or "mask".
    """
    scores = np.array([record["rows"][row]["ciou"][protocol]])
    found = {
        "ciou": localization.success_rate(scores),
        "auc": localization.auc(scores),
        "mean_ciou": scores.item(),
    }
    return {metric: np.array([value, 1.0]) for metric, value in found.items()}
