"""DINO features through transformers' real classes: which tokens count."""

import numpy as np
import pytest
import torch
import transformers

from helpers.tiny_pretrained import write_tiny_dino, write_tiny_dinov2, write_tiny_sam
from moca_avs.errors import WeightsError
from moca_avs.hub.huggingface import ModelSources
from moca_avs.training.pairs import DinoFeatures

WRITERS = {"dino": (write_tiny_dino, 1), "dinov2 with registers": (write_tiny_dinov2, 5)}


def images(*sizes):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.mark.parametrize("kind", list(WRITERS))
def test_the_mean_over_patch_tokens_alone(tmp_path, kind):
    write, special = WRITERS[kind]
    folder = write(tmp_path / "any")
    frames = images((40, 60), (40, 60))
    found = DinoFeatures(ModelSources(models={"dino": str(folder)}))(frames)

    model = transformers.AutoModel.from_pretrained(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor(frames, return_tensors="pt")["pixel_values"].float()
    assert pixels.shape[2:] == (32, 32)
    with torch.no_grad():
        tokens = model(pixel_values=pixels).last_hidden_state
    assert tokens.shape == (2, special + 16, 16)
    torch.testing.assert_close(found, tokens[:, special:].mean(1))
    assert (found.dtype, found.shape) == (torch.float32, (2, 16))
    assert not torch.allclose(found, tokens.mean(1))  # the special tokens would show


def test_images_of_other_sizes_go_together(tmp_path):
    write_tiny_dino(tmp_path / "dino")
    features, frames = DinoFeatures(ModelSources(tmp_path)), images((40, 60), (33, 20), (8, 8))
    together = features(frames)
    apart = torch.cat([features([frame]) for frame in frames])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)
    assert not torch.allclose(together[0], together[1])


def test_the_fingerprint_follows_the_weights_not_the_place(tmp_path):
    first, again, other = (
        DinoFeatures(ModelSources(models={"dino": str(write_tiny_dino(tmp_path / name, seed))})).fingerprint()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again != other


def test_a_model_without_a_patch_grid_is_told(tmp_path):
    with pytest.raises(WeightsError, match="pairing needs a ViT with patch tokens, found sam in"):
        DinoFeatures(ModelSources(models={"dino": str(write_tiny_sam(tmp_path / "sam"))}))
