"""Runs a frozen encoder with adapters between its blocks: audio-enhanced features (paper section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as checkpointed

from moca_avs.encoders.base import AudioFeatures, AudioVisualEncoder
from moca_avs.errors import UsageError
from moca_avs.model.adapter import AdapterSet

SPACES = ("joint", "trunk")


def enhanced_features(
    encoder: AudioVisualEncoder,
    adapters: AdapterSet | None,
    images: Tensor,
    sounds: AudioFeatures,
    space: str = "joint",
) -> Tensor:
    """Features of every position of the images, as the sounds change them.

    Args:
        encoder: frozen.
        adapters: None for the frozen features; with all gates at zero the result is the same, bit for bit.
        images: model input, float32 [B, 3, S, S].
        sounds: one row per image, or a single row for all of them.
        space: "joint" (comparable with ``sounds.embedding``) or "trunk" (raw tokens of the last block).

    Returns:
        [B, C, h, w], not normalized.

    Raises:
        UsageError: if `space` does not exist.
    """
    until = encoder.image_blocks if adapters is None else adapters.first_block
    return from_prefix(encoder, adapters, image_prefix(encoder, images, until), sounds, until, space)


@torch.no_grad()
def image_prefix(encoder: AudioVisualEncoder, images: Tensor, until_block: int) -> Tensor:
    """The state that enters image block `until_block`: the part no adapter changes, worth caching.

    Args:
        encoder: frozen.
        images: model input, float32 [B, 3, S, S].
        until_block: usually ``adapters.first_block``; 0 gives the stem's output.

    Returns:
        The encoder's own state, batch first.
    """
    state = encoder.image_stem(images)
    for index in range(until_block):
        state = encoder.image_block(index, state)
    return state


def from_prefix(
    encoder: AudioVisualEncoder,
    adapters: AdapterSet | None,
    state: Tensor,
    sounds: AudioFeatures,
    from_block: int,
    space: str = "joint",
    checkpoint: bool = False,
) -> Tensor:
    """The rest of the way: ``enhanced_features`` from what `image_prefix` gave at `from_block`.

    With `checkpoint`, going backwards computes each block again instead of keeping what is inside it.

    Raises:
        UsageError: if `space` does not exist, or an adapter stands before `from_block`.
    """
    if space not in SPACES:
        raise UsageError(f"feature space must be one of {', '.join(SPACES)}, found {space!r}")
    state = last_state(encoder, adapters, state, sounds, from_block, checkpoint)
    return encoder.joint_features(state) if space == "joint" else encoder.backbone_features(state)


def last_state(
    encoder: AudioVisualEncoder,
    adapters: AdapterSet | None,
    state: Tensor,
    sounds: AudioFeatures,
    from_block: int,
    checkpoint: bool = False,
) -> Tensor:
    """The encoder's own state after its last block, from the one that enters block `from_block`.

    `checkpoint` as in `from_prefix`.

    Raises:
        UsageError: if an adapter stands before `from_block`.
    """
    if adapters is not None and from_block > adapters.first_block:
        raise UsageError(
            f"the first adapter stands at block {adapters.first_block}, before the cached block {from_block}"
        )
    for index in range(from_block, encoder.image_blocks):
        added = None if adapters is None else adapters.at(index, sounds)
        if checkpoint and torch.is_grad_enabled():  # nothing in a block is random: no state to restore
            state = checkpointed(
                encoder.image_block, index, state, added, use_reentrant=False, preserve_rng_state=False
            )
        else:
            state = encoder.image_block(index, state, added)
    return state


@torch.no_grad()
def cosine_heatmap(features: Tensor, embedding: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Cosine of each (bilinearly upsampled) position with the sound: the supplement's heat map.

    Args:
        features: [B, d, h, w], not normalized.
        embedding: [B, d], of each frame's sound.
        size: (H, W); None keeps the grid.

    Returns:
        float32 [B, H, W] in [-1, 1]; 0 where a position or the embedding is zero.
    """
    features = features.float().contiguous(memory_format=torch.channels_last)
    sounds = F.normalize(embedding.float(), dim=1)
    heatmaps = []
    for frame, sound in zip(features[:, None], sounds, strict=True):  # one by one: [d, H, W] is large
        if size is not None:
            frame = F.interpolate(frame, size, mode="bilinear", align_corners=False)
        vectors = frame[0].permute(1, 2, 0)  # [H, W, d]
        heatmaps.append(vectors @ sound / torch.linalg.vector_norm(vectors, dim=2).clamp(min=1e-12))
    if not heatmaps:
        return features.new_zeros(0, *(size or features.shape[2:]))
    return torch.stack(heatmaps).clamp(-1, 1)
