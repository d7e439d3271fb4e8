"""Data sets by name, what each must offer, and any folder of videos as training data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moca_avs.utils.registry import Registry

if TYPE_CHECKING:
    from moca_avs.data.base import EvaluationSet, TrainingSet

OpenEvaluation = Callable[[Path, str, "str | None"], "EvaluationSet"]
OpenTraining = Callable[[Path, float], "TrainingSet"]


@dataclass(frozen=True)
class DatasetEntry:
    """A registered data set.

    Attributes:
        evaluation: (root, split, tier) -> a split for testing; None: it has none.
        training: (root, seconds of sound around each frame) -> frames with their sound; None: it has none.
        description: one line.
    """

    evaluation: OpenEvaluation | None = None
    training: OpenTraining | None = None
    description: str = ""


DATASETS: Registry[DatasetEntry] = Registry("dataset", "moca_avs.datasets")
"""Name -> entry; `register_dataset` adds one. The published ones are added by `moca_avs_bench.data`."""


def register_dataset(
    name: str,
    evaluation: OpenEvaluation | None = None,
    training: OpenTraining | None = None,
    description: str = "",
    *,
    replace: bool = False,
) -> None:
    """Add a data set: evaluation, training and the command line know it by its name from then on.

    Args:
        name: how it is asked for (``moca eval --dataset NAME``, ``moca train --data NAME --root DIR``).
        evaluation: (root, split, tier) -> a `moca_avs.data.base.EvaluationSet`; `tier` is None but for the
            offline benchmark. Its `kind` says how it is scored: "region" (masks), "semantic" (class maps),
            "localization" (boxes), or "boxes" and "duets" (real videos).
        training: (root, seconds) -> a `moca_avs.data.base.TrainingSet`.
        description: one line.
        replace: allow a name that is taken already.

    Raises:
        UsageError: for a name that is taken.
    """
    DATASETS.register(name, DatasetEntry(evaluation, training, description), replace=replace)
