"""Writes tiny random foundation models in the layout of the real ones: the real classes, small numbers.

Every writer makes a folder that ``from_pretrained`` reads (config, safetensors, processor, tokenizer)
and returns it. Weights are drawn from a fixed seed; they detect nothing, but every path through them is real.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging

PHRASES = (
    "all",
    "objects",
    "entities",
    "visible",
    "and",
    "obscure",
    "dog",
    "cat",
    "drum",
    "bark",
    "##s",
    "a",
)
AST_LABELS = ("Speech", "Dog", "Drum", "Guitar", "Silence", "Engine", "Bird")


def write_tiny_sam(folder: Path, seed: int = 0) -> Path:
    """SamModel: images of 64 px, embeddings of 16 x 16, decoder masks of 64 x 64."""
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": 16,
            "output_channels": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 4,
            "window_size": 4,
            "global_attn_indexes": [1],
            "num_pos_feats": 8,
            "mlp_dim": 32,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 4},
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )
    processor = transformers.SamImageProcessorPil(
        size={"longest_edge": 64},
        pad_size={"height": 64, "width": 64},
        mask_size={"longest_edge": 64},
        mask_pad_size={"height": 64, "width": 64},
    )
    return _write(folder, transformers.SamModel, config, processor, seed=seed, adjust=_sharpen)


def write_tiny_grounding_dino(folder: Path, seed: int = 0) -> Path:
    """GroundingDinoForObjectDetection on a Swin and a BERT of a few channels, with a small vocabulary."""
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            image_size=32,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            window_size=2,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=transformers.BertConfig(
            vocab_size=1100,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=256,
        ),
        d_model=32,  # GroupNorm of 32 groups
        num_queries=12,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
    )
    processor = transformers.GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 128})
    _write(folder, transformers.GroundingDinoForObjectDetection, config, processor, seed=seed)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(_bert_vocabulary()) + "\n", encoding="utf-8")
    transformers.BertTokenizer(vocab=str(vocabulary), do_lower_case=True).save_pretrained(folder)
    return folder


def write_tiny_owlv2(folder: Path, seed: int = 0) -> Path:
    """Owlv2ForObjectDetection: images of 32 px, 8 x 8 boxes."""
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Owlv2Config(
        text_config=size
        | {"vocab_size": 64, "max_position_embeddings": 8, "bos_token_id": 62, "eos_token_id": 63},
        vision_config=size | {"image_size": 32, "patch_size": 4},
        projection_dim=16,
    )
    processor = transformers.Owlv2ImageProcessorPil(size={"height": 32, "width": 32})
    return _write(folder, transformers.Owlv2ForObjectDetection, config, processor, seed=seed)


def write_tiny_ast(folder: Path, labels: tuple[str, ...] = AST_LABELS, seed: int = 0) -> Path:
    """ASTForAudioClassification: 64 frames (0.64 s and a bit) of 32 bands."""
    config = transformers.ASTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_length=64,
        num_mel_bins=32,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    extractor = transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=32)
    return _write(folder, transformers.ASTForAudioClassification, config, extractor, seed=seed)


def write_tiny_dino(folder: Path, seed: int = 0) -> Path:
    """ViTModel as facebook/dino-vits16 is laid out, without a pooler: images of 32 px, 4 x 4 patches."""
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
    )
    processor = transformers.ViTImageProcessorPil(size={"height": 32, "width": 32})
    return _write(folder, transformers.ViTModel, config, processor, seed=seed, add_pooling_layer=False)


def write_tiny_dinov2(folder: Path, seed: int = 0) -> Path:
    """Dinov2WithRegistersModel: a class token and four registers before 4 x 4 patches."""
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=32,
        patch_size=8,
        num_register_tokens=4,
    )
    processor = transformers.BitImageProcessorPil(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, do_center_crop=True
    )
    return _write(folder, transformers.Dinov2WithRegistersModel, config, processor, seed=seed)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "sam": write_tiny_sam,
    "grounding-dino": write_tiny_grounding_dino,
    "owlv2": write_tiny_owlv2,
    "ast": write_tiny_ast,
    "dino": write_tiny_dino,
}


def write_tiny_weights(folder: Path, *names: str) -> Path:
    """A weights folder (``--weights``) with the models of those names, all if none is given."""
    for name in names or WRITERS:
        WRITERS[name](folder / name)
    return folder


def _write(
    folder: Path,
    cls: Any,
    config: Any,
    processor: Any,
    seed: int,
    adjust: Callable[[Any], None] = lambda model: None,
    **options: Any,
) -> Path:
    with _quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        model = cls(config, **options)
        for parameter in model.parameters():
            _liven(parameter)
        adjust(model)
        model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@torch.no_grad()
def _liven(parameter: torch.nn.Parameter) -> None:
    """Larger than the classes' own starts, which are so near zero that nothing would depend on the input."""
    if parameter.ndim < 2:
        parameter += 0.1 * torch.randn_like(parameter)
    else:
        torch.nn.init.normal_(parameter, std=1.5 / parameter[0].numel() ** 0.5)


@torch.no_grad()
def _sharpen(model: Any) -> None:
    """Steep masks that SAM is sure of, as trained ones are: some pass the quality filters."""
    for network in model.mask_decoder.output_hypernetworks_mlps:
        network.proj_out.weight *= 40
    model.mask_decoder.iou_prediction_head.proj_out.bias += 1


def _bert_vocabulary() -> list[str]:
    """BERT's numbers for [CLS], [SEP], "." and "?", which GroundingDINO counts on, and a few words."""
    words = [f"[unused{index}]" for index in range(1100)]
    for index, word in {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}.items():
        words[index] = word
    words[1012], words[1029] = ".", "?"
    words[1030 : 1030 + len(PHRASES)] = PHRASES
    return words


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
