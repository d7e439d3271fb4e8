"""A run's neighbor table: which images are alike, in which space, read from the run or built for it.

The paper's pairs of images come from nearest neighbors in the space of DINO (section 3.1, global average):
`DinoFeatures`, the mean over patch tokens (Caron et al. 2021; DINOv2, DINOv3).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from moca_avs.data.base import TrainingSet
from moca_avs.errors import WeightsError
from moca_avs.hub.huggingface import ModelSources, next_step, origin, pretrained
from moca_avs.model.pairing import NeighbourTable, nearest_rows, table_of_rows
from moca_avs.training.checkpoint import RunFolder, writing
from moca_avs.training.config import TrainConfig
from moca_avs.training.distributed import DistributedContext
from moca_avs.training.features import PrecomputedFeatures

AUTO, ENCODER, DINO = "auto", "encoder", "dino"
OWN_PAIRING: Mapping[str, str] = {"imagebind": DINO, "languagebind": DINO}
"""Encoder -> what "auto" means for it; `ENCODER` for the others."""
BATCH = 16  # images in memory at once


def with_pairing(config: TrainConfig, encoder_name: str) -> TrainConfig:
    """The config with "auto" replaced by what it means for this encoder."""
    if config.pairing != AUTO:
        return config
    return replace(config, pairing=OWN_PAIRING.get(encoder_name, ENCODER))


def pairing_features(config: TrainConfig, sources: ModelSources, device: str) -> DinoFeatures | None:
    """What embeds images for pairing; None where the encoder's own feature does.

    Raises:
        WeightsError: if its weights are missing, damaged, or no ViT.
    """
    if config.pairing == ENCODER:
        return None

    if config.pairing != DINO:
        sources = replace(sources, models={**sources.models, DINO: config.pairing})
    return DinoFeatures(sources, device)


def run_table(
    run: RunFolder,
    data: TrainingSet,
    config: TrainConfig,
    precomputed: PrecomputedFeatures,
    image_features: DinoFeatures | None,
    progress: bool,
    context: DistributedContext,
) -> NeighbourTable:
    """Read the run's table, or build it and store it there; every process finds some rows' neighbours.

    Raises:
        DataError: if it was made from something else, or there are too few clips.
    """
    made_from = [run.identity["data"], run.identity["encoder"], config.neighbours, config.allow_same_clip]
    if image_features is not None:
        made_from.append(image_features.fingerprint())
    fingerprint = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    path = run.path / "pairs.safetensors"
    if context.on_main(path.exists):
        return context.on_main(lambda: NeighbourTable.load(path, fingerprint))
    clips = [data.clip_id(row) for row in range(len(data))]
    own = context.shard(len(data))
    if image_features is None:
        vectors = precomputed.features()
    else:
        vectors = embed_rows(image_features, data, own, progress, context)
    found = nearest_rows(
        vectors,
        clips,
        rows=own,
        neighbours=config.neighbours,
        same_clip=config.allow_same_clip,
        engine=config.neighbour_search,
    )
    table = table_of_rows(
        context.all_gather(found, len(data)),
        clips,
        neighbours=config.neighbours,
        same_clip=config.allow_same_clip,
        fingerprint=fingerprint,
    )

    def save() -> None:
        with writing(path):
            table.save(path)

    context.on_main(save)
    return table


def embed_rows(
    features: DinoFeatures, data: TrainingSet, rows: range, progress: bool, context: DistributedContext
) -> Tensor:
    """float32 [N, F] of all frames of a training set, on the CPU; a few images are in memory at once.

    `rows` are this process's part of them.
    """
    starts = range(rows.start, rows.stop, BATCH)
    bar = tqdm(starts, desc="features for pairing", disable=None if progress else True, leave=False)
    mine = [features([data.frame(row) for row in range(low, min(low + BATCH, rows.stop))]) for low in bar]
    return context.all_gather(torch.cat(mine), len(data))


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
        inputs = self._processor(list(frames), return_tensors="pt", input_data_format="channels_last")
        pixels = inputs["pixel_values"].float().to(self.device)
        tokens = self._model(pixel_values=pixels).last_hidden_state
        features: Tensor = tokens[:, self._special :].mean(1).float().cpu()
        return features

    def fingerprint(self) -> str:
        """What decides the features, as text: equal texts give equal features."""
        hashes: dict[str, str] = self.settings["weights"]["sha256"]
        return json.dumps(sorted(hashes.values()))
