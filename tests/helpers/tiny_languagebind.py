"""Small random LanguageBind towers in the published layout: transformers' CLIP, text tower and all."""

import json
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel

VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "image_size": 224,
    "patch_size": 14,
    "hidden_act": "gelu",
}
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SPECTROGRAM = {"num_mel_bins": 112, "target_length": 1036, "audio_mean": -4.2677393, "audio_std": 4.5689974}


def tiny_clip(seed: int, rows: int = 257) -> CLIPModel:
    """A CLIP whose position table has `rows` rows (1 + 8 * 74 for sound)."""
    torch.manual_seed(seed)
    model = CLIPModel(
        CLIPConfig(text_config=TEXT | {"vocab_size": 9}, vision_config=VISION, projection_dim=16)
    )
    table = model.vision_model.embeddings
    table.position_embedding = torch.nn.Embedding(rows, VISION["hidden_size"])
    table.register_buffer("position_ids", torch.arange(rows).expand((1, -1)), persistent=True)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                weight.normal_(float("norm" in name and name.endswith("weight")), 0.1)
    return model.eval()


def write_tower(folder: Path, state: dict[str, torch.Tensor], **config: object) -> Path:
    """``pytorch_model.bin`` and ``config.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "pytorch_model.bin")
    vision = VISION | {"add_time_attn": False, "num_frames": 1, "lora_r": 0, "lora_alpha": 16} | config
    whole = {"projection_dim": 16, "text_config": TEXT, "vision_config": vision, "vision_config_dict": None}
    (folder / "config.json").write_text(json.dumps(whole))
    return folder


def write_tiny_languagebind(weights: Path) -> Path:
    """Both towers as ``languagebind-image`` and ``languagebind-audio`` in a weights folder; returns it."""
    write_tower(weights / "languagebind-image", tiny_clip(0).state_dict())
    write_tower(weights / "languagebind-audio", tiny_clip(1, 593).state_dict(), **SPECTROGRAM)
    return weights
