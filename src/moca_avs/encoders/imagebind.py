"""ImageBind's two trunks, and how the official checkpoint names and shapes them.

ImageBind (Girdhar et al., CVPR 2023): its vision and audio trunks, heads and front ends.

Only the two modalities that MoCA needs; everything is written from the checkpoint's own names and shapes, so
a smaller model in the same layout loads as well. The weights are CC BY-NC-SA 4.0: not for commercial use.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moca_avs.encoders.checkpoints import assign, check_state, checkpoint_hash, read_checkpoint, read_json
from moca_avs.encoders.preprocessing import SAMPLE_RATE, center_crop_at, fbank, resample_audio
from moca_avs.encoders.transformer import PLACEMENTS, Block, Trunk, TwoTrunks, randomize, resized_positions
from moca_avs.errors import WeightsError
from moca_avs.hub.huggingface import ModelSources, model_folder, next_step

MEL_BINS, MEL_FRAMES = 128, 204
AUDIO_STRIDE = 10  # of the patches, which are 16 wide: they overlap
_HEADS = {1280: 16, 768: 12}  # width -> heads of imagebind_huge; a checkpoint's shapes do not tell
_OFFICIAL = {
    "vision.stem.": "modality_preprocessors.vision.rgbt_stem.proj.1.",
    "vision.class_token": "modality_preprocessors.vision.cls_token",
    "vision.positions": "modality_preprocessors.vision.pos_embedding_helper.pos_embed",
    "vision.norm.": "modality_trunks.vision.pre_transformer_layer.0.",
    "audio.stem.": "modality_preprocessors.audio.rgbt_stem.proj.",
    "audio.class_token": "modality_preprocessors.audio.cls_token",
    "audio.positions": "modality_preprocessors.audio.pos_embedding_helper.pos_embed",
    "audio.norm.": "modality_preprocessors.audio.rgbt_stem.norm_layer.",
    "audio.log_scale": "modality_postprocessors.audio.1.log_logit_scale",
    **{f"{m}.blocks.": f"modality_trunks.{m}.blocks." for m in ("vision", "audio")},
    **{f"{m}.head_norm.": f"modality_heads.{m}.0." for m in ("vision", "audio")},
    **{f"{m}.head.": f"modality_heads.{m}.2." for m in ("vision", "audio")},
}
"""Beginning of a name here -> beginning of the official name."""


@dataclass(frozen=True)
class TrunkSizes:
    """One trunk: number of blocks, width of a token, heads, width inside the MLP, tokens, stem's kernel."""

    blocks: int
    width: int
    heads: int
    hidden: int
    tokens: int
    kernel: tuple[int, ...]


@dataclass(frozen=True)
class Sizes:
    """Both trunks, and the width of the joint space."""

    vision: TrunkSizes
    audio: TrunkSizes
    joint: int


HUGE = Sizes(
    TrunkSizes(blocks=32, width=1280, heads=16, hidden=5120, tokens=257, kernel=(2, 14, 14)),
    TrunkSizes(blocks=12, width=768, heads=12, hidden=3072, tokens=229, kernel=(16, 16)),
    joint=1024,
)


class _Trunk(Trunk):
    """A trunk with ImageBind's stem, class token and positions."""

    def __init__(self, sizes: TrunkSizes, joint: int, stem: nn.Module, eps: float, extra_key: bool) -> None:
        width = sizes.width
        blocks = (Block(width, sizes.heads, sizes.hidden, 1e-6, extra_key) for _ in range(sizes.blocks))
        super().__init__(blocks, width, joint, eps=1e-6)
        self.stem = stem
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, sizes.tokens, width))
        self.norm = nn.LayerNorm(width, eps)

    def _with_class(self, patches: Tensor) -> Tensor:
        return torch.cat([self.class_token.expand(len(patches), -1, -1), patches], 1)


