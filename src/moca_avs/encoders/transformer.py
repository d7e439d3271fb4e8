"""What transformer encoders share: the pre-norm block with AdaAV's two additive sites, and the placements.

The stream of tokens between blocks always stays float32; only the products inside attention and MLP may run
in half precision (`set_precision`), so adapters, caches and cosines never see it.

What encoders of two vision transformers share: one reads images, one reads spectrograms as images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moca_avs.encoders.base import AdapterHook, AudioFeatures, HookWidths
from moca_avs.encoders.preprocessing import clip_pixels
from moca_avs.errors import UsageError

SITES = ("attention", "mlp")
PLACEMENTS = ("last", "first", "interleaved")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Attention(nn.Module):
    """Multi-head self-attention with one weight for queries, keys and values.

    Args:
        width: of a token.
        heads: number of heads.
        extra_key: append one learned key and value that every token may look at.
    """

    def __init__(self, width: int, heads: int, extra_key: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.bias_k = nn.Parameter(torch.empty(1, 1, width)) if extra_key else None
        self.bias_v = nn.Parameter(torch.empty(1, 1, width)) if extra_key else None
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, n, d] -> [B, n, d]."""
        query, key, value = F.linear(tokens, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        if self.bias_k is not None and self.bias_v is not None:
            key = torch.cat([key, self.bias_k.expand(len(key), 1, -1)], 1)
            value = torch.cat([value, self.bias_v.expand(len(value), 1, -1)], 1)
        split = [part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (query, key, value)]
        mixed = F.scaled_dot_product_attention(*split)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers with an activation between them."""

    def __init__(self, width: int, hidden: int, activation: Callable[[Tensor], Tensor] = F.gelu) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, n, d] -> [B, n, d]."""
        return self.fc2(self.activation(self.fc1(tokens)))


class Block(nn.Module):
    """Pre-norm transformer block: Y = X + MHA(LN X) + a site; X' = Y + MLP(LN Y) + a site.

    Args:
        width: of a token.
        heads: of the attention.
        hidden: width inside the MLP.
        eps: of both layer norms.
        extra_key: see `Attention`.
        activation: of the MLP.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        eps: float = 1e-6,
        extra_key: bool = False,
        activation: Callable[[Tensor], Tensor] = F.gelu,
    ) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads, extra_key)
        self.norm_2 = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, hidden, activation)

    def forward(self, tokens: Tensor, added: dict[str, AdapterHook] | None = None) -> Tensor:
        """[B, n, d] -> [B, n, d]; ``added[site]`` reads the tokens that enter the site."""
        beside = added or {}
        return self.feed(self.attend(tokens, beside.get("attention")), beside.get("mlp"))

    def attend(self, tokens: Tensor, add: AdapterHook | None = None) -> Tensor:
        """The first half: X -> Y."""
        precise = self.norm_1(tokens).to(self.attn.in_proj_weight.dtype)
        new = tokens + self.attn(precise).to(tokens.dtype)
        return new if add is None else new + add(tokens)

    def feed(self, tokens: Tensor, add: AdapterHook | None = None) -> Tensor:
        """The second half: Y -> X'."""
        precise = self.norm_2(tokens).to(self.mlp.fc1.weight.dtype)
        new = tokens + self.mlp(precise).to(tokens.dtype)
        return new if add is None else new + add(tokens)

    def set_precision(self, dtype: torch.dtype) -> None:
        """Store and multiply attention's and MLP's weights in `dtype`; the norms stay float32."""
        self.attn.to(dtype)
        self.mlp.to(dtype)


def precision(name: str) -> torch.dtype:
    """The torch dtype of that name.

    Raises:
        UsageError: if there is none.
    """
    if name not in PRECISIONS:
        raise UsageError(f"dtype must be one of {', '.join(PRECISIONS)}, found {name!r}")
    return PRECISIONS[name]


def placed(placement: str, count: int, image_blocks: int, audio_blocks: int) -> list[tuple[int, int]]:
    """(image block, audio block) pairs of a placement (paper table 6).

    "last": the last `count` of both trunks, in order. "first": the first. "interleaved": every other block
    back from the last, in both trunks. With ImageBind's 32 and 12 blocks and count 6: 26..31 with 6..11;
    0..5 with 0..5; 21, 23, .., 31 with 1, 3, .., 11.

    Raises:
        UsageError: for an unknown placement, or more blocks than a trunk has.
    """
    if placement not in PLACEMENTS:
        raise UsageError(f"placement must be one of {', '.join(PLACEMENTS)}, found {placement!r}")
    step = 2 if placement == "interleaved" else 1
    most = (min(image_blocks, audio_blocks) + step - 1) // step
    if not 1 <= count <= most:
        raise UsageError(f"adapter count must be in 1..{most} for placement {placement!r}, found {count}")
    if placement == "first":
        return [(index, index) for index in range(count)]
    back = range(step * (count - 1), -1, -step)
    return [(image_blocks - 1 - steps, audio_blocks - 1 - steps) for steps in back]


@torch.no_grad()
def randomize(weights: Iterable[tuple[str, Tensor]], seed: int) -> None:
    """Fill weights as a fresh network's, in place: norms at one, biases small, matrices by their fan-in."""
    generator: dict[torch.device, torch.Generator] = {}
    for name, weight in weights:
        source = generator.setdefault(weight.device, torch.Generator(weight.device).manual_seed(seed))
        if weight.ndim >= 2:
            weight.normal_(0, weight[0].numel() ** -0.5, generator=source)
        elif "norm" in name and name.endswith("weight"):
            weight.normal_(1, 0.02, generator=source)
        else:
            weight.normal_(0, 0.02, generator=source)


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

    def block(self, index: int, tokens: Tensor, added: dict[str, AdapterHook] | None = None) -> Tensor:
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

    A subclass gives `name` and `prepare_audio`.

    Args:
        vision: reads images.
        audio: reads spectrograms.
        image_size: pixels per side.
        patch: pixels per side of a patch.

    Raises:
        UsageError: if `image_size` is no positive multiple of `patch`.
    """

    hook_points: tuple[str, ...] = SITES

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

    def hook_widths(self, image_block: int, audio_layer: int) -> HookWidths:
        """All blocks of a trunk are alike."""
        image, audio = self.vision.head.in_features, self.audio.head.in_features
        return HookWidths(image, image, audio)

    def prepare_images(self, frames: np.ndarray) -> Tensor:
        """uint8 [B, H, W, 3] of any size -> float32 [B, 3, S, S]: squashed (Pillow's bicubic), normalized.

        The references crop the middle; squashing gives every pixel an answer.
        """
        return clip_pixels(frames, self.image_size).to(self.device)

    def image_stem(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> the tokens that enter block 0, class token first: [B, 1 + n, width]."""
        return self.vision(images)

    def image_block(self, index: int, state: Tensor, added: dict[str, AdapterHook] | None = None) -> Tensor:
        """One block with its two sites; the class token is one of the tokens at a site."""
        return self.vision.block(index, state, added)

    def backbone_features(self, state: Tensor) -> Tensor:
        """Patch tokens of the last block: [B, width, h, w]."""
        return _as_map(state[:, 1:])

    def joint_features(self, state: Tensor) -> Tensor:
        """The head (norm and projection) on every patch token, not normalized: [B, E, h, w]."""
        return _as_map(self.vision.to_joint(state[:, 1:]))

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, E]: the class token through the head, not normalized."""
        return self.vision.to_joint(self._last(images)[:, 0])

    @torch.no_grad()
    def image_feature(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, width]: the mean patch token, for pairing where there is no DINO."""
        return self.last_feature(self._last(images))

    @torch.no_grad()
    def last_feature(self, state: Tensor) -> Tensor:
        """`image_feature` of an image whose state after the last block is known: [B, 1 + n, width]."""
        return state[:, 1:].mean(1)

    def _last(self, images: Tensor) -> Tensor:
        state = self.image_stem(images)
        for index in range(self.image_blocks):
            state = self.image_block(index, state)
        return state

    @torch.no_grad()
    def encode_audio(self, sounds: Tensor) -> AudioFeatures:
        """`prepare_audio`s, stacked -> embedding [B, E], not normalized; tokens [B, 1 + n, width]."""
        last, states = self.audio.states(sounds)
        return AudioFeatures(self.audio.to_joint(last[:, 0]), states)


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
