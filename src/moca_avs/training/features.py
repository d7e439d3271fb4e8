"""The half of every training step that training can't change: images below the first adapter, and sounds.

Every row is computed alone, never in a batch, so that its features have the same bits whether they were
cached, computed on the fly, or computed beside other rows.
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
