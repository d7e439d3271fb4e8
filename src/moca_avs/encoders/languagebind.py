"""LanguageBind (Zhu et al., ICLR 2024): its image and audio towers; code and weights are MIT.

Both towers are CLIP ViT-L/14: 24 blocks of width 1024, 16 heads, a joint space of 768. Sound is an image of
112 x 1036: a log-mel filter bank, three channels. Of the published code these are facts: the names of the
weights, the position tables, one-frame temporal attention, LoRA inside the encoder, and the front ends. The
published weights themselves could not be loaded where this was written; what rests on their config.json alone
(activation, heads, mel bins, mean and deviation of the spectrogram) is read from it and never assumed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moca_avs.encoders.checkpoints import assign, check_state, checkpoint_hash, read_checkpoint, read_json
from moca_avs.encoders.preprocessing import SAMPLE_RATE, SHIFT, fbank, resample_audio
from moca_avs.encoders.transformer import Block, Trunk, TwoTrunks, resized_positions
from moca_avs.errors import WeightsError
from moca_avs.hub.huggingface import ModelSources, model_folder, next_step

FILES = ("model.safetensors", "pytorch_model.bin")
CHANNELS = 3
_UNUSED = re.compile(r"text_model\.|text_projection\.|logit_scale$|vision_model\.embeddings\.position_ids$")
_LAYERS = "vision_model.encoder.layers."
_OFFICIAL = {
    "class_token": "vision_model.embeddings.class_embedding",
    "stem.": "vision_model.embeddings.patch_embedding.",
    "positions": "vision_model.embeddings.position_embedding.weight",
    "norm.": "vision_model.pre_layrnorm.",
    "head_norm.": "vision_model.post_layernorm.",
    "head.": "visual_projection.",
}
_PARTS = {"norm_1": "layer_norm1", "norm_2": "layer_norm2", "attn": "self_attn", "mlp": "mlp"}
_TEMPORAL = {"norm_1": "layer_norm1", "norm_2": "layer_norm2", "attn": "attn", "mlp": "mlp"}


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quick_gelu": _quick_gelu}


@dataclass(frozen=True)
class TowerConfig:
    """What a tower's weights do not tell: the "vision_config" of its config.json.

    Attributes:
        heads: of the attention.
        activation: of the MLP, "gelu" or "quick_gelu".
        eps: of every layer norm.
        temporal: whether every block has attention over (here: single) frames in front.
        lora_alpha: scale of LoRA weights, if the file has any.
        mel_bins: height of the spectrogram; 0 for images.
        mel_frames: its width, in steps of 10 ms; 0 for images.
        mean: subtracted from the spectrogram.
        std: divides it.
    """

    heads: int
    activation: str
    eps: float
    temporal: bool
    lora_alpha: float
    mel_bins: int
    mel_frames: int
    mean: float
    std: float

    @classmethod
    def read(cls, file: Path) -> TowerConfig:
        """From a config.json; the values of its "vision_config_dict" come before "vision_config"'s.

        Raises:
            WeightsError: if it is missing, damaged, lacks a value, or describes a video tower.
        """
        config = read_json(file)
        found: dict[str, Any] = {}
        try:
            for part in ("vision_config", "vision_config_dict"):
                found |= dict(config.get(part) or {})
            tower = cls(
                heads=int(found["num_attention_heads"]),
                activation=str(found["hidden_act"]),
                eps=float(found.get("layer_norm_eps", 1e-5)),
                temporal=bool(found.get("add_time_attn", False)),
                lora_alpha=float(found.get("lora_alpha", 16)),
                mel_bins=int(found.get("num_mel_bins", 0)),
                mel_frames=int(found.get("target_length", 0)),
                mean=float(found.get("audio_mean", 0.5)),
                std=float(found.get("audio_std", 0.5)),
            )
            frames = int(found.get("num_frames", 1))
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(
                f"{file} is missing or no config of LanguageBind: its vision_config must give {error}; get "
                "the file again beside its weights"
            ) from error
        if tower.activation not in _ACTIVATIONS or frames != 1:
            raise WeightsError(
                f"{file} must describe a tower for single images with gelu or quick_gelu, found "
                f"{frames} frames and {tower.activation}"
            )
        return tower


class Tower(Trunk):
    """A CLIP vision transformer; `audio` ones see spectrograms of one size.

    Args:
        shapes: official name -> shape, of the file.
        config: the rest.
        file: named in errors.

    Raises:
        WeightsError: if shapes that tell the sizes are missing, or do not go with the config.
    """

    def __init__(self, shapes: Mapping[str, list[int]], config: TowerConfig, file: Path) -> None:
        try:
            width, _, patch, _ = shapes["vision_model.embeddings.patch_embedding.weight"]
            hidden = shapes[f"{_LAYERS}0.mlp.fc1.weight"][0]
            joint = shapes["visual_projection.weight"][0]
            rows = shapes["vision_model.embeddings.position_embedding.weight"][0]
            layers = [name.removeprefix(_LAYERS) for name in shapes if name.startswith(_LAYERS)]
            blocks = 1 + max(int(name.partition(".")[0]) for name in layers)
        except (KeyError, ValueError, IndexError) as error:
            raise WeightsError(f"{file} is no LanguageBind tower: it lacks {error}") from error
        activation = _ACTIVATIONS[config.activation]
        if width % config.heads:
            raise WeightsError(f"{file}: {config.heads} heads do not divide the width {width}")

        def block() -> Block:
            return Block(width, config.heads, hidden, config.eps, activation=activation)

        super().__init__((block() for _ in range(blocks)), width, joint, config.eps)
        self.patch = patch
        self.stem = nn.Conv2d(CHANNELS, width, patch, stride=patch, bias=False)
        self.class_token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(rows, width))
        self.norm = nn.LayerNorm(width, config.eps)
        self.temporal = nn.ModuleList(block() for _ in range(blocks)) if config.temporal else None

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> the tokens that enter block 0; the table is resized for other squares."""
        patches = self.stem(images)
        table = self.positions[None]
        if patches.shape[-2] * patches.shape[-1] != table.shape[1] - 1:
            table = resized_positions(table, patches.shape[-1], antialias=True)
        tokens = torch.cat(
            [self.class_token.expand(len(patches), 1, -1), patches.flatten(2).transpose(1, 2)], 1
        )
        return self.norm(tokens + table)

    def before(self, index: int, tokens: Tensor) -> Tensor:
        """Temporal attention and MLP over the one frame there is: every token for itself."""
        if self.temporal is None:
            return tokens
        alone = tokens.flatten(0, 1)[:, None]
        return cast(Block, self.temporal[index])(alone)[:, 0].unflatten(0, tokens.shape[:2])

    def set_precision(self, dtype: torch.dtype) -> None:
        """`Block.set_precision` of every block, the temporal ones too."""
        super().set_precision(dtype)
        for block in self.temporal or ():
            cast(Block, block).set_precision(dtype)

    @classmethod
    def load(cls, file: Path) -> tuple[Tower, TowerConfig, str]:
        """(tower, its config, hash of its weights), strictly.

        Raises:
            WeightsError: a file that is missing, damaged, carries code, or is not exactly such a tower.
        """
        config = TowerConfig.read(file.parent / "config.json")
        tensors = {k: v for k, v in read_checkpoint(file).items() if not _UNUSED.match(k)}
        described = torch.tensor([config.heads, config.lora_alpha, config.activation == "gelu"])
        digest = checkpoint_hash(file, {**tensors, "config": described})
        tensors = merge_lora(tensors, config.lora_alpha)
        if config.temporal:
            tensors = {k: v for k, v in tensors.items() if not k.endswith(".temporal_embedding")}
        with torch.device("meta"):
            tower = cls({name: list(tensor.shape) for name, tensor in tensors.items()}, config, file)
        state = tower.state_dict()
        shapes: dict[str, list[int]] = {}
        for name, weight in state.items():
            names = official_names(name)
            shapes |= {each: [len(weight) // len(names), *weight.shape[1:]] for each in names}
        check_state("a LanguageBind tower", file, tensors, shapes)
        joined = {name: [tensors[each] for each in official_names(name)] for name in state}
        assign(tower, {name: torch.cat(found) if found[1:] else found[0] for name, found in joined.items()})
        return tower, config, digest


class LanguageBindEncoder(TwoTrunks):
    """LanguageBind behind `AudioVisualEncoder`.

    Args:
        image_file: weights of the image tower, with config.json beside them.
        audio_file: weights of the audio tower, with config.json beside them.
        image_size: pixels per side, a multiple of the patch (14).

    Raises:
        UsageError: if `image_size` is no positive multiple of the patch.
        WeightsError: weights that are missing, damaged, or not exactly these towers.
    """

    name = "languagebind"

    def __init__(self, image_file: Path, audio_file: Path, image_size: int = 224) -> None:
        vision, _, image_hash = Tower.load(image_file)
        audio, self.audio_config, audio_hash = Tower.load(audio_file)
        bins, frames = self.audio_config.mel_bins, self.audio_config.mel_frames
        rows = bins // audio.patch * (frames // audio.patch) + 1
        if len(audio.positions) != rows or rows == 1:
            raise WeightsError(
                f"{audio_file} must have one position per patch of its spectrogram ({rows} for "
                f"{bins} bins and {frames} frames in config.json), found "
                f"{len(audio.positions)}; is this an audio tower?"
            )
        if vision.head.out_features != audio.head.out_features:
            raise WeightsError(
                f"{image_file} and {audio_file} must share a joint space, found widths "
                f"{vision.head.out_features} and {audio.head.out_features}"
            )
        super().__init__(vision, audio, image_size, vision.patch)
        self._hash = hashlib.sha256((image_hash + audio_hash).encode()).hexdigest()

    def prepare_audio(self, sound: np.ndarray, sample_rate: int) -> Tensor:
        """float32 [N >= 1] mono at any rate -> float32 [3, 112, 1036].

        As published: a sound shorter than 10.36 s is repeated as often as it fits whole, zeros behind it,
        and is the same in all channels; of a longer one the channels are windows from its first, second and
        last third. (A sound of less than 1036 frames by a little is padded with zeros before normalizing.)

        Raises:
            MediaError: for an empty sound.
        """
        bins, frames = self.audio_config.mel_bins, self.audio_config.mel_frames
        samples = torch.tensor(resample_audio(sound, sample_rate, SAMPLE_RATE))
        length = frames * SHIFT
        if len(samples) < length:
            samples = samples.repeat(length // len(samples))
            samples = F.pad(samples, (0, length - len(samples)))
        mel = fbank(samples - samples.mean(), bins).T
        mel = F.pad(mel, (0, max(frames - mel.shape[1], 0)))
        starts = np.array_split(np.arange(mel.shape[1] - frames + 1), CHANNELS)
        windows = [mel[:, first : first + frames] for first in (int(s[0]) if len(s) else 0 for s in starts)]
        return ((torch.stack(windows) - self.audio_config.mean) / self.audio_config.std).to(self.device)


def official_names(name: str) -> tuple[str, ...]:
    """The official names whose tensors, one after the other, are one of `Tower`'s weights."""
    kind, _, rest = name.partition(".")
    if kind not in ("blocks", "temporal"):
        ours = next(start for start in _OFFICIAL if name.startswith(start))
        return (_OFFICIAL[ours] + name.removeprefix(ours),)
    number, part, leaf = rest.split(".", 2)
    official = _PARTS[part] if kind == "blocks" else f"temporal_{_TEMPORAL[part]}"
    start = f"{_LAYERS}{number}.{official}."
    if leaf.startswith("in_proj_"):
        return tuple(f"{start}{letter}_proj.{leaf.removeprefix('in_proj_')}" for letter in "qkv")
    return (start + leaf,)


def merge_lora(tensors: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """A plain state dict from one whose encoder PEFT has wrapped: W + alpha / r * B A.

    Args:
        tensors: ``vision_model.encoder.base_model.model.layers...`` with ``lora_A`` and ``lora_B``; a plain
            state dict comes back as it is.
        alpha: of LoRA; r is the number of A's rows.
    """
    wrapped = {
        name.replace(".base_model.model.", ".").replace(".base_layer.", "."): tensor
        for name, tensor in tensors.items()
    }
    for name in [name for name in wrapped if ".lora_A." in name]:
        up, target = name.replace(".lora_A.", ".lora_B."), name.partition(".lora_A.")[0] + ".weight"
        if up in wrapped and target in wrapped:  # what is left over is refused as unknown
            low = wrapped.pop(name)
            wrapped[target] = wrapped[target] + alpha / len(low) * (wrapped.pop(up) @ low)
    return wrapped


def find_towers(sources: ModelSources) -> tuple[Path, Path]:
    """The weights of the image and of the audio tower.

    Raises:
        WeightsError: if one is missing.
    """
    return _weights("languagebind-image", sources), _weights("languagebind-audio", sources)


def _weights(name: str, sources: ModelSources) -> Path:
    folder = model_folder(name, sources)
    for file in FILES:
        if (folder / file).is_file():
            return folder / file
    raise WeightsError(f"{folder} holds none of {', '.join(FILES)}; {next_step(name)}")
