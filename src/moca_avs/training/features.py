"""The half of every training step that training can't change: image states below the first adapter, sounds.

Every row is computed alone, never in a batch, so that a state has the same bits whether it was cached,
computed on the fly, or met in other company.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
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
        """int64 [R] -> states of the R rows' own sounds."""
        ...

    def features(self) -> Tensor:
        """float32 [N, F] on the CPU, every row's image feature for pairing."""
        ...


@dataclass(frozen=True)
class FeatureExtractor:
    """Computes the states of one row; implements `PrecomputedFeatures` itself, on the fly.

    Attributes:
        encoder: frozen, on `device`.
        data: frames and sounds.
        until_block: the first adapted image block.
        sites: (audio layer, site) of every sound state an adapter reads.
        dtype: "float32", or "float16" to round image and sound states as the cache would.
        device: where states are computed and handed out.
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
                image = self._image_row(frame)
            earlier, sound = sound, self.data.sound(index)
            if earlier is None or earlier[1] != sound[1] or not np.array_equal(earlier[0], sound[0]):
                heard = self._sound_row(sound)
            yield image | heard

    def row(self, index: int) -> dict[str, np.ndarray]:
        """Everything a cache keeps of one row, by name, without batch axis, in the dtype it is kept in."""
        return next(self.rows([index]))

    def _image_row(self, frame: np.ndarray) -> dict[str, np.ndarray]:
        model_input = self._model_input(frame)
        with self.precision.autocast():
            prefix = image_prefix(self.encoder, model_input, self.until_block)
            kept = {"image": _array(prefix, self.dtype)}
            if self.keep_features:
                kept["feature"] = _array(self._feature(model_input, prefix), "float32")
        return kept

    def _sound_row(self, sound: tuple[np.ndarray, int]) -> dict[str, np.ndarray]:
        states = self._sound(sound)
        kept = {token_name(site): _array(states.tokens[site], self.dtype) for site in self.hook_points}
        return kept | {"embedding": _array(states.embedding, "float32")}

    @torch.no_grad()
    def _image(self, frame: np.ndarray) -> Tensor:
        with self.precision.autocast():
            return self._rounded(image_prefix(self.encoder, self._model_input(frame), self.until_block))

    @torch.no_grad()
    def _sound(self, sound: tuple[np.ndarray, int]) -> AudioFeatures:
        prepared = self.encoder.prepare_audio(*sound)[None].to(self.device, self.precision.wide)
        with self.precision.autocast():
            states = self.encoder.encode_audio(prepared)
        embedding = states.embedding.float().to(self.precision.wide)
        return AudioFeatures(
            embedding, {site: self._rounded(states.tokens[site]) for site in self.hook_points}
        )

    def _rounded(self, state: Tensor) -> Tensor:
        return _narrowed(state, self.dtype).to(self.precision.wide)

    def _model_input(self, frame: np.ndarray) -> Tensor:
        return self.encoder.prepare_images(frame[None]).to(self.device, self.precision.wide)

    def _feature(self, model_input: Tensor, prefix: Tensor) -> Tensor:
        """The encoder's `image_feature`; one that can end what `image_prefix` began saves half a pass."""
        last_feature = getattr(self.encoder, "last_feature", None)
        if last_feature is None:
            return self.encoder.image_feature(model_input)
        for index in range(self.until_block, self.encoder.image_blocks):
            prefix = self.encoder.image_block(index, prefix)
        return last_feature(prefix)

    def images(self, rows: Tensor) -> Tensor:
        """See `PrecomputedFeatures`."""
        return torch.cat([self._image(self.data.frame(row)) for row in rows.tolist()])

    def sounds(self, rows: Tensor) -> AudioFeatures:
        """See `PrecomputedFeatures`."""
        states = [self._sound(self.data.sound(row)) for row in rows.tolist()]
        tokens = {site: torch.cat([state.tokens[site] for state in states]) for site in self.hook_points}
        return AudioFeatures(torch.cat([state.embedding for state in states]), tokens)

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
    """Of a sound state's file in a cache."""
    return f"sound.{site[0]}.{site[1]}"


def bar(items: Iterable[int], what: str, shown: bool) -> Iterable[int]:
    """The items, with a bar on stderr where one is wanted and seen."""
    return tqdm(items, desc=what, unit="frame", disable=None if shown else True, leave=False)


def _array(value: Tensor, dtype: str) -> np.ndarray:
    return _narrowed(value[0], dtype).numpy(force=True)


def _narrowed(value: Tensor, dtype: str) -> Tensor:
    """In the dtype of that name; what float16 can't hold becomes the largest it can, never infinite."""
    if dtype == "float16":
        value = value.clamp(-FLOAT16_MAX, FLOAT16_MAX)
    return value.to(getattr(torch, dtype))