class VisionTrunk(_Trunk):
    """ViT whose patches span two frames; a still image is shown twice."""

    def __init__(self, sizes: TrunkSizes, joint: int) -> None:
        frames, height, width = sizes.kernel
        kernel = (frames, height, width)
        stem = nn.Conv3d(3, sizes.width, kernel, stride=kernel, bias=False)
        super().__init__(sizes, joint, stem, eps=1e-6, extra_key=False)
        self.frames = frames

    def embed(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] or [B, 3, frames, S, S] -> [B, 1 + n, width], before the norm."""
        if images.ndim == 4:
            images = images[:, :, None].expand(-1, -1, self.frames, -1, -1)
        patches = self.stem(images)
        tokens = self._with_class(patches.flatten(2).transpose(1, 2))
        return tokens + resized_positions(self.positions, patches.shape[-1], antialias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images -> the tokens that enter block 0."""
        return self.norm(self.embed(images))


class AudioTrunk(_Trunk):
    """ViT over overlapping patches of a log-mel spectrogram; its attention has one extra key and value."""

    log_scale: Tensor

    def __init__(self, sizes: TrunkSizes, joint: int) -> None:
        height, width = sizes.kernel
        stem = nn.Conv2d(1, sizes.width, (height, width), stride=AUDIO_STRIDE, bias=False)
        super().__init__(sizes, joint, stem, eps=1e-5, extra_key=True)
        self.register_buffer("log_scale", torch.empty(()))

    def forward(self, mels: Tensor) -> Tensor:
        """[B, 1, 128, 204] -> the tokens that enter block 0, [B, 229, width]; mel outer, time inner."""
        patches = self.norm(self.stem(mels).flatten(2).transpose(1, 2))
        return self._with_class(patches) + self.positions


def official_name(name: str) -> str:
    """The official name of one of `ImageBindEncoder`'s weights."""
    ours = next(start for start in _OFFICIAL if name.startswith(start))
    return _OFFICIAL[ours] + name.removeprefix(ours)


def read_sizes(file: Path, shapes: Mapping[str, Sequence[int]]) -> Sizes:
    """Infer the sizes from a checkpoint's shapes, and the heads from `config.json` or the widths.

    Raises:
        WeightsError: if the tensors that tell are missing, or the number of heads is unknown.
    """
    config = read_json(file.parent / "config.json")
    stems = {"vision": "rgbt_stem.proj.1.weight", "audio": "rgbt_stem.proj.weight"}
    trunks = {}
    for modality, stem in stems.items():
        start = f"modality_preprocessors.{modality}."
        width, _, *kernel = _shape(file, shapes, start + stem, 5 if modality == "vision" else 4)
        trunks[modality] = TrunkSizes(
            blocks=_count(shapes, f"modality_trunks.{modality}.blocks."),
            width=width,
            heads=_heads(file, config, modality, width),
            hidden=_shape(file, shapes, f"modality_trunks.{modality}.blocks.0.mlp.fc1.weight", 2)[0],
            tokens=_shape(file, shapes, f"{start}pos_embedding_helper.pos_embed", 3)[1],
            kernel=tuple(kernel),
        )
    _check_tokens(file, trunks["vision"].tokens, trunks["audio"])
    return Sizes(**trunks, joint=_shape(file, shapes, "modality_heads.vision.2.weight", 2)[0])


def _check_tokens(file: Path, vision: int, audio: TrunkSizes) -> None:
    rows, columns = (
        (length - kernel) // AUDIO_STRIDE + 1
        for length, kernel in zip((MEL_BINS, MEL_FRAMES), audio.kernel, strict=True)
    )
    if math.isqrt(vision - 1) ** 2 != vision - 1 or audio.tokens != 1 + rows * columns:
        raise WeightsError(
            f"{file} is no ImageBind checkpoint: its position tables must have 1 + n * n rows for images "
            f"and {1 + rows * columns} for sound, found {vision} and {audio.tokens}"
        )


def _shape(file: Path, shapes: Mapping[str, Sequence[int]], name: str, dimensions: int) -> list[int]:
    if len(shapes.get(name, ())) != dimensions:
        found = f"has it as {list(shapes[name])}" if name in shapes else "lacks it"
        raise WeightsError(
            f"{file} is no ImageBind checkpoint: {name} must have {dimensions} dimensions, the file {found}"
        )
    return list(shapes[name])


