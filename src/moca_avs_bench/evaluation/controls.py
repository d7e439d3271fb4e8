"""What is said of a sample: by the method, by the method under a wrong sound, by nulls that can't hear."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from moca_avs.clip import Clip, Segmentation
from moca_avs.data.base import EvaluationSet, Sample
from moca_avs.errors import DataError
from moca_avs_bench.metrics.localization import disk_heat, disk_mask
from moca_avs_bench.metrics.objects import upsample

SegmentFunction = Callable[..., Segmentation]
"""``Clip -> Segmentation``; one with adapters also takes ``adapter_clip=``, whose sound they hear instead."""

Foreground = Callable[[np.ndarray], np.ndarray]
"""A proposer: frame uint8 [H, W, 3] -> bool [P, H, W]."""

CONTROLS = ("wrong_sound", "wrong_adapters")


@dataclass(frozen=True, eq=False)
class Prediction:
    """One row's answer to a sample.

    Attributes:
        masks: bool [T, H, W].
        heat: float [T, h, w] in [0, 1].
        swapped_heat: the same frames under the sample's swapped sound; None where that makes no sense.
        swapped_masks: bool [T, H, W], the masks beside `swapped_heat`; None without it.
        reasons: T strings, "" where there is a mask; () from nulls.
        labels: uint8 [T, H, W], a class for each pixel; None where the row names none.
    """

    masks: np.ndarray
    heat: np.ndarray
    swapped_heat: np.ndarray | None = None
    reasons: tuple[str, ...] = ()
    labels: np.ndarray | None = None
    swapped_masks: np.ndarray | None = None


def draw_partners(dataset: EvaluationSet, seed: int) -> dict[str, str]:
    """The wrong-sound partner of each sample, drawn once for the whole split.

    A partner shares no class with the sample ("a+b" are two classes) and has at least one; in a split that
    names no class at all (MS3, Flickr-SoundNet) it is any other clip. Drawing runs over all ids in the
    split's order, so that a shard sees the same partners.

    Args:
        dataset: the whole split.
        seed: of the draw.

    Returns:
        id -> partner's id; a sample is absent where the split has no other class.
    """
    ids, categories = dataset.ids, dataset.categories()
    classes = {label: frozenset(label.split("+")) - {""} for label in set(categories.values())}
    eligible = {
        label: [other for other in ids if classes[categories[other]] and not own & classes[categories[other]]]
        for label, own in classes.items()
    }
    if set(classes) == {""}:
        eligible = {"": ids}
    rng = np.random.default_rng(seed)
    partners = {}
    for sample_id in ids:
        others = [other for other in eligible[categories[sample_id]] if other != sample_id]
        if others:
            partners[sample_id] = others[rng.integers(len(others))]
    return partners


def with_audio_of(clip: Clip, other: Clip) -> Clip:
    """The frames of `clip` with the sound of `other` from its start, repeated where it is too short.

    Raises:
        DataError: where `other` has no sound.
    """
    if not other.sound.size:
        raise DataError(f"{other.source or 'the partner'} was to give a wrong sound but has no sound")
    heard_at = clip.times if clip.sound_times is None else clip.sound_times
    seconds = max(len(clip.sound) / clip.sample_rate, float(heard_at[-1]) - clip.sound_start)
    length = max(len(other.sound), math.ceil(seconds * other.sample_rate))
    return replace(
        clip,
        sound=np.resize(other.sound, length),
        sample_rate=other.sample_rate,
        noise_floor=other.noise_floor,
        loudest=other.loudest,
    )


def with_audio_around(clip: Clip, other: Clip) -> Clip:
    """The frames of `clip` with the sound of `other`, whose first frame's time falls on that of `clip`.

    Raises:
        DataError: where `other` has no sound.
    """
    shift = float(clip.times[0] - other.times[0])
    return replace(with_audio_of(clip, other), sound=other.sound, sound_start=other.sound_start + shift)


def method_predictions(
    method: SegmentFunction, sample: Sample, wrong: Clip | None, controls: tuple[str, ...]
) -> Iterator[tuple[str, Prediction]]:
    """The method's own row and its controls.

    Args:
        method: to be asked.
        sample: one clip with its truth.
        wrong: the clip's frames with another clip's sound; None where there is none.
        controls: some of `CONTROLS`. "wrong_sound" feeds the wrong sound to everything (its swapped heat is
            not defined), "wrong_adapters" to the adapters alone.
    """
    swapped = sample.swapped[0] if sample.swapped else None
    yield "method", answer(method, sample)
    if wrong is None:
        return
    if "wrong_sound" in controls:
        yield "wrong_sound", _prediction(method(wrong))
    if "wrong_adapters" in controls and getattr(method, "supports_adapter_audio", False):
        under_swap = None if swapped is None else method(swapped, adapter_clip=wrong)
        yield "wrong_adapters", _prediction(method(sample.clip, adapter_clip=wrong), under_swap)


def answer(method: SegmentFunction, sample: Sample) -> Prediction:
    """What a method says of a sample, and of its swapped sound where it has one."""
    return _prediction(method(sample.clip), method(sample.swapped[0]) if sample.swapped else None)


def baseline_predictions(sample: Sample, foreground: Foreground | None) -> Iterator[tuple[str, Prediction]]:
    """Rows that never hear: nothing, everything, what is salient, the middle, a perfect mask of every object.

    In AVSS "full", "foreground" and "all_objects" are told the clip's largest class, which no deaf system can
    know: what they lose is lost by their masks.

    Args:
        sample: one clip with its truth.
        foreground: proposer whose masks' union is the "foreground" row; None: no such row.
    """
    shape = sample.masks.shape
    yield "empty", _audio_blind(sample, np.zeros(shape, bool))
    yield "full", _audio_blind(sample, np.ones(shape, bool))
    if sample.consensus is not None:
        disk = np.repeat(disk_mask(*shape[1:])[None], shape[0], axis=0)
        yield "disk", replace(_audio_blind(sample, disk), heat=np.repeat(disk_heat()[None], shape[0], axis=0))
    if foreground is not None:
        yield (
            "foreground",
            _audio_blind(sample, np.stack([foreground(frame).any(0) for frame in sample.clip.frames])),
        )
    if sample.objects:
        yield (
            "all_objects",
            _audio_blind(sample, np.logical_or.reduce([thing.mask for thing in sample.objects])),
        )


def video_baselines(sample: Sample, foreground: Foreground | None) -> Iterator[tuple[str, Prediction]]:
    """Rows that never hear, for one frame of a real video: what is salient, the middle, what moves.

    Heat is the salient-object map (of a proposer that has one: `SaliencyProposer.saliency`), the nearness to
    the center, or the energy of motion (`moca_avs.cues.motion.motion`), whose mask is what is above Otsu's
    threshold (IEEE Trans. SMC 9, 1979).

    Args:
        sample: one frame with its truth.
        foreground: proposer whose masks' union is the "foreground" row; None: no such row.
    """
    from moca_avs.cues.motion import motion

    (frame,), shape = sample.clip.frames, sample.masks.shape
    if foreground is not None:
        masks = np.any(foreground(frame), axis=0, keepdims=True)
        saliency = getattr(foreground, "saliency", None)
        yield (
            "foreground",
            Prediction(masks, masks.astype(np.float32) if saliency is None else saliency(frame)[None]),
        )
    yield "center", Prediction(disk_mask(*shape[1:])[None], disk_heat()[None])
    energy = motion(sample.clip, 0)
    if energy is None:
        yield "motion", _audio_blind(sample, np.zeros(shape, bool))
        return
    energy = energy[None] / max(float(energy.max()), 1e-6)
    yield "motion", Prediction(upsample(energy, *shape[1:]) > otsu(energy), energy)


def otsu(values: np.ndarray) -> float:
    """Otsu's threshold of float values in [0, 1], in steps of 1/256: what is above it is foreground."""
    counts, edges = np.histogram(values, 256, (0, 1))
    weight = np.cumsum(counts)[:-1] / counts.sum()
    mean = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2) / counts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mean[-1] * weight - mean[:-1]) ** 2 / (weight * (1 - weight))
    return float(edges[1:-1][np.nan_to_num(between, posinf=0).argmax()])


