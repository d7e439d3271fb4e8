"""The loop: one sample at a time, one JSON line each: a killed run goes on and shards merge exactly."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from moca_avs.clip import Clip
from moca_avs.data.base import EvaluationSet, Sample
from moca_avs.errors import DataError, MediaError, UsageError
from moca_avs.methods import load
from moca_avs.utils.files import atomic_write
from moca_avs_bench.data import open_evaluation_set
from moca_avs_bench.evaluation.controls import (
    CONTROLS,
    Foreground,
    Prediction,
    SegmentFunction,
    answer,
    draw_partners,
    method_predictions,
    saved_prediction,
)
from moca_avs_bench.evaluation.records import (
    FORMAT,
    METRICS,
    FSource,
    Header,
    Record,
    check_same,
    read_header,
    read_records,
)
from moca_avs_bench.evaluation.report import Report, read_report
from moca_avs_bench.evaluation.scorers import score, scorer_of

Predict = Callable[[Sample, Clip | None], Iterator[tuple[str, Prediction]]]
"""(sample, its frames with a wrong sound or None) -> named answers."""


def evaluate(
    method: SegmentFunction | str,
    dataset: EvaluationSet | str,
    *,
    root: str | Path = "stamps",
    split: str = "test",
    controls: tuple[str, ...] = CONTROLS,
    foreground: Foreground | None = None,
    protocol: str | None = None,
    f_from: FSource = "mask",
    jsonl: str | Path | None = None,
    resume: bool = False,
    shard: tuple[int, int] = (1, 1),
    seed: int = 0,
    progress: bool = False,
) -> Report:
    """Score a method on a split, beside its controls and nulls.

    Args:
        method: ``Clip -> Segmentation``; its ``settings`` go into the report. A name (a preset, a run folder)
            stands for `moca_avs.load` of it. On real videos (kinds "boxes", "duets") a method with `deaf()`,
            which returns the same method without sound or None, is also asked without its hearing.
        dataset: the split, loaded one sample at a time; a name stands for `open_evaluation_set` of it.
        root: where a data set given by name lies; "stamps" is the offline benchmark.
        split: of a data set given by name.
        controls: "wrong_sound" feeds everything the sound of a clip of another class, "wrong_adapters" only
            the adapters (left out for methods that don't take ``adapter_clip``).
        foreground: proposer for the audio-blind foreground row, ``frame -> bool [P, H, W]``; None: no row.
        protocol: one of the kind's (`scorers.SCORERS`); None: "avsbench", AVSS "real", localization "lvs".
        f_from: whether F sweeps over the mask as {0, 1} or over the heat map.
        jsonl: where the per-sample lines go; None keeps no file.
        resume: go on with an existing file of the same evaluation.
        shard: (i, n), the i-th (from 1) of n parts; `merge` puts their files together.
        seed: of the wrong-sound draw and of the bootstrap.
        progress: show a bar with the time left.

    Returns:
        The report of this shard. Samples that can't be read are counted and listed in it, never replaced.

    Raises:
        UsageError: on options that make no sense, a file that exists (without `resume`), or one of another
            evaluation.
    """
    if isinstance(method, str):
        method = load(method)
    if isinstance(dataset, str):
        dataset = open_evaluation_set(dataset, root, split)
    unknown = set(controls) - set(CONTROLS)
    if unknown:
        raise UsageError(f"no control named {', '.join(sorted(unknown))}; choose from {', '.join(CONTROLS)}")

    scorer = scorer_of(dataset)
    controls = tuple(one for one in controls if one in scorer.controls)
    deaf = method.deaf() if scorer.deaf and hasattr(method, "deaf") else None

    def predict(sample: Sample, wrong: Clip | None) -> Iterator[tuple[str, Prediction]]:
        yield from method_predictions(method, sample, wrong, controls)
        if deaf is not None:
            yield "deaf", answer(deaf, sample)
        yield from scorer.baselines(sample, foreground)

    header = _header(dataset, _settings(method), protocol, f_from, seed, shard)
    header |= {"controls": sorted(controls), "foreground": foreground is not None}
    partners = draw_partners(dataset, seed) if controls else None
    return _evaluate_all(predict, dataset, partners, header, jsonl, resume, progress)


def evaluate_predictions(
    folder: str | Path,
    dataset: EvaluationSet,
    *,
    foreground: Foreground | None = None,
    protocol: str | None = None,
    jsonl: str | Path | None = None,
    resume: bool = False,
    shard: tuple[int, int] = (1, 1),
    seed: int = 0,
    progress: bool = False,
) -> Report:
    """Score the masks that any system wrote, in ``FOLDER/<sample id>/`` or its ``masks/``.

    One 8-bit PNG a frame, in the order of names, above 127 = sounding; in AVSS class indices. Nobody can be
    asked again with another sound, so there is no control and no swap accuracy beyond 0. The other arguments
    are those of `evaluate`.

    Raises:
        UsageError: as `evaluate`; also for duets, and where the folder doesn't exist.
    """
    home = Path(folder)
    if scorer_of(dataset).kind == "duets":
        raise UsageError("duets ask a method with both sounds of a picture; saved masks answer only one")
    if not home.is_dir():
        raise UsageError(f"{home} should be a folder of predicted masks, one folder per sample; it is none")

    def predict(sample: Sample, wrong: Clip | None) -> Iterator[tuple[str, Prediction]]:
        yield "method", saved_prediction(home, sample)
        yield from scorer_of(dataset).baselines(sample, foreground)

    header = _header(dataset, {"method": "predictions", "folder": home.name}, protocol, "mask", seed, shard)
    header |= {"controls": [], "foreground": foreground is not None}
    return _evaluate_all(predict, dataset, None, header, jsonl, resume, progress)


def _evaluate_all(
    predict: Predict,
    dataset: EvaluationSet,
    partners: dict[str, str] | None,
    header: Header,
    jsonl: str | Path | None,
    resume: bool,
    progress: bool,
) -> Report:
    from tqdm import tqdm

    with tempfile.TemporaryDirectory(prefix="moca-avs-") as folder:
        path = Path(folder) / "records.jsonl" if jsonl is None else Path(jsonl)
        path.parent.mkdir(parents=True, exist_ok=True)
        done = _begin(path, header, resume)
        first, step = header["shard"]
        todo = [i for i in range(first - 1, header["size"], step) if i not in done]
        with path.open("a", encoding="utf-8") as lines:
            for index in tqdm(todo, desc="evaluating", unit="clip", disable=not progress):
                record = _record(predict, dataset, partners, index, header["f_from"])
                lines.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
                lines.flush()
        return read_report([path])


def _record(
    predict: Predict,
    dataset: EvaluationSet,
    partners: dict[str, str] | None,
    index: int,
    f_from: FSource,
) -> Record:
    """One sample's line; a sample that can't be read becomes a line that says so."""
    scorer, sample_id = scorer_of(dataset), dataset.ids[index]
    record: Record = {"index": index, "id": sample_id}
    try:
        sample = dataset.load(sample_id)
        record |= {
            "cluster": sample.cluster,
            "tier": sample.tier,
            "category": sample.category,
            "truth": sample.masks.sum((1, 2)).tolist(),
        }
        if sample.classes:
            record["class_count"] = len(sample.classes)
        if sample.missing:
            record["missing"] = list(sample.missing)
        wrong = None if partners is None else _wrong_sound(dataset, sample, partners, record)
        record["rows"] = {
            name: score(scorer, prediction, sample, f_from) for name, prediction in predict(sample, wrong)
        }
    except (DataError, MediaError) as error:
        return {"index": index, "id": sample_id, "failed": str(error)}
    return record


def _wrong_sound(
    dataset: EvaluationSet, sample: Sample, partners: dict[str, str], record: Record
) -> Clip | None:
    """The sample's frames with its partner's sound; where there is none the record says why."""
    partner = partners.get(sample.id)
    if partner is None:
        record["no_partner"] = "the split has no sound of another class"
        return None
    record["partner"] = partner
    try:
        return scorer_of(dataset).wrong_sound(sample.clip, dataset.load(partner).clip)
    except (DataError, MediaError) as error:
        record["no_partner"] = str(error)
        return None


def _header(
    dataset: EvaluationSet,
    settings: dict[str, Any],
    protocol: str | None,
    f_from: FSource,
    seed: int,
    shard: tuple[int, int],
) -> Header:
    scorer = scorer_of(dataset)
    if f_from not in ("mask", "heatmap"):
        raise UsageError(f"f_from must be mask or heatmap, found {f_from!r}")
    if not 1 <= shard[0] <= shard[1]:
        raise UsageError(f"a shard is i/n with 1 <= i <= n, found {shard[0]}/{shard[1]}")
    ids = dataset.ids
    header = {
        "format": FORMAT,
        "metrics": METRICS,
        "dataset": dataset.name,
        "split": dataset.split,
        "size": len(ids),
        "ids_sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
        "kind": scorer.kind,
        "protocol": scorer.protocol(protocol),
        "f_from": f_from,
        "seed": seed,
        "settings": settings,
        "shard": list(shard),
    }
    return json.loads(json.dumps(header))  # as it will be read back: tuples become lists


def _settings(method: SegmentFunction) -> dict[str, Any]:
    """What the method tells of itself, without the folder of AVSS's list of classes.

    Its content is told by the classifier's settings; shards of machines with other folders must merge.
    """
    default = {"method": getattr(method, "__name__", type(method).__name__)}
    settings = getattr(method, "settings", None) or default
    classes = settings.get("classes")
    return settings | ({"classes": Path(classes).name} if isinstance(classes, str) else {})


def _begin(path: Path, header: Header, resume: bool) -> set[int]:
    """Start the file, or cut off what a kill left half written; indices of the samples already in it."""
    if path.exists() and path.stat().st_size and not resume:
        raise UsageError(f"{path} exists: resume the evaluation it holds, or remove it")
    path.touch()
    with path.open("rb") as lines:
        whole = sum(len(line) for line in lines if line.endswith(b"\n"))
    if not whole:  # not even the header was written to its end
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(header, ensure_ascii=False) + "\n", encoding="utf-8")
        return set()
    check_same(header, read_header(path), f"{path} holds another evaluation")
    os.truncate(path, whole)
    return {record["index"] for record in read_records(path)}
