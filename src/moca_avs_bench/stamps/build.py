"""Build the benchmark: plans, clips, layouts, manifests; whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

from moca_avs.errors import UsageError
from moca_avs.hub.cache import cache_dir, lock
from moca_avs.utils.extras import EXTRAS, lacking_modules, require_extra
from moca_avs.utils.files import atomic_write, parse_json
from moca_avs_bench.data.avss import CLASSES
from moca_avs_bench.data.layout import LAYOUTS, SPLITS
from moca_avs_bench.stamps.media import Catalog, package_root
from moca_avs_bench.stamps.scenes import TIERS, Plan, Pool, draw_clip, plan_clips
from moca_avs_bench.stamps.writers import write_clip, write_sheet

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
    "validation": {
        "s4": {"val-B": 270, "val-A": 135},
        "ms3": {"val-B": 60, "val-A": 30},
        "v2": {"val-B": 6, "val-A": 3},
    },
}
"""Clips per layout and tier."""

_LIBRARIES = ("numpy", "pillow", "resvg-py", "av", "soxr")  # noted, for they too decide what the pixels are


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
        media: "core"; "full" (more sounds on the training side only); "world" (more of
            everything for training and validation, for size "validation" only: test clips stay as they are).
        seed: of every choice.
        size: "standard", "quick" (for trying things out) or "validation" (no other split, more clips).
        limit: at most so many clips per layout and tier.
        progress: whether to show a bar.

    Returns:
        The folder: ``Single-source``, ``Multi-sources``, ``AVSBench-semantic``, ``VGG-SS``, ``stamps.json``
        (versions, seed, counts), ``credits``, ``contact_sheet.png``.

    Raises:
        UsageError: on an unknown size or media set, "world" with a size that has test clips, or where `out`
            holds something else.
        DataError: where the media packages can't be had.
        MediaError: where `out` can't be written, or the disk is full.
    """
    if lacking_modules(EXTRAS["stamps"][0]) and not _built_before(out):
        require_extra("stamps", "building the offline benchmark")  # before anything is fetched
    catalog = Catalog.load(media)
    config = configuration(catalog, seed, size, limit)
    target = Path(out) if out is not None else cache_dir() / "stamps" / str(config["hash"])
    with lock("stamps"):  # of two builders the second finds what the first has made
        if not is_built(target, config):
            require_extra("stamps", "building the offline benchmark")
            _build_beside(catalog, config, target, progress)
    return target


def _built_before(out: str | Path | None) -> bool:
    """Whether there is some benchmark, perhaps the one that is asked for: then nothing need be drawn."""
    places = (cache_dir() / "stamps").glob("*/stamps.json") if out is None else [Path(out) / "stamps.json"]
    return any(place.exists() for place in places)


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
    from moca_avs.hub.catalog import ASSETS
    from moca_avs.hub.debian import unpacked_all, version

    if size not in SIZES:
        raise UsageError(f"size must be one of {', '.join(SIZES)}, found {size!r}")
    if catalog.media == "world" and size != "validation":
        raise UsageError(
            f"media 'world' holds more images to train and validate on, so its test clips would not be the "
            f"benchmark's; found size {size!r}: use size 'validation', or media 'core'"
        )
    packages = catalog.packages()
    unpacked_all(package for package in packages if package not in ASSETS)
    tables = ("media.csv", "world.csv") if catalog.media == "world" else ("media.csv",)
    table = b"".join(files("moca_avs_bench.stamps").joinpath(name).read_bytes() for name in tables)
    cap = limit if limit is not None else 1 << 30
    config: dict[str, Any] = {
        "format": FORMAT,
        "media": catalog.media,
        "seed": seed,
        "size": size,
        "picture": IMAGE,
        "clips": {k: {t: min(n, cap) for t, n in counts.items()} for k, counts in SIZES[size].items()},
        "packages": {p: ASSETS[p].version if p in ASSETS else version(p) for p in packages},
        "table": hashlib.sha256(table).hexdigest(),
    }
    text = json.dumps(config, sort_keys=True)
    return config | {"hash": hashlib.sha256(text.encode()).hexdigest()[:16]}


def is_built(folder: Path, config: dict[str, Any]) -> bool:
    """Whether a folder holds the whole benchmark of this configuration."""
    note = folder / "stamps.json"
    return note.is_file() and parse_json(note.read_text(encoding="utf-8"))["hash"] == config["hash"]


def _write_all(catalog: Catalog, config: dict[str, Any], out: Path, progress: bool) -> None:
    from tqdm import tqdm

    pools = {
        tier: Pool.of(catalog, tier) for tier in TIERS if any(tier in c for c in config["clips"].values())
    }
    plans = [
        plan
        for layout, counts in config["clips"].items()
        for tier, count in counts.items()
        for plan in plan_clips(pools[tier], layout, tier, count, config["seed"])
    ]
    indices = class_indices(catalog)

    def make(plan: Plan) -> dict[str, Any]:
        clip = draw_clip(plan, pools[plan.tier], config["seed"], config["picture"])
        return write_clip(clip, out, indices)

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


def _write_tables(lines: list[dict[str, Any]], out: Path, indices: dict[str, int]) -> None:
    """The official tables and, beside them, ``manifest/<split>.jsonl``."""
    headings = {
        "s4": ["name", "start", "category", "split"],
        "ms3": ["name", "split"],
        "avss": ["vid", "uid", "s_min", "s_sec", "a_obj", "split", "label"],
    }
    for name, columns in headings.items():
        layout = LAYOUTS[name]
        base, written = out / layout.folder, [line[name] for line in lines if name in line]
        with (base / layout.table).open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(columns)
            for line in written:
                heard = "_".join(sorted({o["category"] for o in line["objects"] if any(o["sounding"])}))
                known = line | {"start": 0, "s_min": 0, "s_sec": 0, "a_obj": heard}
                known |= dict.fromkeys(("name", "vid", "uid"), line["id"])
                rows.writerow([known[column] for column in columns])
        (base / "manifest").mkdir()
        for split in SPLITS:
            text = "".join(json.dumps(line) + "\n" for line in written if line["split"] == split)
            (base / "manifest" / f"{split}.jsonl").write_text(text, encoding="utf-8")
    _write_json(out / LAYOUTS["avss"].folder / CLASSES, indices)
    images, boxes = LAYOUTS["vggss"], [line["vggss"] for line in lines if "vggss" in line]
    if boxes:  # of test clips alone
        _write_json(out / images.folder / images.table, boxes)


def _write_credits(catalog: Catalog, folder: Path) -> None:
    """Per package its copyright notice, and the list of its files that were drawn from."""
    from moca_avs.hub.catalog import ASSETS

    folder.mkdir()
    for package in catalog.packages():
        media = (*catalog.cutouts, *catalog.sounds, *catalog.backgrounds)
        used = sorted(medium.path for medium in media if medium.package == package)
        (folder / f"{package}.files").write_text("\n".join(used) + "\n", encoding="utf-8")
        notice = folder / f"{package}.copyright"
        if package in ASSETS:
            notice.write_text(f"{ASSETS[package].license}: {ASSETS[package].source}\n", encoding="utf-8")
        else:
            shutil.copyfile(package_root(package) / "usr/share/doc" / package / "copyright", notice)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
