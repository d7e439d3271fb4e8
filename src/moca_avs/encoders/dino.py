"""DINO features of whole images (Caron et al. 2021; DINOv2, DINOv3): the mean over patch tokens.

The paper's pairs of images come from nearest neighbours in this space (section 3.1: DINO, global average).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moca_avs.errors import WeightsError
from moca_avs.hub.huggingface import ModelSources, next_step, origin, pretrained


class DinoFeatures:
    """Images -> one vector each; class and register tokens are left out.

    Args:
        sources: where the weights come from; ``ModelSources(models={"dino": ...})`` takes another ViT of the
            family
            (``facebook/dinov2-base``, ``facebook/dinov3-vits16-pretrain-lvd1689m``, a folder).
        device: to compute on.

    Raises:
        WeightsError: if they are missing, damaged, or no ViT with a patch grid.
    """

    def __init__(self, sources: ModelSources | None = None, device: str = "cpu") -> None:
        from transformers import AutoModel, ViTImageProcessorPil

        sources = sources or ModelSources()
        self.device = device
        # The pooler after the class token is not part of DINO's weights, and not used here.
        self._model = pretrained(AutoModel, "dino", sources, unused=r"^pooler\.").to(device)
        config = self._model.config
        if not hasattr(config, "patch_size") or not hasattr(config, "num_attention_heads"):
            raise WeightsError(
                f"pairing needs a ViT with patch tokens, found {config.model_type} in "
                f"{sources.source('dino')}; {next_step('dino')}"
            )
        # All of the family describe their front end in the same words; this class needs no torchvision.
        self._processor = pretrained(ViTImageProcessorPil, "dino", sources)
        self._special = 1 + int(getattr(config, "num_register_tokens", 0))
        self.settings: dict[str, Any] = {"name": "dino", "weights": origin("dino", sources)}

    @torch.no_grad()
    def __call__(self, frames: Sequence[np.ndarray]) -> Tensor:
        """Images uint8 [H, W, 3], each of its own size -> float32 [B, F] on the CPU, not normalized."""
        pixels = self._processor(list(frames), return_tensors="pt")["pixel_values"].float().to(self.device)
        tokens = self._model(pixel_values=pixels).last_hidden_state
        features: Tensor = tokens[:, self._special :].mean(1).float().cpu()
        return features

    def fingerprint(self) -> str:
        """What decides the features, as text: equal texts give equal features."""
        hashes: dict[str, str] = self.settings["weights"]["sha256"]
        return json.dumps(sorted(hashes.values()))
