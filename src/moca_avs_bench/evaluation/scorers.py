"""How each kind of dataset is scored: its protocols, its metrics, and what a record holds of a row.

* `RegionScorer` (S4, MS3): masks against masks, by the protocols of `metrics.region`.
* `SemanticScorer` (AVSS): class maps against class maps (`metrics.semantic`), and what is heard against
  background as in S4 (protocol ``avsbench``). A prediction without classes has no class scores.
* `LocalizationScorer` (VGG-SS, VGGSound-Single, Flickr-SoundNet): by the rules of `metrics.localization`.
* `BoxScorer` (real videos with boxes): heat and mask of one frame against boxes (`metrics.pointing`).
* `DuetScorer` (two real clips in one picture): which of the two is heard.

One JSON line per sample holds its numbers frame by frame; all scores are rebuilt from those lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import get_args

import numpy as np

from moca_avs.clip import Clip
from moca_avs.data.base import EvaluationSet, Sample
from moca_avs.errors import DataError, UsageError
from moca_avs.utils.registry import Registry
from moca_avs_bench.data.duets import SEPARATOR
from moca_avs_bench.evaluation.controls import (
    CONTROLS,
    Foreground,
    Prediction,
    baseline_predictions,
    video_baselines,
    with_audio_around,
    with_audio_of,
)
from moca_avs_bench.evaluation.records import FSource, Record
from moca_avs_bench.metrics import localization, objects, pointing, region, semantic
from moca_avs_bench.metrics.bootstrap import Statistic, peak_of_means

LOADED = 10
"""Frames that AVSS's public loader makes of every clip; those that a clip doesn't have are its padding."""


Baselines = Callable[[Sample, "Foreground | None"], Iterator[tuple[str, Prediction]]]


class Scorer:
    """One kind of dataset.

    Attributes:
        kind: its name.
        protocols: names of its protocols, the default first.
        metrics: in the order of a report's columns.
        controls: those that make sense, of `controls.CONTROLS`.
        against: rows whose paired difference from the method the report shows.
        deaf: whether the method is also asked without its hearing (`deaf()`), as a row.
        baselines: what cannot hear, of a sample.
        wrong_sound: (clip, other) -> the clip with the other's sound.
    """

    kind: str
    protocols: tuple[str, ...]
    metrics: tuple[str, ...]
    controls: tuple[str, ...] = CONTROLS
    against: tuple[str, ...] = ()
    deaf = False
    baselines: Baselines = staticmethod(baseline_predictions)
    wrong_sound: Callable[[Clip, Clip], Clip] = staticmethod(with_audio_of)

    def score(self, prediction: Prediction, sample: Sample, f_from: FSource) -> Record:
        """The numbers of a record's row, enough for every protocol.

        Args:
            prediction: of one row; its masks have the truth's shape.
            sample: its truth.
            f_from: what F sweeps its thresholds over: the mask as {0, 1}, or the heat map upsampled.

        Raises:
            DataError: on a prediction that doesn't fit the sample.
        """
        raise NotImplementedError

    def columns(self, record: Record, row: str, protocol: str) -> dict[str, np.ndarray]:
        """What one sample adds to each score of a row: metric -> float64 [S], the last number a count.

        Args:
            record: of one sample.
            row: name of the row.
            protocol: one of `protocols`.
        """
        raise NotImplementedError

    def sources(self, cluster: str) -> tuple[str, ...]:
        """The independent sources that a record's cluster stands for."""
        return (cluster,)

    def statistic(self, metric: str) -> Statistic:
        """What makes a score of a metric's summed columns: the highest sum divided by the count."""
        return peak_of_means

    def protocol(self, name: str | None) -> str:
        """The protocol of that name; None is the default. Raises UsageError for one that isn't there."""
        if name is None:
            return self.protocols[0]
        if name not in self.protocols:
            raise UsageError(f"no protocol named {name!r}; choose from {', '.join(self.protocols)}")
        return name


