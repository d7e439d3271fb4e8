"""Fits the numbers by which `lite` adds up its cues (`moca_avs.model.evidence.Fusion`).

    python recipes/lite/fuse.py --real FOLDER --stamps ROOT --out OUT   # about 10 minutes on two cores

Three worlds, validation only: real clips with boxes around what sounds (`moca eval --dataset boxes`); *duets*
of them (two clips in one image, the sound of one), where nothing but hearing helps; composites of stamps'
validation side, whose masks are known. A logistic regression over positions gives weights and bias, another
one over masks the confidence. Duets of one kind and of a clip with itself are scored, not fitted on.

Printed are the scores of all cues, of each alone and of all but one, fitted anew for each set. Every score is
of clips that its numbers were not fitted on (four folds, by clip or source file); brackets are 95 % bootstrap
intervals over clips or source files.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from scipy.special import expit

import moca_avs
from moca_avs.clip import Clip
from moca_avs.data.base import SceneObject
from moca_avs.methods.base import ClipFrame
from moca_avs.methods.evidence_moca import EvidenceMoca
from moca_avs.model.evidence import SHIPPED, Fusion, choose_masks, fuse, resize, supported
from moca_avs.proposals.masks import downscale
from moca_avs.utils.files import atomic_write
from moca_avs_bench.data import open_evaluation_set
from moca_avs_bench.data.duets import TIERS, DuetSet
from moca_avs_bench.metrics.bootstrap import Interval, interval
from moca_avs_bench.metrics.objects import object_accuracy
from moca_avs_bench.metrics.pointing import SMALL, box_iou, heat_auc, mask_iou

# weight of each world's examples together
WORLDS = {"real": 1.0, TIERS[0]: 3.0, "stamps": 1.0, **dict.fromkeys(TIERS[1:], 0.0)}
DUETS, COMPOSITES, FOLDS, RIDGE, SEED = 150, 135, 4, 1e-3, 0
OPTION = "center"  # off unless asked for: its weight beside the others, which stay as they are without it
EXTENT, OFFSET = 2.0, 1.0  # chosen among few round numbers, see README.md


@dataclass(eq=False)
class Example:
    """One frame of one world, with the sound it is asked for."""

    world: str
    groups: tuple[str, ...]  # clips or source files: what folds must not tear apart
    maps: dict[str, np.ndarray]
    truth: np.ndarray  # bool [H, W], at the size masks are chosen at
    proposals: np.ndarray
    objectness: np.ndarray
    things: np.ndarray  # bool [K, H, W]: boxes, halves or objects, some heard and some not
    heard: np.ndarray  # bool [K]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder of videos with manifest.csv")
    parser.add_argument("--stamps", required=True, help='folder of the benchmark, or "stamps"')
    parser.add_argument("--out", type=Path, required=True, help="folder for fusion.json and fuse.json")
    arguments = parser.parse_args()
    shipped = moca_avs.load("lite", device="cpu")
    if not isinstance(shipped, EvidenceMoca):
        raise SystemExit(f"expected a preset with several cues, found {shipped!r}")
    names = shipped.names
    method = moca_avs.load("lite", device="cpu", cues="+".join([*names, OPTION]))
    examples = [*real(method, arguments.real), *composites(method, arguments.stamps)]
    groups = sorted({group for one in examples for group in one.groups})
    shuffled = np.random.default_rng(SEED).permutation(groups)
    fold = {str(group): index % FOLDS for index, group in enumerate(shuffled)}
    outcomes, scores = judge(examples, names, fold)
    report = {"all cues": scores}
    for chosen in [*([name] for name in names), *([n for n in names if n != name] for name in names)]:
        title = f"{chosen[0]} alone" if len(chosen) == 1 else f"without {(set(names) - set(chosen)).pop()}"
        report[title] = judge(examples, chosen, fold)[1]
    report["with center"] = judge(examples, [*names, OPTION], fold)[1]
    fusion = fit(examples, names)
    option = fit(examples, [*names, OPTION]).weights[OPTION]
    fusion = replace(fusion, weights={**fusion.weights, OPTION: option}, confidence=calibrate(outcomes))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, content in (("fusion.json", fusion.to_dict()), ("fuse.json", report)):
        with atomic_write(arguments.out / name) as file:
            file.write_text(json.dumps(content, indent=2) + "\n")
    print(f"| | {' | '.join(scores)} |\n|---{'|---' * len(scores)}|")
    for title, row in report.items():
        cells = (f"{one['estimate']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" for one in row.values())
        print(f"| {title} | {' | '.join(cells)} |")
    print(f"| n | {' | '.join(str(one['n']) for one in scores.values())} |")
    print(f"{arguments.out / 'fusion.json'} goes to {SHIPPED}")


def example(
    method: EvidenceMoca,
    world: str,
    clip: Clip,
    index: int,
    truth: np.ndarray,
    groups: tuple[str, ...],
    objects: Sequence[SceneObject],
    swapped: bool = False,
) -> Example:
    """What the cues and proposers say of a frame; masks are brought to the size masks are chosen at.

    `swapped`: heard are the objects that the sample's own sound does not hold.
    """
    image = downscale(clip.frames[index], method.config.working_side)
    size = image.shape[1::-1]

    def small(mask: np.ndarray) -> np.ndarray:
        return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0

    maps = next(method.cue_maps([ClipFrame(clip, index)]))
    fine = method.cues["objectness"](clip, index)
    things = np.stack([small(thing.mask[index]) for thing in objects])
    heard = np.stack([thing.sounding[index] for thing in objects]) ^ swapped
    return Example(world, groups, maps, small(truth), method.proposer(image), fine, things, heard)


def real(method: EvidenceMoca, folder: Path):
    """Each clip at its time, then duets, each with both sounds, one after the other."""
    truths = {}
    boxes = open_evaluation_set("boxes", folder)
    for name in boxes.ids:
        sample = boxes.load(name)
        truths[name] = sample.masks[0]
        yield example(method, "real", sample.clip, 0, sample.masks[0], (name,), sample.objects)
    duets = DuetSet(folder, pairs=DUETS)
    for name in duets.ids:
        sample = duets.load(name)
        if sample.swapped is None:
            raise SystemExit(f"duet {name} has but one sound; expected {folder} to hold clips with sound")
        sources = tuple(thing.source for thing in sample.objects)
        sounds = ((sample.clip, sample.masks[0], False), (sample.swapped[0], sample.swapped[1][0], True))
        for (clip, half, other), source in zip(sounds, sources, strict=True):
            rows, columns = np.flatnonzero(half.any(1)), np.flatnonzero(half.any(0))
            truth = np.zeros_like(half)
            inner = cv2.resize(truths[source].astype(np.uint8), (len(columns), len(rows)), interpolation=0)
            truth[np.ix_(rows, columns)] = inner > 0
            groups = tuple(dict.fromkeys(sources))
            yield example(method, sample.tier, clip, 0, truth, groups, sample.objects, other)


def composites(method: EvidenceMoca, root: str):
    """One sounding frame of each of stamps' validation clips."""
    whole = open_evaluation_set("s4", root, "val")
    for sample_id in whole.ids[:: max(1, len(whole) // COMPOSITES)]:
        sample = whole.load(sample_id)
        sounding = np.flatnonzero(sample.masks.any((1, 2)))
        if len(sounding):
            index = int(sounding[len(sounding) // 2])
            group = (sample.cluster,)
            yield example(method, "stamps", sample.clip, index, sample.masks[index], group, sample.objects)


def fit(examples: list[Example], names: list[str]) -> Fusion:
    """Weighted ridge logistic regression of "belongs to what sounds" on the standardized maps."""
    counts = {world: sum(one.world == world for one in examples) for world in WORLDS}
    inputs, targets, weights = [], [], []
    for one in examples:
        if not WORLDS[one.world]:
            continue
        found = np.stack([one.maps[name].ravel() for name in names] + [np.ones(one.maps[names[0]].size)], 1)
        inputs.append(found)
        targets.append(resize(one.truth, one.maps[names[0]].shape).ravel())
        weights.append(np.full(len(found), WORLDS[one.world] / counts[one.world] / len(found)))
    x, y, w = (np.concatenate(parts).astype(np.float64) for parts in (inputs, targets, weights))
    *found, bias = logistic(x, y, w, RIDGE * np.append(np.ones(len(names)), 0))
    return Fusion(dict(zip(names, found, strict=True)), bias, EXTENT, OFFSET, (1.0, 0.0))


def logistic(x: np.ndarray, y: np.ndarray, weights: np.ndarray, penalty: np.ndarray) -> list[float]:
    """Ridge logistic regression of y [n] in [0, 1] on x [n, k] by Newton: k numbers of three decimals."""
    found = np.zeros(x.shape[1])
    for _ in range(20):
        probability = expit(x @ found)
        gradient = x.T @ (weights * (probability - y)) + penalty * found
        curvature = (x * (weights * probability * (1 - probability))[:, None]).T @ x + np.diag(penalty)
        found = found - np.linalg.solve(curvature, gradient)
    return [round(float(value), 3) for value in found]


def judge(examples: list[Example], names: list[str], fold: dict[str, int]):
    """Every example by numbers fitted without its clips: (expected IoU, IoU) of masks, intervals of scores.

    `which`: is what is heard hotter than what is not (boxes, halves, objects)? `both`: with either sound?
    """
    fits: dict[frozenset[int], Fusion] = {}
    outcomes: list[tuple[float, float]] = []
    scores: dict[str, list[tuple[float, tuple[str, ...]]]] = {}
    for one in examples:
        held = frozenset(fold[group] for group in one.groups)
        if held not in fits:
            rest = [other for other in examples if not held & {fold[group] for group in other.groups}]
            fits[held] = fit(rest, names)
        log_odds = fuse({name: one.maps[name] for name in names}, fits[held])
        objectness = one.objectness if "objectness" in names else None
        support = supported(log_odds, objectness, one.truth.shape, fits[held])
        parts, expected = choose_masks(support, one.proposals)
        mask, heat = parts.any(0), expit(log_odds)
        found = {"which": object_accuracy(heat[None], one.things[:, None], one.heard[:, None]).item()}
        if one.world in TIERS:
            found["share"] = (mask & one.things[one.heard].any(0)).sum() / mask.sum() if mask.any() else 0.5
        else:
            found["mask IoU"] = mask_iou(mask, one.truth)
        if one.world == "real":
            found["box IoU"] = box_iou(mask, one.truth)
            found["AUC"] = heat_auc(heat, one.truth) if one.truth.mean() < SMALL else float("nan")
        if WORLDS[one.world]:
            outcomes.append((expected, mask_iou(mask, one.truth)))
        for name, value in found.items():
            if not np.isnan(value):
                scores.setdefault(f"{one.world}: {name}", []).append((float(value), one.groups))
    for world in TIERS:
        halves = scores[f"{world}: which"]
        pairs = [
            (float(a == b == 1), groups)
            for (a, groups), (b, _) in zip(halves[::2], halves[1::2], strict=True)
        ]
        scores[f"{world}: both"] = pairs
    return outcomes, {name: asdict(mean(all_)) for name, all_ in scores.items()}


def mean(scores: list[tuple[float, tuple[str, ...]]]) -> Interval:
    """Mean and bootstrap interval of (score, the clips or source files that it is of)."""
    sums = np.array([[value, 1.0] for value, _ in scores])
    return interval(sums, sources=[groups for _, groups in scores])


def calibrate(outcomes: list[tuple[float, float]]) -> tuple[float, float]:
    """(slope, bias) from the log-odds of a mask's expected IoU to those of an IoU above one half."""
    expected, iou = np.array(outcomes).T
    x = np.stack([np.log(expected / (1 - expected)), np.ones(len(expected))], 1)
    slope, bias = logistic(x, iou > 0.5, np.ones(len(x)), np.full(2, 0.1))
    return slope, bias


if __name__ == "__main__":
    main()