def _count(shapes: Mapping[str, Sequence[int]], start: str) -> int:
    numbers = [int(name.removeprefix(start).partition(".")[0]) for name in shapes if name.startswith(start)]
    return max(numbers, default=-1) + 1


def _heads(file: Path, config: Mapping[str, Any], modality: str, width: int) -> int:
    key = f"{modality}_num_heads"
    heads = config.get(key, _HEADS.get(width))
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise WeightsError(
            f"{file} does not tell the number of attention heads of its {modality} trunk of width {width} "
            f'(found {heads}); put a config.json with "{key}", a divisor of {width}, beside it'
        )
    return heads


FILES = ("imagebind_huge.pth", "imagebind_huge.safetensors", "model.safetensors", "pytorch_model.bin")
"""Names of the weight file in a folder, in the order of preference."""

CLIP_SECONDS = 2
MEL_MEAN, MEL_STD = -4.268, 9.138
MAX_SCALE = 100.0
_UNUSED = re.compile(r"modality_(preprocessors|trunks|heads|postprocessors)\.(text|depth|thermal|imu)\.")


class ImageBindEncoder(TwoTrunks):
    """ImageBind behind `AudioVisualEncoder`.

    The constructor leaves the weights unset; use `load`, `random` or, for sizes only, torch's meta device.

    Args:
        sizes: of both trunks.
        image_size: pixels per side, a multiple of the patch (14); sizes other than 224 resize the positions.

    Raises:
        UsageError: if `image_size` is no positive multiple of the patch.
    """

    name = "imagebind"
    audio: AudioTrunk

    def __init__(self, sizes: Sizes = HUGE, image_size: int = 224) -> None:
        vision, audio = VisionTrunk(sizes.vision, sizes.joint), AudioTrunk(sizes.audio, sizes.joint)
        super().__init__(vision, audio, image_size, sizes.vision.kernel[-1])
        self.sizes = sizes

    @classmethod
    def load(cls, file: Path, image_size: int = 224) -> ImageBindEncoder:
        """Read a checkpoint in the official layout, strictly.

        Args:
            file: ``imagebind_huge.pth``, or the same tensors as safetensors. A ``config.json`` beside it may
                give ``vision_num_heads`` and ``audio_num_heads`` (widths 1280 and 768 need none).
            image_size: pixels per side.

        Raises:
            WeightsError: a file that is missing, damaged, carries code, or is not exactly this model.
        """
        tensors = {k: v for k, v in read_checkpoint(file).items() if not _UNUSED.match(k)}
        sizes = read_sizes(file, {name: list(tensor.shape) for name, tensor in tensors.items()})
        with torch.device("meta"):
            encoder = cls(sizes, image_size)
        official = {name: official_name(name) for name in encoder.state_dict()}
        shapes = {official[name]: list(weight.shape) for name, weight in encoder.state_dict().items()}
        check_state("ImageBind", file, tensors, shapes)
        assign(encoder, {name: tensors[key] for name, key in official.items()})
        heads = torch.tensor([sizes.vision.heads, sizes.audio.heads])
        encoder._hash = checkpoint_hash(file, {**tensors, "heads": heads})
        return encoder

    @classmethod
    def random(
        cls, sizes: Sizes = HUGE, image_size: int = 224, seed: int = 0, device: str = "cpu"
    ) -> ImageBindEncoder:
        """Random weights, for tests and for measuring speed."""
        with torch.device("meta"):
            encoder = cls(sizes, image_size)
        encoder.to_empty(device=device)
        randomize(encoder.state_dict().items(), seed)
        encoder.audio.log_scale.fill_(math.log(20))
        encoder._hash = hashlib.sha256(f"random {sizes} {seed}".encode()).hexdigest()
        return encoder

    def prepare_audio(self, sound: np.ndarray, sample_rate: int) -> Tensor:
        """float32 [N >= 1] mono at any rate -> float32 [1, 128, 204]; of more than 2 s the middle is heard.

        Raises:
            MediaError: for an empty sound.
        """
        samples = center_crop_at(sound, sample_rate, SAMPLE_RATE, CLIP_SECONDS * SAMPLE_RATE)
        return log_mel(torch.tensor(samples)).to(self.device)

    def prepare_sound_clips(self, sound: np.ndarray, sample_rate: int) -> Tensor:
        """The reference's three clips of 2 s, spread evenly over a sound: float32 [3, 1, 128, 204].

        Each clip is copied before its mean is removed (the reference's clips change each other where they
        overlap). A sound of at most 2 s gives three times the same.

        Raises:
            MediaError: for an empty sound.
        """
        samples = torch.tensor(resample_audio(sound, sample_rate, SAMPLE_RATE))
        starts = [start for start, _ in clip_times(len(samples) / SAMPLE_RATE)]
        ends = [int((start + CLIP_SECONDS) * SAMPLE_RATE) for start in starts]
        clips = [samples[int(s * SAMPLE_RATE) : e] for s, e in zip(starts, ends, strict=True)]
        return torch.stack([log_mel(clip) for clip in clips]).to(self.device)

    @torch.no_grad()
    def embed_sound_clips(self, clips: Tensor) -> Tensor:
        """[B, clips, 1, 128, 204] -> [B, E], as the reference gives it.

        Every clip's embedding is normalized and scaled (by 20 in imagebind_huge), then they are averaged:
        normalize again before a cosine.
        """
        flat = self.encode_audio(clips.flatten(0, 1)).embedding
        scale = self.audio.log_scale.exp().clamp(max=MAX_SCALE)
        return (F.normalize(flat, dim=-1) * scale).unflatten(0, clips.shape[:2]).mean(1)


