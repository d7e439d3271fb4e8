"""An encoder of one's own: colors and pitch in one space of three dimensions. Copy it, put in real networks.

    MOCA_AVS_PLUGINS=examples/toy_encoder.py moca segment band.mp4 -o out --preset colors-and-pitch

An encoder is frozen, has an image trunk of blocks and an audio trunk of layers, and maps both into a joint
space. It knows nothing of adapters: it only calls what it is given at its hook points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moca_avs import register_encoder
from moca_avs.encoders.base import AdapterHook, AudioFeatures, HookWidths
from moca_avs.errors import UsageError
from moca_avs.hub.weight_files import tensors_sha256
from moca_avs.io.audio import resample


class ColorsAndPitch(nn.Module):
    """Red, green and blue meet low, middle and high sounds.

    Args:
        image_size: pixels per side of the model input, a multiple of 8.
    """

    name = "colors-and-pitch"
    image_blocks, audio_blocks, joint_dim = 1, 1, 3
    hook_points = ("block",)
    rate, seconds = 8000, 1.0
    bands = (0, 300, 1000, 4000)  # Hz

    def __init__(self, image_size: int = 64) -> None:
        super().__init__()
        self.image_size, self.grid = image_size, image_size // 8
        self.register_buffer("mix", torch.eye(3) - 1 / 3)  # what is gray points nowhere
        self.requires_grad_(False).eval()

    def adapter_pairs(self, placement: str, count: int) -> list[tuple[int, int]]:
        """(image block, audio layer) pairs of a placement."""
        if placement not in ("last", "first", "interleaved") or count != 1:
            raise UsageError(f"colors-and-pitch has one block to adapt, found {placement!r} and {count}")
        return [(0, 0)]

    def hook_widths(self, image_block: int, audio_layer: int) -> HookWidths:
        """Widths an adapter must have: image tokens in and out, audio tokens in."""
        return HookWidths(image_in=3, image_out=3, audio=3)

    def prepare_images(self, frames: np.ndarray) -> Tensor:
        """uint8 [B, H, W, 3] of any size -> model input float32 [B, 3, S, S]."""
        images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2) / 255
        return F.interpolate(images, (self.image_size, self.image_size), mode="area")

    def prepare_audio(self, sound: np.ndarray, sample_rate: int) -> Tensor:
        """float32 [N >= 1] mono at any rate -> model input float32 [rate * seconds]."""
        samples = torch.from_numpy(np.array(resample(sound, sample_rate, self.rate)))
        length = round(self.rate * self.seconds)
        return F.pad(samples[:length], (0, max(0, length - len(samples))))

    def image_stem(self, images: Tensor) -> Tensor:
        """Model input -> the state that enters block 0: [B, 3, h, w]."""
        return F.adaptive_avg_pool2d(images, self.grid)

    def image_block(self, index: int, state: Tensor, added: dict[str, AdapterHook] | None = None) -> Tensor:
        """One frozen block, with what the adapter adds to its tokens."""
        mixed = torch.einsum("ij,bjhw->bihw", self.mix, state)
        for hook in (added or {}).values():
            tokens = hook(mixed.flatten(2).transpose(1, 2))
            mixed = mixed + tokens.transpose(1, 2).view_as(mixed)
        return mixed

    def backbone_features(self, state: Tensor) -> Tensor:
        """State after the last block -> raw features [B, C, h, w]."""
        return state

    def joint_features(self, state: Tensor) -> Tensor:
        """State after the last block -> [B, E, h, w] in the joint space, not normalized."""
        return state

    def embed_images(self, images: Tensor) -> Tensor:
        """Model input -> [B, E], whole images in the joint space."""
        return self.image_block(0, self.image_stem(images)).mean((2, 3))

    def image_feature(self, images: Tensor) -> Tensor:
        """Model input -> [B, F] global feature for pairing."""
        return self.embed_images(images)

    def encode_audio(self, sounds: Tensor) -> AudioFeatures:
        """[B, N] -> the energy of three bands, as embedding and as the one token of the one layer."""
        power = torch.fft.rfft(sounds).abs().square()
        hertz = torch.fft.rfftfreq(sounds.shape[1], 1 / self.rate)
        limits = zip(self.bands[:-1], self.bands[1:], strict=True)
        energy = torch.stack([power[:, (hertz >= low) & (hertz < high)].sum(1) for low, high in limits], 1)
        share = energy / energy.sum(1, keepdim=True).clamp(min=1e-12)
        embedding = share @ self.mix
        return AudioFeatures(embedding, {(0, "block"): share[:, None]})

    def weights_hash(self) -> str:
        """SHA-256 over names, shapes and bytes of every weight."""
        return tensors_sha256(self.state_dict())


PRESET: dict[str, Any] = {
    "method": {"masks": "clusters", "clusters": 4, "refine": "none", "window": 1.0},
    "baseline": {"detector": "proposals", "segmenter": "proposals", "proposals": "superpixels"},
}
register_encoder("colors-and-pitch", ColorsAndPitch, PRESET, replace=True)
