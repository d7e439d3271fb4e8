"""What training can't change is computed once and kept: memory-mapped files, one folder per cache.

``cache_dtype="float16"`` takes half the room. It rounds every feature to 11 bits: at most 4.9e-4 of a value's
size (2^-11) from 6.1e-5 up to 65,504, and 3e-8 below that; larger values are kept at 65,504.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from moca_avs.encoders.base import AudioFeatures, HookPoint
from moca_avs.training.features import FeatureExtractor, PrecomputedFeatures, bar, token_name
from moca_avs.utils.files import partial_path, remove_abandoned

log = logging.getLogger(__name__)

_KEPT_FREE = 2**30  # bytes the cache always leaves on the disk
_SLOWER = "states are computed at every step, which is slower"
FeatureRow = dict[str, np.ndarray]


class CachedFeatures:
    """Features read from memory-mapped files that `open_features` wrote; see `PrecomputedFeatures`."""

    def __init__(
        self,
        folder: Path,
        hook_points: tuple[HookPoint, ...],
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Map the arrays of a whole cache folder; features are returned in `dtype`, on `device`."""
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self._hook_points = hook_points
        self._device = device
        self._dtype = dtype
        self._rows: int = index["key"]["frames"]
        self._arrays = {
            name: np.memmap(folder / f"{name}.bin", dtype, "r", shape=(self._rows, *shape))
            for name, (dtype, shape) in index["arrays"].items()
        }

    def __len__(self) -> int:
        return self._rows

    def images(self, rows: Tensor) -> Tensor:
        """See `PrecomputedFeatures`."""
        return self._read("image", rows)

    def sounds(self, rows: Tensor) -> AudioFeatures:
        """See `PrecomputedFeatures`."""
        tokens = {site: self._read(token_name(site), rows) for site in self._hook_points}
        return AudioFeatures(self._read("embedding", rows), tokens)

    def features(self) -> Tensor:
        """See `PrecomputedFeatures`."""
        return torch.from_numpy(np.array(self._arrays["feature"]))

    def _read(self, name: str, rows: Tensor) -> Tensor:
        taken = self._arrays[name][rows.numpy(force=True)]  # indexing with an array copies
        return torch.from_numpy(np.asarray(taken)).to(self._device).to(self._dtype)


def open_features(extractor: FeatureExtractor, folder: Path, limit: int) -> PrecomputedFeatures:
    """The cache of these features under `folder`, made if missing; the extractor itself where it won't fit.

    Several processes (`FeatureExtractor.context`) fill one cache, a part each.

    Args:
        extractor: computes what is missing.
        folder: holds one sub-folder per cache; made if missing.
        limit: most bytes a cache may take; 0 turns caching off.

    Returns:
        `CachedFeatures`, or `extractor`: the values are equal, only the time differs.
    """
    key, context = extractor.key(), extractor.context
    target = folder / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]

    def there() -> bool:
        return context.on_main(lambda: _is_whole(target, key))

    if not there():
        if limit <= 0:
            return extractor
        own = bar(context.shard(len(extractor)), "states that never change", extractor.progress)
        rows = extractor.rows(own)
        first = next(rows)
        if not context.on_main(lambda: _fits(extractor, first, folder, limit)):
            return extractor
        problem = _write(extractor, key, target, first, rows)
        if problem and not there():  # it may be that another run was first
            if context.is_main:
                log.warning("the state cache could not be written (%s): %s", problem, _SLOWER)
            return extractor
    return CachedFeatures(target, extractor.hook_points, extractor.device, extractor.precision.wide)


def _is_whole(folder: Path, key: dict[str, Any]) -> bool:
    """Whether a cache is there with all its bytes; a damaged one is removed."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        sizes = {
            name: key["frames"] * math.prod(shape) * np.dtype(dtype).itemsize
            for name, (dtype, shape) in index["arrays"].items()
        }
        if index["key"] == key and all((folder / f"{n}.bin").stat().st_size == s for n, s in sizes.items()):
            return True
    except (OSError, ValueError, KeyError, TypeError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _fits(extractor: FeatureExtractor, first: FeatureRow, folder: Path, limit: int) -> bool:
    """Say what a cache would take, and whether that is allowed and there."""
    size = len(extractor) * sum(array.nbytes for array in first.values())
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free - _KEPT_FREE
    room = max(min(limit, free), 0)
    bound = "the limit" if limit <= free else f"what is free on the disk less {_KEPT_FREE / 1e9:.1f} GB"
    if size > room:
        log.warning(
            "the state cache would take %.1f GB and may take %.1f GB (%s): %s (raise the limit, or use "
            "cache_dtype float16)", size / 1e9, room / 1e9, bound, _SLOWER
        )  # fmt: skip
    elif extractor.progress:
        tqdm.write(
            f"state cache: {size / 1e9:.3f} GB for {len(extractor)} frames in {extractor.dtype}; it may take "
            f"{room / 1e9:.1f} GB ({bound})"
        )
    return size <= room


def _write(
    extractor: FeatureExtractor,
    key: dict[str, Any],
    target: Path,
    first: FeatureRow,
    rows: Iterator[FeatureRow],
) -> str:
    """Write beside `target`, then rename: whoever finds `target` finds all of it. Returns what went wrong.

    The first process makes the files, every process writes its rows into them, the first one renames.
    """
    context = extractor.context
    partial = partial_path(target, context.on_main(os.getpid))

    def prepare() -> None:
        if context.is_main:
            remove_abandoned(target)
            partial.mkdir(parents=True)
            for name, array in first.items():
                with (partial / f"{name}.bin").open("wb") as file:
                    file.truncate(len(extractor) * array.nbytes)

    def fill() -> None:
        start = context.shard(len(extractor)).start
        with ExitStack() as stack:
            # Plain writes, not a writable map: on a full disk a map dies by a signal, a write raises.
            files = {name: stack.enter_context((partial / f"{name}.bin").open("r+b")) for name in first}
            for name, array in first.items():
                files[name].seek(start * array.nbytes)
            for row in itertools.chain([first], rows):
                for name, array in row.items():
                    files[name].write(array.tobytes())

    def finish() -> None:
        if context.is_main:
            arrays = {name: [array.dtype.name, list(array.shape)] for name, array in first.items()}
            (partial / "index.json").write_text(json.dumps({"key": key, "arrays": arrays}), encoding="utf-8")
            partial.replace(target)

    try:
        for work in (prepare, fill, finish):
            problem = ""
            try:
                work()
            except OSError as error:
                problem = str(error)
            if problem := next(filter(None, context.all_gather_object(problem)), ""):  # of any process
                return problem
        return ""
    finally:
        if context.is_main:
            shutil.rmtree(partial, ignore_errors=True)
