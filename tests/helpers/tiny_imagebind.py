"""A small random ImageBind in the official file's layout: unused modalities' tensors and all."""

import json
from pathlib import Path

import torch

from moca_avs.encoders.imagebind import ImageBindEncoder, Sizes, TrunkSizes, official_name

TINY_SIZES = Sizes(
    TrunkSizes(blocks=8, width=32, heads=4, hidden=64, tokens=257, kernel=(2, 14, 14)),
    TrunkSizes(blocks=6, width=24, heads=3, hidden=48, tokens=229, kernel=(16, 16)),
    joint=16,
)


def tiny_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """Official name -> tensor, with two tensors of modalities that MoCA does not use."""
    encoder = ImageBindEncoder.random(TINY_SIZES, seed=seed)
    state = {official_name(name): weight.clone() for name, weight in encoder.state_dict().items()}
    state["modality_preprocessors.text.token_embedding.weight"] = torch.zeros(5, 4)
    state["modality_trunks.imu.blocks.0.attn.bias_k"] = torch.zeros(1, 1, 4)
    return state


def write_tiny_imagebind(folder: Path, seed: int = 0) -> Path:
    """Write ``imagebind_huge.pth`` and ``config.json`` into a folder (WEIGHTS/imagebind); returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tiny_state(seed), folder / "imagebind_huge.pth")
    sizes = TINY_SIZES
    heads = {"vision_num_heads": sizes.vision.heads, "audio_num_heads": sizes.audio.heads}
    (folder / "config.json").write_text(json.dumps(heads))
    return folder
