"""A run's neighbour table: which images are alike, in which space, read from the run or built for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from moca_avs.data.base import TrainingSet
from moca_avs.hub.huggingface import ModelSources
from moca_avs.model.pairing import NeighbourTable, nearest_rows, table_of_rows
from moca_avs.training.checkpoint import RunFolder, writing
from moca_avs.training.config import TrainConfig
from moca_avs.training.distributed import DistributedContext
from moca_avs.training.features import PrecomputedFeatures

if TYPE_CHECKING:
    from moca_avs.encoders.dino import DinoFeatures

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
    from moca_avs.encoders.dino import DinoFeatures

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
