"""Small encoders with every quality of real ones: a transformer, a convolution, one of colors and tones."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moca_avs.encoders.base import AudioFeatures, HookWidths
from moca_avs.errors import UsageError


class _Frozen(nn.Module):
    """What the encoders share: random seeded weights, pairs of equal placement, hashing."""

    image_size = 32
    grid = 4
    image_blocks = 4
    audio_blocks = 3
    joint_dim = 10

    def freeze(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for weight in self.parameters():
            weight.data.normal_(0, 1 / max(weight[0].numel(), 4) ** 0.5, generator=generator)
        self.requires_grad_(False)
        self.eval()

    def adapter_pairs(self, placement, count):
        if not 1 <= count <= self.audio_blocks:
            raise UsageError("count")
        starts = {"last": (self.image_blocks - count, self.audio_blocks - count), "first": (0, 0)}
        image, audio = starts[placement]
        return [(image + i, audio + i) for i in range(count)]

    def prepare_images(self, frames):
        images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255 - 0.5
        return F.interpolate(images, (self.image_size, self.image_size), mode="bilinear", antialias=True)

    def prepare_audio(self, sound, sample_rate):
        return torch.from_numpy(np.resize(sound, 256).astype(np.float32))

    def image_feature(self, images):
        return self.image_stem(images).flatten(1)

    def weights_hash(self):
        digest = hashlib.sha256()
        for name, weight in sorted(self.state_dict().items()):
            digest.update(name.encode() + weight.cpu().numpy().tobytes())
        return digest.hexdigest()


class _Block(nn.Module):
    """Attention and MLP, each with something beside it."""

    def __init__(self, width):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def attention(self, tokens):
        heads = self.qkv(F.layer_norm(tokens, tokens.shape[-1:])).unflatten(2, (3, 2, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def feed(self, tokens):
        return self.mlp(F.layer_norm(tokens, tokens.shape[-1:]))


class TinyTransformer(_Frozen):
    """16 patches, two sites per block."""

    name = "tiny-transformer"
    hook_points = ("attention", "mlp")

    def __init__(self, seed=0):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.blocks = nn.ModuleList(_Block(16) for _ in range(self.image_blocks))
        self.head = nn.Linear(16, self.joint_dim)
        self.frames = nn.Linear(32, 12)
        self.ears = nn.ModuleList(_Block(12) for _ in range(self.audio_blocks))
        self.ear_head = nn.Linear(12, self.joint_dim)
        self.freeze(seed)

    def hook_widths(self, image_block, audio_layer):
        return HookWidths(16, 16, 12)

    def image_stem(self, images):
        return self.patches(images).flatten(2).transpose(1, 2)

    def image_block(self, index, state, added=None):
        block, added = self.blocks[index], added or {}
        for site, layer in zip(self.hook_points, (block.attention, block.feed), strict=True):
            new = state + layer(state)
            state = new + added[site](state) if site in added else new
        return state

    def backbone_features(self, state):
        return state.transpose(1, 2).unflatten(2, (self.grid, self.grid))

    def joint_features(self, state):
        return self.backbone_features(self.head(state))

    @torch.no_grad()
    def encode_audio(self, sounds):
        state, tokens = self.frames(sounds.unflatten(1, (8, 32))), {}
        for layer, ear in enumerate(self.ears):
            tokens[layer, "attention"] = state
            state = state + ear.attention(state)
            tokens[layer, "mlp"] = state
            state = state + ear.feed(state)
        return AudioFeatures(self.ear_head(state.mean(1)), tokens)


class TinyConvolution(_Frozen):
    """Residual convolutions of growing width, one site per block."""

    name = "tiny-convolution"
    hook_points = ("block",)
    widths = (6, 8, 8, 12, 16)

    def __init__(self, seed=0):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 8, 8)
        pairs = zip(self.widths, self.widths[1:], strict=False)
        self.blocks = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs)
        self.head = nn.Conv2d(16, self.joint_dim, 1)
        self.ears = nn.ModuleList(nn.Conv1d(a, b, 8, 4) for a, b in ((1, 5), (5, 7), (7, 9)))
        self.ear_head = nn.Linear(9, self.joint_dim)
        self.freeze(seed)

    def hook_widths(self, image_block, audio_layer):
        return HookWidths(self.widths[image_block], self.widths[image_block + 1], (5, 7, 9)[audio_layer])

    def image_stem(self, images):
        return self.stem(images)

    def image_block(self, index, state, added=None):
        out = torch.tanh(self.blocks[index](state))
        if not added:
            return out
        extra = added["block"](state.flatten(2).transpose(1, 2))
        return out + extra.transpose(1, 2).unflatten(2, out.shape[2:])

    def backbone_features(self, state):
        return state

    def joint_features(self, state):
        return self.head(state)

    @torch.no_grad()
    def encode_audio(self, sounds):
        state, tokens = sounds[:, None], {}
        for layer, ear in enumerate(self.ears):
            state = torch.relu(ear(state))
            tokens[layer, "block"] = state.transpose(1, 2)
        return AudioFeatures(self.ear_head(state.mean(2)), tokens)


class ColorEncoder(_Frozen):
    """Red, green and blue things hum at 100, 250 and 600 Hz: images and sounds meet in color space."""

    name = "color"
    hook_points = ("block",)
    image_size = 64
    grid = 16
    joint_dim = 4
    rate = 2000

    def __init__(self):
        super().__init__()
        self.register_buffer("tones", torch.tensor([100.0, 250.0, 600.0]))
        self.sounds_encoded = self.images_encoded = 0
        self.freeze(0)

    def hook_widths(self, image_block, audio_layer):
        return HookWidths(4, 4, 4)

    def image_stem(self, images):
        self.images_encoded += len(images)
        color = F.avg_pool2d(images, 4)
        gray = torch.full_like(color[:, :1], 0.3)  # what has no color has a direction of its own
        return torch.cat([color - color.mean(1, keepdim=True), gray], 1)

    def image_block(self, index, state, added=None):
        if not added:
            return state
        return state + added["block"](state.flatten(2).transpose(1, 2)).transpose(1, 2).view_as(state)

    def backbone_features(self, state):
        return state

    def joint_features(self, state):
        return state

    def prepare_audio(self, sound, sample_rate):
        assert sample_rate == self.rate
        return torch.from_numpy(np.resize(sound, self.rate))

    def encode_audio(self, sounds):
        self.sounds_encoded += len(sounds)
        time = torch.arange(sounds.shape[1]) / self.rate
        phase = 2 * torch.pi * self.tones[:, None] * time
        power = (sounds @ phase.cos().T) ** 2 + (sounds @ phase.sin().T) ** 2
        embedding = power.sqrt() / power.sum(1, keepdim=True).sqrt().clamp(min=1e-9)
        embedding = F.pad(embedding - embedding.mean(1, keepdim=True), (0, 1))
        return AudioFeatures(embedding, {(i, "block"): embedding[:, None] for i in range(self.audio_blocks)})


TINY = {"transformer": TinyTransformer, "convolution": TinyConvolution}


def images_and_sounds(encoder, batch=3, seed=1) -> tuple[Tensor, AudioFeatures]:
    """Random model input and states for it."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (batch, 40, 50, 3)).astype(np.uint8)
    sounds = [
        encoder.prepare_audio(rng.standard_normal(300).astype(np.float32) * 0.3, 2000) for _ in range(batch)
    ]
    return encoder.prepare_images(frames), encoder.encode_audio(torch.stack(sounds))


def open_gates(adapters, value=0.7):
    """Let every adapter be heard."""
    for name, weight in adapters.named_parameters():
        if name.endswith("gate"):
            weight.data.fill_(value)
    return adapters
