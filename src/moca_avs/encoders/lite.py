"""The encoder of `lite` and `lite-soundnet`: EfficientNet-Lite0 for images, a sound trunk, one joint space.

The joint space is a subspace of the 1000 ImageNet logits: the directions along which composites vary most
(the rest mostly tells images of one class apart, which a head would learn by heart). The classifier gives
them at every position of the image; the binding (`AudioHead`), a small network, predicts them from the sound
trunk's features. Without a binding the joint space is the logits minus their mean, and SoundNet's own
ImageNet head speaks for the sound; YAMNet has none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moca_avs.encoders.base import AdapterHook, AudioFeatures, HookWidths
from moca_avs.encoders.lite_networks import EfficientNetLite0, block_shapes
from moca_avs.encoders.sound_trunks import TRUNKS, SoundTrunk
from moca_avs.errors import UsageError, WeightsError
from moca_avs.hub.catalog import SHIPPED
from moca_avs.hub.weight_files import load_asset, read_safetensors, tensors_sha256, write_safetensors
from moca_avs.utils.files import parse_json

HIDDEN = 128
CLASSES = 1000


class AudioHead(nn.Module):
    """Standardize -> Linear 128 -> GELU -> dropout -> Linear E, as an ensemble of `members` such heads.

    Args:
        features: F, how many numbers of a sound it reads (`SoundTrunk.features`).
        members: heads with their own weights, run side by side.
        joint_dim: E, at most 1000.
        dropout: share of hidden units dropped in training mode, each member on its own.
        generator: seeds the initial weights (uniform in +-1/sqrt(fan-in), as torch's Linear).
    """

    mean: Tensor
    std: Tensor
    centre: Tensor
    axes: Tensor
    common: Tensor

    def __init__(
        self,
        features: int,
        members: int = 1,
        dropout: float = 0.0,
        joint_dim: int = 128,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.features, self.count, self.dropout, self.joint_dim = features, members, dropout, joint_dim

        def uniform(fan_in: int, *shape: int) -> nn.Parameter:
            return nn.Parameter((2 * torch.rand(members, *shape, generator=generator) - 1) / fan_in**0.5)

        self.weight1 = uniform(features, features, HIDDEN)
        self.bias1 = uniform(features, 1, HIDDEN)
        self.weight2 = uniform(HIDDEN, HIDDEN, joint_dim)
        self.bias2 = uniform(HIDDEN, 1, joint_dim)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.register_buffer("centre", torch.zeros(CLASSES))
        self.register_buffer("axes", torch.eye(CLASSES)[:, :joint_dim].contiguous())
        self.register_buffer("common", torch.zeros(joint_dim))

    def set_statistics(self, features: Tensor) -> None:
        """Standardize by the mean and standard deviation (at least .01) of training features [n, F]."""
        self.mean.copy_(features.mean(0))
        self.std.copy_(features.std(0).clamp_min(1e-2))

    def set_axes(self, logits: Tensor) -> None:
        """Take the first principal axes of ImageNet logits [n, 1000] (at training images' positions)."""
        self.centre.copy_(logits.mean(0))
        self.axes.copy_(torch.linalg.svd(logits - self.centre, full_matrices=False).Vh[: self.joint_dim].T)

    @torch.no_grad()
    def set_common(self, features: Tensor, share: float) -> None:
        """Take a share of what training sounds [n, F] have in common out of every sound.

        It tells no two sounds apart, and some images are near to any sound (hubs); but it also tells things
        from their background, so masks want some of it kept.
        """
        self.common.copy_(share * self.members(features).mean((0, 1)))

    def project(self, logits: Tensor) -> Tensor:
        """ImageNet logits [..., 1000] -> the joint space [..., E], not normalized."""
        return (logits - self.centre) @ self.axes

    def members(self, features: Tensor) -> Tensor:
        """Features [B, F] (or [M, B, F], a batch per member) -> unit vectors [M, B, E]."""
        x = (features - self.mean) / self.std
        x = x.expand(self.count, -1, -1) if x.ndim == 2 else x
        hidden = F.gelu(torch.baddbmm(self.bias1, x, self.weight1))
        hidden = F.dropout(hidden, self.dropout, self.training)
        return F.normalize(torch.baddbmm(self.bias2, hidden, self.weight2), dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, F] -> [B, E], the mean of the members' unit vectors less `common`."""
        return self.members(features).mean(0) - self.common

    def save(self, path: Path, notes: dict[str, Any] | None = None) -> None:
        """Write weights (float16: half the size, no measurable change) and `notes` (JSON) to one file."""
        tensors = {
            k: v.half() if k.startswith(("weight", "axes")) else v for k, v in self.state_dict().items()
        }
        config = {"format": "moca-avs sound head 3", "members": self.count, "notes": notes or {}}
        write_safetensors(tensors, path, {"config": json.dumps(config, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> AudioHead:
        """Read what `save` wrote.

        Raises:
            WeightsError: if the file is missing, damaged, or no sound head.
        """
        tensors, metadata = read_safetensors(path)
        try:
            config = parse_json(metadata["config"])
            head = cls(len(tensors["mean"]), int(config["members"]), joint_dim=tensors["axes"].shape[1])
            head.load_state_dict({k: v.float() for k, v in tensors.items()})
        except (KeyError, ValueError, RuntimeError) as error:
            raise WeightsError(f"{path} is no sound head of moca-avs ({error})") from error
        return head.eval()


IMAGE_MEAN, IMAGE_STD = 0.498, 0.502  # of pixels in [0, 1], all channels
MAX_TOKENS = 64
PLACEMENTS = ("last", "first", "interleaved")


class LiteEncoder(nn.Module):
    """EfficientNet-Lite0 and a sound trunk behind `AudioVisualEncoder`; frozen, always in eval mode.

    Args:
        image_size: pixels per side, a multiple of 32.
        dilate: run the last strided stage at stride 1: the map has image_size / 16 positions per side
            instead of image_size / 32.
        binding: "shipped", a sound head's file, a `AudioHead`, or None for SoundNet's own ImageNet logits
            (without a binding an encoder on YAMNet can't embed sounds).
        trunk: "yamnet" (the encoder is called "lite") or "soundnet" ("lite-soundnet").

    Raises:
        UsageError: if `image_size` is no positive multiple of 32.
        WeightsError: weights that can't be fetched, or are not what their hash says; a binding for another
            trunk.
    """

    hook_points: tuple[str, ...] = ("block",)
    image_blocks = 16
    joint_weight: Tensor
    joint_bias: Tensor

    def __init__(
        self,
        image_size: int = 384,
        dilate: bool = False,
        binding: AudioHead | Path | str | None = "shipped",
        trunk: str = "yamnet",
    ) -> None:
        super().__init__()
        if image_size < 32 or image_size % 32:
            raise UsageError(f"image_size must be a positive multiple of 32, found {image_size}")
        self.image_size = image_size
        self.dilate = dilate
        self.grid = image_size // (16 if dilate else 32)
        self.shapes = block_shapes(dilate)
        image_weights, sound_weights = load_asset("efficientnet-lite0"), load_asset(TRUNKS[trunk].asset)
        self.image_net = EfficientNetLite0(image_weights, dilate)
        self.trunk: SoundTrunk = TRUNKS[trunk](sound_weights)
        self.name = self.trunk.encoder_name
        self.audio_blocks = len(self.trunk.widths)
        if binding == "shipped":
            binding = SHIPPED[f"{self.name}-binding"].path
        self.binding = AudioHead.load(Path(binding)) if isinstance(binding, (str, Path)) else binding
        if self.binding is not None and self.binding.features != self.trunk.features:
            raise WeightsError(
                f"the binding of {self.name} must read {self.trunk.features} features of a sound, found one "
                f"that reads {self.binding.features}; it belongs to another sound trunk"
            )
        self.joint_dim = CLASSES if self.binding is None else self.binding.joint_dim
        # Classifier and projection are both linear: one small product instead of a large one and another.
        to_joint = centered if self.binding is None else self.binding.project
        bias = to_joint(self.image_net.bias)
        self.register_buffer("joint_bias", bias, persistent=False)
        rows = to_joint(self.image_net.weight.T + self.image_net.bias) - bias  # [1280, E]
        self.register_buffer("joint_weight", rows.T.contiguous(), persistent=False)
        hashed = {f"image.{k}": v for k, v in image_weights.items()}
        hashed |= {f"sound.{k}": v for k, v in sound_weights.items()}
        if self.binding is not None:
            hashed |= {f"binding.{k}": v for k, v in self.binding.state_dict().items()}
        self._hash = tensors_sha256(hashed)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> LiteEncoder:
        """Stay in eval mode, whatever a parent module is switched to."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.image_net.weight.device

    def weights_hash(self) -> str:
        """SHA-256 over names, shapes and bytes of every weight, the binding's included."""
        return self._hash

    # --- adapter layout -------------------------------------------------------------------------------

    def adapter_pairs(self, placement: str, count: int) -> list[tuple[int, int]]:
        """(image block, audio layer) pairs; audio layers count from 0, conv1 (YAMNet: 14, SoundNet: 7).

        "last": blocks 16-k..15 with the last k sound layers (k = 6: (10, n-6) .. (15, n-1)). "first": blocks
        0..k-1 with the first k layers. "interleaved": every other block back from the last (k = 6: 5, 7, ..,
        15) with the last k sound layers: SoundNet has too few layers to skip every other one as well.

        Raises:
            UsageError: for an unknown placement, or a count that the trunks can't take.
        """
        if placement not in PLACEMENTS:
            raise UsageError(f"placement must be one of {', '.join(PLACEMENTS)}, found {placement!r}")
        most = min(
            self.audio_blocks, self.image_blocks // 2 if placement == "interleaved" else self.image_blocks
        )
        if not 1 <= count <= most:
            raise UsageError(f"adapter count must be in 1..{most}, found {count}")
        late_sound = range(self.audio_blocks - count, self.audio_blocks)
        if placement == "first":
            return [(i, i) for i in range(count)]
        step = 2 if placement == "interleaved" else 1
        blocks = range(self.image_blocks - 1 - step * (count - 1), self.image_blocks, step)
        return list(zip(blocks, late_sound, strict=True))

    def hook_widths(self, image_block: int, audio_layer: int) -> HookWidths:
        """The adapter reads the block's input and adds to its output: X' = block(X) + AdaAV(X_a, X)."""
        shape = self.shapes[image_block]
        return HookWidths(shape.width_in, shape.width_out, self.trunk.widths[audio_layer])

    # --- images -------------------------------------------------------------------------------------

    def prepare_images(self, frames: np.ndarray) -> Tensor:
        """uint8 [B, H, W, 3] of any size -> float32 [B, 3, image_size, image_size], squashed, normalized."""
        size = (self.image_size, self.image_size)
        writable = np.require(frames, requirements=["C", "W"])  # torch warns about read-only arrays
        images = torch.from_numpy(writable).permute(0, 3, 1, 2)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        images = images.to(self.device, torch.float32)
        return (images / 255 - IMAGE_MEAN) / IMAGE_STD

    def image_stem(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> the state that enters block 0, [B, 32, S/2, S/2]."""
        # Channels last is a third faster on a CPU, and its tokens need no copy.
        return self.image_net.stem(images.contiguous(memory_format=torch.channels_last))

    def image_block(self, index: int, state: Tensor, added: dict[str, AdapterHook] | None = None) -> Tensor:
        """One MBConv block, [B, C, H, W] -> [B, C', H', W'].

        ``added["block"]`` gets the block's *input* tokens [B, H'W', C] (2x2 averages where the block
        strides) and its result [B, H'W', C'] is added to the block's output.
        """
        out = self.image_net.blocks[index](state)
        if not added:
            return out
        entering = F.avg_pool2d(state, 2) if self.shapes[index].stride == 2 else state
        extra = added["block"](entering.flatten(2).transpose(1, 2))
        return out + extra.transpose(1, 2).unflatten(2, out.shape[2:])

    def backbone_features(self, state: Tensor) -> Tensor:
        """Output of block 15, [B, 320, h, w], as it is."""
        return state

    def joint_features(self, state: Tensor) -> Tensor:
        """The classifier at every position, in the joint space: [B, E, h, w]."""
        features = self.image_net.head(state).permute(0, 2, 3, 1)
        return F.linear(features, self.joint_weight, self.joint_bias).permute(0, 3, 1, 2)

    def logit_map(self, state: Tensor) -> Tensor:
        """State after the last block -> ImageNet logits at every position, [B, 1000, h, w]."""
        features = self.image_net.head(state).permute(0, 2, 3, 1)
        return self.image_net.classify(features).permute(0, 3, 1, 2)

    def image_state(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> the state after the last block, [B, 320, h, w]."""
        state = self.image_stem(images)
        for index in range(self.image_blocks):
            state = self.image_block(index, state)
        return state

    def _features(self, images: Tensor) -> Tensor:
        return self.last_feature(self.image_state(images))

    @torch.no_grad()
    def last_feature(self, state: Tensor) -> Tensor:
        """`image_feature` from the state after the last block: [B, 320, h, w] -> [B, 1280]."""
        return self.image_net.head(state).mean((2, 3))

    @torch.no_grad()
    def image_feature(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, 1280], the features averaged over positions."""
        return self._features(images)

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, E], the classifier on the averaged features, in the joint space."""
        return F.linear(self._features(images), self.joint_weight, self.joint_bias)

    @torch.no_grad()
    def class_logits(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> ImageNet logits [B, 1000] of the whole image."""
        return self.image_net.classify(self._features(images))

    # --- sound ----------------------------------------------------------------------------------------

    def prepare_audio(self, sound: np.ndarray, sample_rate: int) -> Tensor:
        """float32 [N >= 1] mono at any rate -> the sound trunk's input, of one shape for every sound.

        Raises:
            MediaError: for an empty sound.
        """
        return torch.from_numpy(self.trunk.prepare(sound, sample_rate)).to(self.device, torch.float32)

    @torch.no_grad()
    def encode_audio(self, sounds: Tensor) -> AudioFeatures:
        """`prepare_audio` outputs -> embedding [B, E] and tokens per (layer, "block"), [B, <= 64, C].

        Tokens are the trunk's states averaged over time down to 64 at most.

        Raises:
            UsageError: without a binding, where the trunk has no ImageNet logits of its own.
        """
        heard = self.trunk(sounds)
        if self.binding is not None:
            embedding = self.binding(heard.features)
        elif heard.logits is not None:
            embedding = centered(heard.logits)
        else:
            raise UsageError(f"{self.name} needs a binding to embed sounds: its sound trunk knows no images")
        tokens = {(i, "block"): _tokens(state) for i, state in enumerate(heard.states)}
        return AudioFeatures(embedding, tokens)

    @torch.no_grad()
    def sound_features(self, sounds: Tensor) -> Tensor:
        """`prepare_audio` outputs -> [B, F], what the binding reads (`SoundTrunk.forward`)."""
        features: Tensor = self.trunk(sounds).features
        return features


def centered(logits: Tensor) -> Tensor:
    """Logits [..., 1000] minus their mean: where the two networks meet without a binding."""
    return logits - logits.mean(-1, keepdim=True)


def _tokens(state: Tensor) -> Tensor:
    """[B, C, n] -> [B, min(n, 64), C]."""
    pooled = F.adaptive_avg_pool1d(state, MAX_TOKENS) if state.shape[2] > MAX_TOKENS else state
    return pooled.transpose(1, 2).contiguous()
