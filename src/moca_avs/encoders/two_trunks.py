"""What encoders of two vision transformers share: one reads pictures, one reads spectrograms as pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moca_avs.encoders.base import AddTokens, SiteWidths, SoundStates
from moca_avs.encoders.pictures import clip_pixels
from moca_avs.encoders.transformer import SITES, Block, placed, precision
from moca_avs.errors import UsageError


class Trunk(nn.Module):
    """Blocks and head; a subclass makes the tokens in `forward`, class token first.

    Args:
        blocks: in order.
        width: of a token.
        joint: width of the joint space.
        eps: of the head's norm.
    """

    def __init__(self, blocks: Iterable[Block], width: int, joint: int, eps: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.head_norm = nn.LayerNorm(width, eps)
        self.head = nn.Linear(width, joint, bias=False)

    def before(self, index: int, tokens: Tensor) -> Tensor:
        """What happens to the tokens before block `index`: nothing, unless a subclass knows better."""
        return tokens

    def block(self, index: int, tokens: Tensor, added: dict[str, AddTokens] | None = None) -> Tensor:
        """[B, n, width] -> [B, n, width], with what stands beside its two sites."""
        return cast(Block, self.blocks[index])(self.before(index, tokens), added)

    def states(self, inputs: Tensor) -> tuple[Tensor, dict[tuple[int, str], Tensor]]:
        """The last block's tokens, and those that enter every (block, site)."""
        tokens, states = self(inputs), {}
        for index in range(len(self.blocks)):
            block = cast(Block, self.blocks[index])
            states[index, "attention"] = tokens = self.before(index, tokens)
            states[index, "mlp"] = tokens = block.attend(tokens)
            tokens = block.feed(tokens)
        return tokens, states

    def set_precision(self, dtype: torch.dtype) -> None:
        """`Block.set_precision` of every block."""
        for block in self.blocks:
            cast(Block, block).set_precision(dtype)

    def to_joint(self, tokens: Tensor) -> Tensor:
        """[..., width] -> [..., E]; the head was trained on the class token (token 0) alone."""
        return self.head(self.head_norm(tokens))


class TwoTrunks(nn.Module):
    """The common part of `AudioVisualEncoder`; frozen, always in eval mode, states are [B, 1 + n, width].

    A subclass gives `name` and `prepare_sound`.

    Args:
        vision: reads pictures.
        audio: reads spectrograms.
        image_size: pixels per side.
        patch: pixels per side of a patch.

    Raises:
        UsageError: if `image_size` is no positive multiple of `patch`.
    """

    sites: tuple[str, ...] = SITES

    def __init__(self, vision: Trunk, audio: Trunk, image_size: int, patch: int) -> None:
        super().__init__()
        if image_size < patch or image_size % patch:
            raise UsageError(f"image_size must be a positive multiple of {patch}, found {image_size}")
        self.image_size = image_size
        self.grid = image_size // patch
        self.image_blocks = len(vision.blocks)
        self.audio_blocks = len(audio.blocks)
        self.joint_dim = vision.head.out_features
        self.vision = vision
        self.audio = audio
        self._hash = ""
        self.requires_grad_(False)
        self.eval()

    def set_precision(self, dtype: str) -> None:
        """Keep and multiply the blocks' matrices as "float32", "bfloat16" or "float16"; the rest is float32.

        For speed on a GPU. `weights_hash` stays the file's, so adapters go with every precision; give each
        precision a state cache of its own.

        Raises:
            UsageError: for another name.
        """
        for trunk in (self.vision, self.audio):
            trunk.set_precision(precision(dtype))

    def train(self, mode: bool = True) -> TwoTrunks:
        """Stay in eval mode, whatever a parent module is switched to."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.vision.head.weight.device

    def weights_hash(self) -> str:
        """SHA-256 over every weight used, as its file has it; "" where none were loaded."""
        return self._hash

    def adapter_pairs(self, placement: str, count: int) -> list[tuple[int, int]]:
        """(image block, audio block) pairs; see `transformer.placed`.

        Raises:
            UsageError: for an unknown placement, or more blocks than a trunk has.
        """
        return placed(placement, count, self.image_blocks, self.audio_blocks)

    def site_widths(self, image_block: int, audio_layer: int) -> SiteWidths:
        """All blocks of a trunk are alike."""
        image, audio = self.vision.head.in_features, self.audio.head.in_features
        return SiteWidths(image, image, audio)

    def prepare_images(self, frames: np.ndarray) -> Tensor:
        """uint8 [B, H, W, 3] of any size -> float32 [B, 3, S, S]: squashed (Pillow's bicubic), normalised.

        The references crop the middle; squashing gives every pixel an answer.
        """
        return clip_pixels(frames, self.image_size).to(self.device)

    def image_stem(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> the tokens that enter block 0, class token first: [B, 1 + n, width]."""
        return self.vision(images)

    def image_block(self, index: int, state: Tensor, added: dict[str, AddTokens] | None = None) -> Tensor:
        """One block with its two sites; the class token is one of the tokens at a site."""
        return self.vision.block(index, state, added)

    def trunk_map(self, state: Tensor) -> Tensor:
        """Patch tokens of the last block: [B, width, h, w]."""
        return _as_map(state[:, 1:])

    def joint_map(self, state: Tensor) -> Tensor:
        """The head (norm and projection) on every patch token, not normalised: [B, E, h, w]."""
        return _as_map(self.vision.to_joint(state[:, 1:]))

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, E]: the class token through the head, not normalised."""
        return self.vision.to_joint(self._last(images)[:, 0])

    @torch.no_grad()
    def image_feature(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, width]: the mean patch token, for pairing where there is no DINO."""
        return self.last_feature(self._last(images))

    @torch.no_grad()
    def last_feature(self, state: Tensor) -> Tensor:
        """`image_feature` of a picture whose state after the last block is known: [B, 1 + n, width]."""
        return state[:, 1:].mean(1)

    def _last(self, images: Tensor) -> Tensor:
        state = self.image_stem(images)
        for index in range(self.image_blocks):
            state = self.image_block(index, state)
        return state

    @torch.no_grad()
    def encode_sound(self, sounds: Tensor) -> SoundStates:
        """`prepare_sound`s, stacked -> embedding [B, E], not normalised; tokens [B, 1 + n, width]."""
        last, states = self.audio.states(sounds)
        return SoundStates(self.audio.to_joint(last[:, 0]), states)


def resized_positions(table: Tensor, grid: int, antialias: bool) -> Tensor:
    """A class token's row and a square table, resized bicubically: [1, 1 + n, C] -> [1, 1 + grid^2, C]."""
    side = math.isqrt(table.shape[1] - 1)
    if grid == side:
        return table
    square = table[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    resized = F.interpolate(square, (grid, grid), mode="bicubic", antialias=antialias)
    return torch.cat([table[:, :1], resized.flatten(2).transpose(1, 2)], 1)


def _as_map(tokens: Tensor) -> Tensor:
    """[B, n, C] -> [B, C, h, w], for a square grid."""
    side = math.isqrt(tokens.shape[1])
    return tokens.transpose(1, 2).unflatten(2, (side, side))