class RegionScorer(Scorer):
    """Masks against masks.

    A row holds per frame ``iou``, ``f`` (highest point of its curve), ``blank`` (0/1: empty mask), ``object``
    and ``swap`` (null where undefined); and ``curve``, the F curve summed over frames with a truth: 255
    numbers from a heat map, 2 from a mask (threshold 0 and all others).
    """

    kind = "region"
    protocols: tuple[str, ...] = get_args(region.Protocol)
    metrics: tuple[str, ...] = (
        "miou",
        "miou_sounding",
        "f",
        "object_accuracy",
        "swap_accuracy",
        "silent_accuracy",
        "false_silence",
    )

    def score(self, prediction: Prediction, sample: Sample, f_from: FSource) -> Record:
        """See `Scorer.score`."""
        truth = sample.masks
        if f_from == "mask":
            curves = region.f_curves(prediction.masks, truth)[:, :2]  # all other columns equal the second
        else:
            heat = objects.upsample(prediction.heat, *truth.shape[1:])
            curves = region.f_curves(np.clip(heat, 0, 1), truth)  # interpolation may round past 1
        record: Record = {
            "iou": region.frame_iou(prediction.masks, truth).tolist(),
            "f": curves.max(1).tolist(),
            "curve": curves[region.nonempty(truth)].sum(0).tolist(),
            "blank": (~region.nonempty(prediction.masks)).astype(int).tolist(),
        }
        if not sample.objects:
            return record
        masks = np.stack([thing.mask for thing in sample.objects])
        sounding = np.stack([thing.sounding for thing in sample.objects])
        found = {"object": objects.object_accuracy(prediction.heat, masks, sounding)}
        if sample.swapped and prediction.swapped_heat is not None:
            found["swap"] = objects.swap_accuracy(
                prediction.heat, prediction.swapped_heat, masks, sounding, sample.swapped[1]
            )
        for key, values in found.items():
            record[key] = [None if math.isnan(value) else value for value in values.tolist()]
        return record

    def columns(self, record: Record, row: str, protocol: str) -> dict[str, np.ndarray]:
        """See `Scorer.columns`; the protocol is what one call of the public script holds."""
        numbers = record["rows"][row]
        sounding = np.array(record["truth"]) > 0
        iou, blank = np.array(numbers["iou"]), np.array(numbers["blank"], float)
        per_video, true_frames = protocol == "avsbench", int(sounding.sum())
        if protocol == "per_frame":
            f = np.array([sum(numbers["f"]), len(numbers["f"])])
        elif protocol == "dataset":
            f = np.array([*numbers["curve"], true_frames], float)
        else:  # a video of only empty truths scores 0 and counts; inside a video such frames are left out
            f = np.array([max(numbers["curve"]) / true_frames if true_frames else 0.0, 1.0])
        found = {
            "miou": _mean(iou, per_video),
            "miou_sounding": _mean(iou[sounding], per_video),
            "f": f,
            "silent_accuracy": _mean(blank[~sounding]),
            "false_silence": _mean(blank[sounding]),
        }
        for metric, key in (("object_accuracy", "object"), ("swap_accuracy", "swap")):
            if key in numbers:
                found[metric] = _mean(np.array([value for value in numbers[key] if value is not None]))
        return found


