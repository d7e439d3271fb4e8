"""The published data sets, registered by name, and opening any registered one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moca_avs.data import DATASETS, OpenEvaluation, OpenTraining, register_dataset
from moca_avs.errors import DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    from moca_avs.data.base import EvaluationSet, TrainingSet
    from moca_avs_bench.data.check import DatasetReport


def open_evaluation_set(
    name: str, root: str | Path, split: str = "test", tier: str | None = None
) -> EvaluationSet:
    """A split for testing.

    Args:
        name: "s4", "ms3", "avss", "vggss", "vggsound-single", "flickr", "boxes", "duets", or a registered
            one.
        root: where the data lies; "stamps": the offline benchmark, built into the cache where it is missing.
        split: "train", "val" or "test"; the localization sets have only a test.
        tier: "A", "B" or "C" of the offline benchmark; None takes all.

    Raises:
        UsageError: for an unknown name, or a data set without an evaluation.
        DataError: saying what is missing and where it is expected.
    """
    return check_evaluation_set(name, root)(_resolved(root), split, tier)


def check_evaluation_set(name: str, root: str | Path) -> OpenEvaluation:
    """What opens a split of that name; opens and imports nothing.

    Raises:
        UsageError: for an unknown name, or a data set without an evaluation.
        DataError: where there is no such folder.
    """
    known = {one: entry.evaluation for one, entry in DATASETS.items() if entry.evaluation is not None}
    if name not in known:
        raise UsageError(
            f"dataset must be one of {', '.join(known)}, found {name!r}{did_you_mean(name, known)}"
        )
    check_root(root)
    return known[name]


def check_root(root: str | Path) -> None:
    """See that a dataset's folder is there. Raises DataError where it is not."""
    if str(root) != "stamps" and not Path(root).is_dir():
        raise DataError(
            f"there is no folder {root}; give the one that the dataset was unpacked into, or stamps for the "
            f"offline benchmark{did_you_mean(str(root), ('stamps',))}"
        )


def check_training_set(source: str | Path, root: str | Path | None = None) -> None:
    """See that `open_training_set` finds what it is asked for; opens and imports nothing.

    Raises:
        UsageError: for an unknown name, a data set without training data, or one without its root.
        DataError: where there is no such folder.
    """
    known = [one for one, entry in DATASETS.items() if entry.training is not None]
    if root is not None:
        if str(source) not in known:
            raise UsageError(
                f"with a root, data is one of {', '.join(known)}, found {str(source)!r}"
                f"{did_you_mean(str(source), known)}"
            )
        check_root(root)
    elif not Path(source).is_dir():
        if str(source) in known:
            raise UsageError(
                f"{source} is a dataset: say where it lies, with --root DIR (the folder that it was unpacked "
                f"into; `moca data check {source} --root DIR` tells what is there), or --root stamps for the "
                "offline benchmark"
            )
        raise DataError(
            f"{source} is not a folder; expected a folder of videos, or with --root one of {', '.join(known)}"
            f"{did_you_mean(str(source), known)}"
        )


def open_training_set(
    source: str | Path, root: str | Path | None = None, window: float = 2.0, synchrony: bool = False
) -> TrainingSet:
    """Unlabeled frames with their own sound.

    Args:
        source: a data set's name ("s4", "ms3", "vggsound": its training split), or any folder of videos.
        root: where the named data set lies; "stamps": the offline benchmark; not given for a folder.
        window: seconds of sound around each frame.
        synchrony: keep what moves with the sound; a folder of videos only.

    Raises:
        UsageError: for an unknown name, or a data set without training data.
        DataError: where there is nothing to train on.
    """
    check_training_set(source, root)
    if root is None:
        from moca_avs.data.folder import VideoFolder

        return VideoFolder(source, window=window, progress=True, synchrony=synchrony)
    opens = DATASETS[str(source)].training
    assert opens is not None  # checked above
    return opens(_resolved(root), window)


def check_dataset(name: str, root: str | Path) -> DatasetReport:
    """What a data set on disk holds and lacks, beside its official numbers (see `check.DatasetReport`)."""
    check_root(root)
    from moca_avs_bench.data.check import check

    return check(name, _resolved(root))


def _resolved(root: str | Path) -> Path:
    if str(root) != "stamps":
        return Path(root)
    from moca_avs_bench.stamps.build import build_stamps

    return Path(build_stamps())


def _avsbench(name: str) -> tuple[OpenEvaluation, OpenTraining]:
    def evaluation(root: Path, split: str, tier: str | None) -> EvaluationSet:
        from moca_avs_bench.data.avsbench import AVSBenchSet

        return AVSBenchSet(name, root, split, tier)

    def training(root: Path, window: float) -> TrainingSet:
        from moca_avs_bench.data.avsbench import AVSBenchTraining

        return AVSBenchTraining(name, root, window=window)

    return evaluation, training


def _avss(root: Path, split: str, tier: str | None) -> EvaluationSet:
    from moca_avs_bench.data.avss import AVSSSet

    return AVSSSet(root, split, tier)


def _localization(name: str) -> OpenEvaluation:
    def evaluation(root: Path, split: str, tier: str | None) -> EvaluationSet:
        from moca_avs_bench.data.vggsound import LocalizationSet

        return LocalizationSet(name, root, split, tier)

    return evaluation


def _boxes(root: Path, split: str, tier: str | None) -> EvaluationSet:
    from moca_avs_bench.data.video_manifest import BoxesSet

    return BoxesSet(root, split, tier)


def _duets(root: Path, split: str, tier: str | None) -> EvaluationSet:
    from moca_avs_bench.data.duets import DuetSet

    return DuetSet(root, split, tier)


def _vggsound(root: Path, window: float) -> TrainingSet:
    from moca_avs_bench.data.vggsound import VGGSoundTraining

    return VGGSoundTraining(root, window=window, progress=True)


register_dataset("s4", *_avsbench("s4"), "AVSBench S4: one sounding object, five seconds, masks")
register_dataset("ms3", *_avsbench("ms3"), "AVSBench MS3: several sounding objects, masks")
register_dataset("avss", _avss, None, "AVSBench-semantic: class maps")
register_dataset("vggss", _localization("vggss"), None, "VGG-SS: boxes")
register_dataset("vggsound-single", _localization("vggsound-single"), None, "VGGSound-Single: boxes")
register_dataset("flickr", _localization("flickr"), None, "Flickr-SoundNet: boxes")
register_dataset("vggsound", None, _vggsound, "VGGSound: videos for training")
register_dataset("boxes", _boxes, None, "any folder of videos with boxes (manifest.csv)")
register_dataset("duets", _duets, None, "pairs of any folder's videos in one picture, the sound of one")
