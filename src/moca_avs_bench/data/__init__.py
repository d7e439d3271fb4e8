"""Datasets by name. Heavy modules are imported where they are needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moca_avs.errors import UsageError

if TYPE_CHECKING:
    from moca_avs.data.base import EvaluationSet, TrainingSet
    from moca_avs_bench.data.check import DatasetReport

EVALUATION_SETS = ("s4", "ms3", "avss", "vggss", "vggsound-single", "flickr")


def open_evaluation_set(
    name: str, root: str | Path, split: str = "test", tier: str | None = None
) -> EvaluationSet:
    """A split for testing.

    Args:
        name: "s4", "ms3", "avss", "vggss", "vggsound-single" or "flickr".
        root: where the data lies; "stamps": the offline benchmark, built into the cache where it is missing.
        split: "train", "val" or "test"; the localization sets have only a test.
        tier: "A", "B" or "C" of the offline benchmark; None takes all.

    Raises:
        UsageError: for an unknown name.
        DataError: saying what is missing and where it is expected.
    """
    from moca_avs_bench.data.avsbench import AVSBenchSet
    from moca_avs_bench.data.avss import AVSSSet
    from moca_avs_bench.data.localization_sets import LocalizationSet

    if name not in EVALUATION_SETS:
        raise UsageError(f"dataset must be one of {', '.join(EVALUATION_SETS)}, found {name!r}")
    place = _resolved(root)
    if name == "avss":
        return AVSSSet(place, split, tier)
    if name in ("s4", "ms3"):
        return AVSBenchSet(name, place, split, tier)
    return LocalizationSet(name, place, split, tier)


def open_training_set(source: str | Path, root: str | Path | None = None, window: float = 2.0) -> TrainingSet:
    """Unlabeled frames with their own sound.

    Args:
        source: a dataset's name ("s4", "ms3", "vggsound": its training split), or any folder of videos.
        root: where the named dataset lies; "stamps": the offline benchmark; not given for a folder.
        window: seconds of sound around each frame.

    Raises:
        DataError: where there is nothing to train on.
    """
    from moca_avs.data.folder import VideoFolder
    from moca_avs_bench.data.avsbench import AVSBenchTraining
    from moca_avs_bench.data.vggsound import VGGSoundTraining

    if root is None:
        return VideoFolder(source, window=window, progress=True)
    if source == "vggsound":
        return VGGSoundTraining(_resolved(root), window=window, progress=True)
    return AVSBenchTraining(str(source), _resolved(root), window=window)


def check_dataset(name: str, root: str | Path) -> DatasetReport:
    """What a dataset on disk holds and lacks, beside its official numbers (see `check.DatasetReport`)."""
    from moca_avs_bench.data.check import check

    return check(name, _resolved(root))


def _resolved(root: str | Path) -> str | Path:
    if str(root) != "stamps":
        return root
    from moca_avs_bench.stamps.build import build_stamps

    return build_stamps()