class SemanticScorer(RegionScorer):
    """Class maps against class maps.

    A row also holds ``classes``: ``index`` of the classes in prediction or truth, and for each the frames
    that hold it (``seen``) and the sums of ``iou`` and ``f``. Columns of class scores are 2 C + 1 long (see
    `semantic.mean_over_classes`).
    """

    kind = "semantic"
    protocols = semantic.PROTOCOLS
    metrics = ("class_miou", "class_f", *RegionScorer.metrics)

    def score(self, prediction: Prediction, sample: Sample, f_from: FSource) -> Record:
        """See `Scorer.score`. DataError too on labels with a class that the dataset doesn't have."""
        record = super().score(prediction, sample, f_from)
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

    def columns(self, record: Record, row: str, protocol: str) -> dict[str, np.ndarray]:
        """See `Scorer.columns`; "padded" adds frames that are background in prediction and truth."""
        found = super().columns(record, row, "avsbench")
        classes = record["rows"][row].get("classes")
        if classes is None:
            return found
        frames = len(record["truth"])
        padding = max(LOADED - frames, 0) if protocol == "padded" else 0
        sums = {key: np.zeros(record["class_count"]) for key in ("iou", "f", "seen")}
        for key, values in sums.items():
            values[classes["index"]] = classes[key]
            values[0] += padding
        for metric, key in (("class_miou", "iou"), ("class_f", "f")):
            found[metric] = np.concatenate([sums[key], sums["seen"], [frames + padding]])
        return found

    def statistic(self, metric: str) -> Statistic:
        """The mean over classes for class scores."""
        return semantic.mean_over_classes if metric.startswith("class_") else peak_of_means


class LocalizationScorer(Scorer):
    """Heat maps against boxes. A row holds ``ciou``: protocol -> the image's number."""

    kind = "localization"
    protocols = localization.PROTOCOLS
    metrics = ("ciou", "auc", "mean_ciou")

    def score(self, prediction: Prediction, sample: Sample, f_from: FSource) -> Record:
        """See `Scorer.score`; `f_from` has no meaning here. DataError too without a ground-truth map."""
        if sample.consensus is None:
            raise DataError(f"sample {sample.id} has no ground-truth map; localization sets have one")
        heat, masks, truth = prediction.heat, prediction.masks, sample.consensus[None]
        predicted = {name: localization.predicted(name, heat, masks) for name in self.protocols}
        return {"ciou": {name: localization.ciou(mask, truth).item() for name, mask in predicted.items()}}

    def columns(self, record: Record, row: str, protocol: str) -> dict[str, np.ndarray]:
        """See `Scorer.columns`."""
        scores = np.array([record["rows"][row]["ciou"][protocol]])
        return {
            "ciou": np.array([localization.success_rate(scores), 1.0]),
            "auc": np.array([localization.auc(scores), 1.0]),
            "mean_ciou": np.array([scores.item(), 1.0]),
        }


class BoxScorer(Scorer):
    """Heat and mask of one frame against the boxes of what sounds.

    A row holds ``iou``, ``box_iou``, ``pointing``, ``heat_auc`` and ``which`` (`metrics.pointing`,
    `objects.object_accuracy`); null where undefined: pointing and AUC where there is no box, or the boxes
    cover half of the frame or more; which where there is no silent box.
    """

    kind = "boxes"
    protocols = ("boxes",)
    metrics = ("heat_auc", "pointing", "iou", "box_iou", "which")
    against = ("wrong_sound", "deaf", "foreground", "center", "motion")
    deaf = True
    baselines = staticmethod(video_baselines)
    wrong_sound = staticmethod(with_audio_around)

    def score(self, prediction: Prediction, sample: Sample, f_from: FSource) -> Record:
        """See `Scorer.score`; `f_from` has no meaning here. DataError too on more than one frame."""
        if len(sample.masks) != 1:
            raise DataError(f"sample {sample.id} must have one frame, found {len(sample.masks)}")
        heat, inside = prediction.heat[0], sample.masks[0]
        small = 0 < inside.mean() < pointing.SMALL
        masks = np.stack([thing.mask for thing in sample.objects])
        sounding = np.stack([thing.sounding for thing in sample.objects])
        which = objects.object_accuracy(prediction.heat, masks, sounding).item()
        return {
            "iou": pointing.mask_iou(prediction.masks[0], inside),
            "box_iou": pointing.box_iou(prediction.masks[0], inside),
            "pointing": pointing.pointing(heat, inside) if small else None,
            "heat_auc": pointing.heat_auc(heat, inside) if small else None,
            "which": None if math.isnan(which) else which,
        }

    def columns(self, record: Record, row: str, protocol: str) -> dict[str, np.ndarray]:
        """See `Scorer.columns`."""
        numbers = record["rows"][row]
        return {m: np.array([numbers[m], 1.0]) for m in self.metrics if numbers[m] is not None}


