"""Build the benchmark: plans, clips, layouts, manifests; whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

from moca_avs.errors import UsageError
from moca_avs.hub.cache import cache_dir, lock
from moca_avs.utils.files import atomic_write
from moca_avs_bench.stamps.clips import ClipData, Plan, draw_clip, plan_clips
from moca_avs_bench.stamps.media import Catalog, package_root
from moca_avs_bench.stamps.scenes import TIERS, Pool
from moca_avs_bench.stamps.writers import ROOTS, write_avss, write_ms3, write_s4, write_sheet, write_vggss

FORMAT = 1
"""Raised whenever the same seed and packages would give other images, sounds or files."""

IMAGE = 384  # pixels

Counts = dict[str, dict[str, int]]

SIZES: dict[str, Counts] = {
    "standard": {
        "s4": {"train": 420, "val-B": 90, "val-A": 45, "test-B": 120, "test-A": 100, "test-C": 60},
        "ms3": {"train": 100, "val-B": 30, "val-A": 15, "test-B": 30, "test-A": 30, "test-C": 15},
        "v2": {"train": 20, "val-B": 6, "val-A": 3, "test-B": 8, "test-A": 8, "test-C": 4},
    },
    "quick": {
        "s4": {"train": 24, "val-B": 6, "val-A": 4, "test-B": 8, "test-A": 8, "test-C": 4},
        "ms3": {"train": 6, "val-B": 3, "val-A": 2, "test-B": 4, "test-A": 4, "test-C": 2},
        "v2": {"train": 2, "val-B": 1, "val-A": 1, "test-B": 1, "test-A": 1, "test-C": 1},
    },
}
"""Clips per layout and tier."""

_LIBRARIES = ("numpy", "pillow", "resvg-py", "av", "soxr")  # noted, for they too decide what the pixels are

_V1S_EVERY = 4  # one single-source clip in four is written as AVSS v1s too


def build_stamps(
    out: str | Path | None = None,
    media: str = "core",
    seed: int = 0,
    size: str = "standard",
    limit: int | None = None,
    progress: bool = True,
) -> Path:
    """Write the benchmark, or find it written: S4, MS3, AVSS and VGG-SS layouts and their manifests.

    Args:
        out: folder to make; None keeps it in the cache under the hash of its configuration.
        media: "core", or "full" (more sounds on the training side only).
        seed: of every choice.
        size: "standard" or "quick" (for trying things out).
        limit: at most so many clips per layout and tier.
        progress: whether to show a bar.

    Returns:
        The folder: ``Single-source``, ``Multi-sources``, ``AVSBench-semantic``, ``VGG-SS``, ``stamps.json``
        (versions, seed, counts), ``credits``, ``contact_sheet.png``.

    Raises:
        UsageError: on an unknown size or media set, or where `out` holds something else.
        DataError: where the media packages can't be had.
        MediaError: where `out` can't be written, or the disk is full.
    """
    catalog = Catalog.load(media)
    config = configuration(catalog, seed, size, limit)
    target = Path(out) if out is not None else _cached(config)
    with lock("stamps"):  # of two builders the second finds what the first has made
        if not is_built(target, config):
            _build_beside(catalog, config, target, progress)
    return target


def _build_beside(catalog: Catalog, config: dict[str, Any], target: Path, progress: bool) -> None:
    """Build under a hidden name and rename; what a killed run left under that name is cleared first."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(
            f"{target} holds something else than this benchmark; name a folder that isn't there yet"
        )
    with atomic_write(target, folder=True) as partial:
        _write_all(catalog, config, partial, progress)


def configuration(catalog: Catalog, seed: int, size: str, limit: int | None) -> dict[str, Any]:
    """Everything the benchmark's bytes depend on, and the hash of it.

    Raises:
        UsageError: on an unknown size.
    """
    from moca_avs.hub.debian import unpacked_all, version

    if size not in SIZES:
        raise UsageError(f"size must be one of {', '.join(SIZES)}, found {size!r}")
    packages = catalog.packages()
    unpacked_all(packages)
    table = files("moca_avs_bench.stamps").joinpath("media.csv").read_bytes()
    cap = limit if limit is not None else 1 << 30
    config: dict[str, Any] = {
        "format": FORMAT,
        "media": catalog.media,
        "seed": seed,
        "size": size,
        "picture": IMAGE,
        "clips": {k: {t: min(n, cap) for t, n in counts.items()} for k, counts in SIZES[size].items()},
        "packages": {package: version(package) for package in packages},
        "table": hashlib.sha256(table).hexdigest(),
    }
    text = json.dumps(config, sort_keys=True)
    return config | {"hash": hashlib.sha256(text.encode()).hexdigest()[:16]}