def saved_prediction(folder: Path, sample: Sample) -> Prediction:
    """Masks that some system wrote: one 8-bit PNG a frame, in the order of their names.

    Above 127 = sounding; in AVSS each pixel's value is its class index.

    Args:
        folder: holds a folder per sample, named by its id, with the PNGs in it or in its ``masks/`` (the
            layout of ``moca segment``).
        sample: one clip with its truth.

    Raises:
        DataError: on a missing folder, another number of frames, or another size.
    """
    from moca_avs.io.image import read_image, read_indices

    home = folder / sample.id
    images = sorted((home / "masks").glob("*.png")) or sorted(home.glob("*.png"))
    if len(images) != len(sample.masks):
        raise DataError(f"{home} should hold {len(sample.masks)} PNG masks, found {len(images)}")
    semantic = sample.labels is not None
    said = [read_indices(path) if semantic else read_image(path).mean(2) > 127 for path in images]
    for image, mask in zip(images, said, strict=True):
        if mask.shape != sample.masks.shape[1:]:
            raise DataError(
                f"{image} should be {sample.masks.shape[1]} high and {sample.masks.shape[2]} wide, "
                f"found {mask.shape[0]} by {mask.shape[1]}; resize it to the truth first"
            )
    stacked = np.stack(said)
    prediction = _audio_blind(sample, stacked > 0)
    return replace(prediction, labels=stacked if semantic else None)


def _prediction(said: Segmentation, swapped: Segmentation | None = None) -> Prediction:
    heat, masks = (None, None) if swapped is None else (swapped.heatmaps, swapped.masks)
    return Prediction(said.masks, said.heatmaps, heat, said.reasons, said.labels, masks)


def _audio_blind(sample: Sample, masks: np.ndarray) -> Prediction:
    """An answer that is the same under every sound: its heat is its mask."""
    heat = masks.astype(np.float32)
    labels = None
    if sample.labels is not None:  # all of it the class with the most pixels, background apart
        pixels = np.bincount(sample.labels.ravel(), minlength=2)[1:]
        labels = masks.astype(np.uint8) * np.uint8(pixels.argmax() + 1 if pixels.any() else 0)
    return Prediction(masks, heat, heat, labels=labels)