class DuetScorer(Scorer):
    """Two clips in one picture, asked with the sound of each.

    A row holds for either sound ``half`` (1: the sounding half has the higher mean heat, .5: both are equal)
    and ``share`` (of the mask's pixels those in the sounding half; .5 for an empty mask), and ``both``
    (1: strictly right with either sound).
    """

    kind = "duets"
    protocols = ("duets",)
    metrics = ("half", "both", "share")
    controls = ()  # each half's sound is the other's wrong sound
    deaf = True
    baselines = staticmethod(lambda sample, foreground: iter(()))  # .5, 0 and .5 by construction

    def score(self, prediction: Prediction, sample: Sample, f_from: FSource) -> Record:
        """See `Scorer.score`; `f_from` has no meaning here. DataError too without the answer to the swap."""
        swapped_heat, swapped_masks = prediction.swapped_heat, prediction.swapped_masks
        if sample.swapped is None or swapped_heat is None or swapped_masks is None:
            raise DataError(f"duet {sample.id} must be asked with both sounds; predictions hold but one")
        masks = np.stack([thing.mask for thing in sample.objects])
        sounding = np.stack([thing.sounding for thing in sample.objects])
        own, other = sample.masks, sample.swapped[1]
        both = objects.swap_accuracy(prediction.heat, swapped_heat, masks, sounding, other)
        return {
            "half": [
                objects.object_accuracy(prediction.heat, masks, sounding).item(),
                objects.object_accuracy(swapped_heat, masks, ~sounding).item(),
            ],
            "share": [_share(prediction.masks, own), _share(swapped_masks, other)],
            "both": both.item(),
        }

    def columns(self, record: Record, row: str, protocol: str) -> dict[str, np.ndarray]:
        """See `Scorer.columns`."""
        numbers = record["rows"][row]
        return {metric: _mean(np.ravel(numbers[metric])) for metric in self.metrics}

    def sources(self, cluster: str) -> tuple[str, ...]:
        """The two clips; one where both pictures are of it."""
        return tuple(cluster.split(SEPARATOR))


SCORERS: Registry[Scorer] = Registry("kind of data set")
"""Kind of a data set -> its scorer."""
SCORERS.update(
    {
        one.kind: one
        for one in (RegionScorer(), SemanticScorer(), LocalizationScorer(), BoxScorer(), DuetScorer())
    }
)


def scorer_of(dataset: EvaluationSet) -> Scorer:
    """How a dataset is scored."""
    return SCORERS.find(getattr(dataset, "kind", "region"))


def score(scorer: Scorer, prediction: Prediction, sample: Sample, f_from: FSource) -> Record:
    """One row of a sample's record: `Scorer.score`, and why frames were left empty.

    Raises:
        DataError: on a prediction that doesn't fit the sample.
    """
    if prediction.masks.shape != sample.masks.shape:
        raise DataError(
            f"masks must have the truth's shape {list(sample.masks.shape)}, "
            f"found {list(prediction.masks.shape)}"
        )
    record = scorer.score(prediction, sample, f_from)
    return record | {"reasons": list(prediction.reasons)} if prediction.reasons else record


def _mean(values: np.ndarray, per_video: bool = False) -> np.ndarray:
    """Sum and count, or the video's mean and 1."""
    if not len(values):
        return np.zeros(2)
    return np.array([values.mean(), 1.0] if per_video else [values.sum(), len(values)])


def _share(masks: np.ndarray, inside: np.ndarray) -> float:
    return float((masks & inside).sum() / masks.sum()) if masks.any() else 0.5
