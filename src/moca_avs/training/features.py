"""Precomputed features: the half of every training step that training can't change, computed once and kept.

These are images below the first adapter, and sounds. Every row is computed alone, never in a batch, so that
its features have the same bits whether they were cached, computed on the fly, or computed beside other rows.
A cache is a folder of memory-mapped files.

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
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from moca_avs.data.base import TrainingSet
from moca_avs.encoders.base import AudioFeatures, AudioVisualEncoder, HookPoint
from moca_avs.model.fusion import image_prefix
from moca_avs.training.distributed import DistributedContext
from moca_avs.training.precision import Precision
from moca_avs.utils.files import held, parse_json, partial_path, remove_abandoned

FORMAT = 1  # raise it when the same key would mean other bytes
FLOAT16_MAX = 65504.0


class PrecomputedFeatures(Protocol):
    """The constant half of every training step, by row of the training set."""

    def __len__(self) -> int:
        """Number of rows (frames)."""
        ...

    def images(self, rows: Tensor) -> Tensor:
        """int64 [R] -> float32 [R, ...], the states that enter the first adapted block.

        In a float64 run they are float64.
        """
        ...

    def sounds(self, rows: Tensor) -> AudioFeatures:
        """int64 [R] -> features of the R rows' own sounds."""
        ...

    def features(self) -> Tensor:
        """float32 [N, F] on the CPU, every row's image feature for pairing."""
        ...


