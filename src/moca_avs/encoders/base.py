"""What a frozen audio-visual encoder must offer. A new encoder is one file and knows nothing of adapters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

AdapterHook = Callable[[Tensor], Tensor]
"""Reads the tokens that enter a site [B, n, d_in] and returns what to add beside it [B, n, d_out]."""

HookPoint = tuple[int, str]
"""(block index, site name); the site names of an encoder are in its `sites`."""


@dataclass(frozen=True)
class AudioFeatures:
    """One batch of sounds, encoded once and shared by every image it meets.

    Attributes:
        embedding: float32 [B, E], the sound in the joint space (not normalized).
        tokens: per (audio layer, site): [B, N_a, d_a], the audio trunk's states at that place.
    """

    embedding: Tensor
    tokens: dict[HookPoint, Tensor]

    def index(self, rows: Tensor) -> AudioFeatures:
        """Pick rows of the batch (int64 [R]): the states of the R sounds."""
        return AudioFeatures(self.embedding[rows], {k: v[rows] for k, v in self.tokens.items()})


@dataclass(frozen=True)
class HookWidths:
    """Widths of one adapter site: image tokens in and out, audio tokens in."""

    image_in: int
    image_out: int
    audio: int


class AudioVisualEncoder(Protocol):
    """A frozen image trunk and a frozen audio trunk with one joint space.

    Always in eval mode; none of its parameters ever asks for a gradient, but gradients flow *through* its
    image blocks to what was added at the sites.
    """

    name: str
    image_size: int  # pixels, square
    grid: int  # positions per side of the joint map at image_size
    image_blocks: int
    audio_blocks: int
    joint_dim: int
    hook_points: tuple[str, ...]  # ("attention", "mlp") for transformers, ("block",) for convolutions

    def adapter_pairs(self, placement: str, count: int) -> list[tuple[int, int]]:
        """(image block, audio layer) pairs of a placement: "last", "first" or "interleaved"."""
        ...

    def hook_widths(self, image_block: int, audio_layer: int) -> HookWidths:
        """Widths an adapter at this pair must have (equal for all sites of the block)."""
        ...

    def prepare_images(self, frames: np.ndarray) -> Tensor:
        """uint8 [B, H, W, 3] of any size -> model input float32 [B, 3, image_size, image_size] (squashed)."""
        ...

    def prepare_audio(self, sound: np.ndarray, sample_rate: int) -> Tensor:
        """float32 [N >= 1] mono at any rate -> model input, no batch axis, of one shape for every sound."""
        ...

    def image_stem(self, images: Tensor) -> Tensor:
        """Model input -> the state that enters block 0 (its layout is the encoder's own)."""
        ...

    def image_block(self, index: int, state: Tensor, added: dict[str, AdapterHook] | None = None) -> Tensor:
        """One frozen block; `added[site]` is called with the tokens at that site and its result is added."""
        ...

    def backbone_features(self, state: Tensor) -> Tensor:
        """State after the last block -> raw features [B, C, h, w]."""
        ...

    def joint_features(self, state: Tensor) -> Tensor:
        """State after the last block -> [B, E, h, w] in the joint space, not normalized."""
        ...

    def embed_images(self, images: Tensor) -> Tensor:
        """Model input -> [B, E], whole images in the joint space, not normalized."""
        ...

    def image_feature(self, images: Tensor) -> Tensor:
        """Model input -> [B, F] global feature for image pairing (DINO's stand-in in `lite`)."""
        ...

    def encode_audio(self, sounds: Tensor) -> AudioFeatures:
        """[B, ...] of `prepare_audio` outputs -> states. Never needs a gradient."""
        ...

    def to(self, device: torch.device | str) -> Any:
        """Move the weights; returns itself."""
        ...

    def weights_hash(self) -> str:
        """SHA-256 over names, shapes and bytes of every weight: what a cache or a checkpoint is tied to."""
        ...