def is_built(folder: Path, config: dict[str, Any]) -> bool:
    """Whether a folder holds the whole benchmark of this configuration."""
    note = folder / "stamps.json"
    return note.is_file() and json.loads(note.read_text(encoding="utf-8"))["hash"] == config["hash"]


def _cached(config: dict[str, Any]) -> Path:
    folder = cache_dir() / "stamps"
    folder.mkdir(exist_ok=True)
    return folder / str(config["hash"])


def _write_all(catalog: Catalog, config: dict[str, Any], out: Path, progress: bool) -> None:
    from tqdm import tqdm

    pools = {tier: Pool.of(catalog, tier) for tier in TIERS}
    plans = [
        plan
        for layout, counts in config["clips"].items()
        for tier, count in counts.items()
        for plan in plan_clips(pools[tier], layout, tier, count, config["seed"])
    ]
    indices = class_indices(catalog)

    def make(plan: Plan) -> dict[str, Any]:
        clip = draw_clip(plan, pools[plan.tier], config["seed"], config["picture"])
        return _write_clip(clip, out, indices)

    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as workers:
        done = tqdm(
            workers.map(make, plans), total=len(plans), desc="stamps", unit="clip", disable=not progress
        )
        lines = list(done)
    _write_tables(lines, out, indices)
    _write_credits(catalog, out / "credits")
    write_sheet(out)
    _write_json(
        out / "stamps.json", config | {"libraries": {name: metadata.version(name) for name in _LIBRARIES}}
    )


def class_indices(catalog: Catalog) -> dict[str, int]:
    """Class -> index of the semantic labels, background 0; the same for "core" and "full"."""
    names = sorted({cutout.category for cutout in catalog.cutouts})
    return {"background": 0} | {name: index + 1 for index, name in enumerate(names)}


def _write_clip(clip: ClipData, out: Path, indices: dict[str, int]) -> dict[str, Any]:
    """Every layout of one clip: layout -> manifest line."""
    plan = clip.plan
    if plan.layout == "v2":
        return {"avss": write_avss(clip, out, "v2", indices, None)}
    if plan.layout == "ms3":
        line = write_ms3(clip, out)
        return {"ms3": line, "avss": write_avss(clip, out, "v1m", indices, ("ms3", line))}
    lines = {"s4": write_s4(clip, out)}
    if plan.index % _V1S_EVERY == 0:
        lines["avss"] = write_avss(clip, out, "v1s", indices, ("s4", lines["s4"]))
    if plan.split == "test" and clip.active[0].all():
        lines["vggss"] = write_vggss(clip, out, lines["s4"])
    return lines


def _write_tables(lines: list[dict[str, Any]], out: Path, indices: dict[str, int]) -> None:
    """The official tables and, beside them, ``manifest/<split>.jsonl``."""
    of = {layout: [line[layout] for line in lines if layout in line] for layout in ROOTS}
    s4, ms3, avss = (out / ROOTS[layout] for layout in ("s4", "ms3", "avss"))
    rows = ([x["id"], 0, x["category"], x["split"]] for x in of["s4"])
    _write_csv(s4 / "s4_meta_data.csv", ["name", "start", "category", "split"], rows)
    _write_csv(ms3 / "ms3_meta_data.csv", ["name", "split"], ([x["id"], x["split"]] for x in of["ms3"]))
    columns = ["vid", "uid", "s_min", "s_sec", "a_obj", "split", "label"]
    _write_csv(avss / "metadata.csv", columns, (_avss_row(line) for line in of["avss"]))
    _write_json(avss / "label2idx.json", indices)
    _write_json(out / ROOTS["vggss"] / "vggss.json", of["vggss"])
    for layout, base in (("s4", s4), ("ms3", ms3), ("avss", avss)):
        for split in ("train", "val", "test"):
            text = "".join(json.dumps(x) + "\n" for x in of[layout] if x["split"] == split)
            path = base / "manifest" / f"{split}.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _avss_row(line: dict[str, Any]) -> list[Any]:
    heard = "_".join(sorted({o["category"] for o in line["objects"] if any(o["sounding"])}))
    return [line["id"], line["id"], 0, 0, heard, line["split"], line["label"]]


def _write_credits(catalog: Catalog, folder: Path) -> None:
    """Per package its copyright notice, and the list of its files that were drawn from."""
    folder.mkdir()
    for package in catalog.packages():
        media = (*catalog.cutouts, *catalog.sounds, *catalog.backgrounds)
        used = sorted(medium.path for medium in media if medium.package == package)
        (folder / f"{package}.files").write_text("\n".join(used) + "\n", encoding="utf-8")
        notice = package_root(package) / "usr/share/doc" / package / "copyright"
        shutil.copyfile(notice, folder / f"{package}.copyright")


def _write_csv(path: Path, columns: list[str], rows: Iterable[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