@dataclass(frozen=True)
class FeatureExtractor:
    """Computes the features of one row; implements `PrecomputedFeatures` itself, on the fly.

    Attributes:
        encoder: frozen, on `device`.
        data: frames and sounds.
        until_block: the first adapted image block.
        hook_points: (audio layer, site) of every audio token that an adapter reads.
        dtype: "float32", or "float16" to round image states and audio tokens as the cache would.
        device: where features are computed and returned.
        progress: whether `features` shows a bar.
        keep_features: whether a cache keeps them as well: a whole pass through the image trunk per row, for
            nothing where another network finds the neighbours.
        precision: the arithmetic of the networks.
        context: the processes that share the work.
    """

    encoder: AudioVisualEncoder
    data: TrainingSet
    until_block: int
    hook_points: tuple[HookPoint, ...]
    dtype: str = "float32"
    device: str = "cpu"
    progress: bool = False
    keep_features: bool = True
    precision: Precision = field(default_factory=Precision)
    context: DistributedContext = field(default_factory=DistributedContext)

    def __len__(self) -> int:
        return len(self.data)

    @torch.no_grad()
    def rows(self, indices: Iterable[int]) -> Iterator[dict[str, np.ndarray]]:
        """`row` of several; what equals the row before (frames of a still image) is not computed again."""
        frame = sound = None
        image: dict[str, np.ndarray] = {}
        heard: dict[str, np.ndarray] = {}
        for index in indices:
            before, frame = frame, self.data.frame(index)
            if before is None or not np.array_equal(before, frame):
                image = {k: v[0].numpy(force=True) for k, v in self._image(frame, self.keep_features).items()}
            earlier, sound = sound, self.data.sound(index)
            if earlier is None or earlier[1] != sound[1] or not np.array_equal(earlier[0], sound[0]):
                audio = self._sound(sound)
                heard = {token_name(site): audio.tokens[site][0].numpy(force=True) for site in audio.tokens}
                heard["embedding"] = audio.embedding[0].numpy(force=True)
            yield image | heard

    def row(self, index: int) -> dict[str, np.ndarray]:
        """Everything a cache keeps of one row, by name, without batch axis, in the dtype it is kept in."""
        return next(self.rows([index]))

    @torch.no_grad()
    def images(self, rows: Tensor) -> Tensor:
        """See `PrecomputedFeatures`."""
        states = [self._image(self.data.frame(row))["image"] for row in rows.tolist()]
        return torch.cat(states).to(self.precision.wide)

    @torch.no_grad()
    def sounds(self, rows: Tensor) -> AudioFeatures:
        """See `PrecomputedFeatures`."""
        heard, wide = [self._sound(self.data.sound(row)) for row in rows.tolist()], self.precision.wide
        tokens = {site: torch.cat([one.tokens[site] for one in heard]).to(wide) for site in self.hook_points}
        return AudioFeatures(torch.cat([one.embedding for one in heard]).to(wide), tokens)

    def _image(self, frame: np.ndarray, with_feature: bool = False) -> dict[str, Tensor]:
        """What enters the first adapted block, in `dtype`; the encoder's `image_feature`, float32."""
        image = self._model_input(frame)
        with self.precision.autocast():
            state = image_prefix(self.encoder, image, self.until_block)
            found = {"image": _narrowed(state, self.dtype)}
            if with_feature:
                last_feature = getattr(self.encoder, "last_feature", None)
                if last_feature is None:
                    feature = self.encoder.image_feature(image)
                else:  # the encoder can end what `image_prefix` began, which saves half a pass
                    for index in range(self.until_block, self.encoder.image_blocks):
                        state = self.encoder.image_block(index, state)
                    feature = last_feature(state)
                found["feature"] = feature.float()
        return found

    def _sound(self, sound: tuple[np.ndarray, int]) -> AudioFeatures:
        """The embedding, float32, and the tokens that adapters read, in `dtype`."""
        prepared = self.encoder.prepare_audio(*sound)[None].to(self.device, self.precision.wide)
        with self.precision.autocast():
            heard = self.encoder.encode_audio(prepared)
        tokens = {site: _narrowed(heard.tokens[site], self.dtype) for site in self.hook_points}
        return AudioFeatures(heard.embedding.float(), tokens)

    def _model_input(self, frame: np.ndarray) -> Tensor:
        return self.encoder.prepare_images(frame[None]).to(self.device, self.precision.wide)

    @torch.no_grad()
    def features(self) -> Tensor:
        """See `PrecomputedFeatures`; several processes compute a part each."""
        rows = bar(self.context.shard(len(self)), "image features", self.progress)
        with self.precision.autocast():
            inputs = (self._model_input(self.data.frame(row)) for row in rows)
            mine = torch.cat([self.encoder.image_feature(image).float().cpu() for image in inputs])
        return self.context.all_gather(mine, len(self))

    def key(self) -> dict[str, Any]:
        """All that decides the bytes of a cache, JSON-able."""
        narrow = {} if self.precision.dtype == torch.float32 else {"precision": self.precision.name}
        return narrow | {
            "format": FORMAT,
            "data": self.data.fingerprint(),
            "frames": len(self.data),
            "encoder": self.encoder.name,
            "weights": self.encoder.weights_hash(),
            "image_size": self.encoder.image_size,
            "grid": self.encoder.grid,
            "until_block": self.until_block,
            "sites": [list(site) for site in self.hook_points],
            "dtype": self.dtype,
            "features": self.keep_features,
        }


def token_name(site: HookPoint) -> str:
    """Of an audio token's file in a cache."""
    return f"sound.{site[0]}.{site[1]}"


def bar(items: Iterable[int], what: str, shown: bool) -> Iterable[int]:
    """The items, with a bar on stderr where one is wanted and seen."""
    return tqdm(items, desc=what, unit="frame", disable=None if shown else True, leave=False)


def _narrowed(value: Tensor, dtype: str) -> Tensor:
    """In the dtype of that name; what float16 can't hold becomes the largest it can, never infinite."""
    if dtype == "float16":
        value = value.clamp(-FLOAT16_MAX, FLOAT16_MAX)
    return value.to(getattr(torch, dtype))


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
        index = parse_json((folder / "index.json").read_text(encoding="utf-8"))
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
        index = parse_json((folder / "index.json").read_text(encoding="utf-8"))
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
    partial, claim = partial_path(target, context.on_main(os.getpid)), ExitStack()

    def prepare() -> None:
        if context.is_main:
            remove_abandoned(target)
            claim.enter_context(held(partial))
            partial.mkdir()
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
            claim.close()
