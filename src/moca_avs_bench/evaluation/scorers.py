"""How each kind of dataset is scored: its protocols, its metrics, and what a record holds of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from moca_avs.data.base import EvaluationSet, Sample
from moca_avs.errors import DataError, UsageError
from moca_avs_bench.evaluation import classes, locations, regions
from moca_avs_bench.evaluation.controls import Prediction
from moca_avs_bench.evaluation.records import FSource, Record
from moca_avs_bench.metrics.bootstrap import Statistic, peak_of_means


@dataclass(frozen=True)
class Scorer:
    """One kind of dataset.

    Attributes:
        kind: its name.
        protocols: names of its protocols, the default first.
        metrics: in the order of a report's columns.
        score: an answer to a sample -> the numbers of a record's row, enough for every protocol.
        columns: (record, row, protocol) -> metric -> sums, the last one a count.
        statistics: metric -> what makes a score of sums, where that is not the highest mean.
    """

    kind: str
    protocols: tuple[str, ...]
    metrics: tuple[str, ...]
    score: Callable[[Prediction, Sample, FSource], Record]
    columns: Callable[[Record, str, str], dict[str, np.ndarray]]
    statistics: Mapping[str, Statistic] = field(default_factory=dict)

    def protocol(self, name: str | None) -> str:
        """The protocol of that name; None is the default. Raises UsageError for one that isn't there."""
        if name is None:
            return self.protocols[0]
        if name not in self.protocols:
            raise UsageError(f"no protocol named {name!r}; choose from {', '.join(self.protocols)}")
        return name

    def statistic(self, metric: str) -> Statistic:
        """What makes a score of a metric's sums."""
        return self.statistics.get(metric, peak_of_means)


SCORERS = {
    scoring.kind: scoring
    for scoring in (
        Scorer("region", regions.PROTOCOLS, regions.METRICS, regions.score, regions.columns),
        Scorer(
            "semantic",
            classes.PROTOCOLS,
            classes.METRICS,
            classes.score,
            classes.columns,
            classes.STATISTICS,
        ),
        Scorer("localization", locations.PROTOCOLS, locations.METRICS, locations.score, locations.columns),
    )
}


def scorer_of(dataset: EvaluationSet) -> Scorer:
    """How a dataset is scored."""
    return SCORERS[getattr(dataset, "kind", "region")]


def score(scoring: Scorer, prediction: Prediction, sample: Sample, f_from: FSource) -> Record:
    """One row of a sample's record.

    Raises:
        DataError: on an answer that doesn't fit the sample.
    """
    if prediction.masks.shape != sample.masks.shape:
        raise DataError(
            f"masks must have the truth's shape {list(sample.masks.shape)}, "
            f"found {list(prediction.masks.shape)}"
        )
    record = scoring.score(prediction, sample, f_from)
    return record | {"reasons": list(prediction.reasons)} if prediction.reasons else record