def clip_times(seconds: float, clips: int = 3) -> list[tuple[float, float]]:
    """(start, end) of clips of 2 s spread evenly over a sound, in seconds."""
    room = max(seconds - CLIP_SECONDS, 0.0)
    starts = [index * room / (clips - 1) for index in range(clips)]
    return [(start, start + CLIP_SECONDS) for start in starts]


def log_mel(samples: Tensor) -> Tensor:
    """float32 [1 .. 32000] at 16 kHz -> float32 [1, 128, 204].

    The mean is removed, the filter bank taken, frames of zeros put behind up to 204, then all normalized: the
    padding is louder than silence, as the network learned it.
    """
    mel = fbank(samples - samples.mean(), MEL_BINS).T
    padded = F.pad(mel, (0, MEL_FRAMES - mel.shape[1]))[None]
    return (padded - MEL_MEAN) / MEL_STD


def find_weights(sources: ModelSources) -> Path:
    """The checkpoint: a file, or one of `FILES` in a folder or the Hub's repository.

    Raises:
        WeightsError: if there is none.
    """
    given = Path(sources.source("imagebind")).expanduser()
    if given.is_file():
        return given
    folder = model_folder("imagebind", sources)
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"{folder} holds none of {', '.join(FILES)}; {next_step('imagebind')}")


def facts() -> dict[str, Any]:
    """Sizes of imagebind_huge and of the adapters beside it, JSON-able; needs no weights."""
    from moca_avs.model.adapter import AdapterSet

    with torch.device("meta"):
        encoder = ImageBindEncoder()
        layouts = {
            "P": AdapterSet(encoder, bottleneck=32),
            "Q": AdapterSet(encoder, bottleneck=64, share_sites=True),
        }
    return {
        "image_blocks": encoder.image_blocks,
        "audio_blocks": encoder.audio_blocks,
        "joint_dim": encoder.joint_dim,
        "image_parameters": _parameters(encoder.vision),
        "audio_parameters": _parameters(encoder.audio),
        "adapter_parameters": {name: _parameters(adapters) for name, adapters in layouts.items()},
        "adapter_pairs": {
            placement: {
                str(count): [list(pair) for pair in encoder.adapter_pairs(placement, count)]
                for count in (2, 4, 6)
            }
            for placement in PLACEMENTS
        },
    }


def _parameters(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
