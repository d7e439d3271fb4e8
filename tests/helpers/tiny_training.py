"""A small random encoder with every quality of a real one, and a training set whose pairs mean something.

Run as a script it trains once: the tests that kill a run start it that way.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moca_avs.encoders.base import AdapterHook, AudioFeatures, HookWidths
from moca_avs.training.config import TrainConfig
from moca_avs.training.trainer import train

WIDTH, SOUND_WIDTH, JOINT, TOKENS = 12, 10, 16, 5


class TinyEncoder(nn.Module):
    """Four residual blocks over 16 patches, two audio layers, two sites per block; random and frozen."""

    name = "tiny"
    image_size = 32
    grid = 4
    image_blocks = 4
    audio_blocks = 2
    joint_dim = JOINT
    hook_points = ("attention", "mlp")

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.register_buffer("stem", torch.empty(WIDTH, 3 * 64))
        self.register_buffer("mix", torch.empty(self.image_blocks, 2, WIDTH, WIDTH))
        self.register_buffer("ear", torch.empty(self.audio_blocks, SOUND_WIDTH, 40))
        self.register_buffer("head", torch.empty(JOINT, WIDTH))
        self.register_buffer("ear_head", torch.empty(JOINT, SOUND_WIDTH))
        generator = torch.Generator().manual_seed(seed)
        for weight in self.buffers():
            weight.normal_(0, weight.shape[-1] ** -0.5, generator=generator)

    def adapter_pairs(self, placement: str, count: int) -> list[tuple[int, int]]:
        assert placement == "last"
        return [(self.image_blocks - count + i, self.audio_blocks - count + i) for i in range(count)]

    def hook_widths(self, image_block: int, audio_layer: int) -> HookWidths:
        return HookWidths(WIDTH, WIDTH, SOUND_WIDTH)

    def prepare_images(self, frames: np.ndarray) -> Tensor:
        images = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 - 0.5
        return F.interpolate(images, (self.image_size, self.image_size))

    def prepare_audio(self, sound: np.ndarray, sample_rate: int) -> Tensor:
        return torch.from_numpy(np.resize(sound, 40 * TOKENS).astype(np.float32))

    def image_stem(self, images: Tensor) -> Tensor:
        patches = F.unfold(images, 8, stride=8).transpose(1, 2)
        return patches @ self.stem.T

    def image_block(self, index: int, state: Tensor, added: dict[str, AdapterHook] | None = None) -> Tensor:
        for weight, site in zip(self.mix[index], self.hook_points, strict=True):
            beside = added[site](state) if added else 0
            state = state + torch.tanh(F.layer_norm(state, (WIDTH,)) @ weight.T) + beside
        return state

    def backbone_features(self, state: Tensor) -> Tensor:
        return state.transpose(1, 2).unflatten(2, (self.grid, self.grid))

    def joint_features(self, state: Tensor) -> Tensor:
        return self.backbone_features(state @ self.head.T)

    def image_feature(self, images: Tensor) -> Tensor:
        return self.image_stem(images).mean(1)

    def encode_audio(self, sounds: Tensor) -> AudioFeatures:
        frames = sounds.unflatten(1, (TOKENS, 40))
        tokens = {
            (layer, site): torch.tanh((i + 1) * frames @ self.ear[layer].T)
            for layer in range(self.audio_blocks)
            for i, site in enumerate(self.hook_points)
        }
        return AudioFeatures(tokens[self.audio_blocks - 1, "mlp"].mean(1) @ self.ear_head.T, tokens)

    def weights_hash(self) -> str:
        digest = hashlib.sha256()
        for weight in self.buffers():
            digest.update(weight.numpy().tobytes())
        return digest.hexdigest()


class TinyData:
    """Six kinds of image, each with its own pitch; clips of two frames; noise makes every row different."""

    def __init__(self, frames: int = 36, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        looks = rng.integers(0, 256, (6, 4, 4, 3)).repeat(10, 1).repeat(10, 2)
        self._seed = seed
        self._kinds = np.arange(frames) // 2 % 6
        noise = rng.integers(-40, 41, (frames, 40, 40, 3))
        self._frames = (looks[self._kinds] + noise).clip(0, 255).astype(np.uint8)
        time = np.arange(400) / 400
        waves = np.sin(2 * np.pi * 7 * (1 + self._kinds[:, None]) * time)
        self._sounds = (0.5 * waves + 0.1 * rng.standard_normal(waves.shape)).astype(np.float32)
        self.reads = 0

    def __len__(self) -> int:
        return len(self._frames)

    def frame(self, index: int) -> np.ndarray:
        self.reads += 1
        return self._frames[index]

    def sound(self, index: int) -> tuple[np.ndarray, int]:
        return self._sounds[index], 400

    def clip_id(self, index: int) -> str:
        return f"clip {index // 2}"

    def fingerprint(self) -> str:
        return f"tiny data {self._seed} {len(self)}"


def config(**changes: object) -> TrainConfig:
    """A run of some seconds at most."""
    values = {"steps": 20, "batch": 4, "lr": 1e-2, "count": 2, "neighbours": 4, "checkpoint_every": 5}
    return TrainConfig(**(values | changes))  # type: ignore[arg-type]


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(TinyEncoder(), TinyData(), config(**json.loads(sys.argv[2])), Path(sys.argv[1]), True, False)
