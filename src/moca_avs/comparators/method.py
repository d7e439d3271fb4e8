"""A trained comparator as a `Method`: heat map, mask by a threshold, and on top the proposal matching."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from moca_avs.clip import Clip, Segmentation
from moca_avs.comparators.base import cosine_heat
from moca_avs.comparators.config import HeatConfig
from moca_avs.comparators.inputs import pixels, wave
from moca_avs.comparators.objects import ObjectMap, lite_objects, resnet_objects, stretched
from moca_avs.comparators.resnet import plain_state
from moca_avs.comparators.systems import Trained, read_system
from moca_avs.errors import UsageError
from moca_avs.fetch import file_sha256
from moca_avs.fetch.foundation import Places
from moca_avs.fetch.weights import tensors_sha256
from moca_avs.methods.hearing import Answer, answered, versions
from moca_avs.methods.moca import top_share
from moca_avs.proposals import build_proposer
from moca_avs.proposals.base import Proposer, remembering, shrunk
from moca_avs.proposals.matching import match_proposals
from moca_avs.remembering import ByFrame

_GUIDED = "ez-vsl"


class ComparatorMethod:
    """Finds what sounds where a comparator's heat is high.

    Every frame is computed alone, so that an answer does not depend on its company.

    Args:
        trained: the system and how it was trained.
        config: how heat becomes a mask.
        proposer: gives the masks of ``refine="mpm"``; None where nothing refines.
        objects: EZ-VSL's object map; None for the heat alone.
        device: to compute on.

    Raises:
        UsageError: if the config wants proposals or an object map and there is none, or has one too many.
    """

    def __init__(
        self,
        trained: Trained,
        config: HeatConfig | None = None,
        proposer: Proposer | None = None,
        objects: ObjectMap | None = None,
        device: str = "cpu",
    ) -> None:
        self.config = config or HeatConfig()
        if (self.config.refine == "mpm") != (proposer is not None):
            raise UsageError('refine="mpm" and a proposer go together; give both or neither')
        if (self.config.object_map != "none") != (objects is not None):
            raise UsageError(f"object_map={self.config.object_map!r} and what computes it go together")
        if objects is not None and trained.system.name != _GUIDED:
            raise UsageError(f"only {_GUIDED} mixes an object map into its heat, not {trained.system.name}")
        self.system, self.trained, self.device = trained.system.to(device), trained, device
        self.proposer = None if proposer is None else remembering(proposer)
        self.objects = objects
        self.grid = trained.config.image_size // trained.system.stride
        self._maps: ByFrame[tuple[Tensor, Tensor | None]] = ByFrame()
        weights = self.config.object_weights
        self.settings: dict[str, Any] = {
            "method": trained.system.name,
            **self.config.to_dict(),
            "system": {
                "name": trained.system.name,
                "weights": tensors_sha256(plain_state(trained.system)),
                "training": trained.config.to_dict(),
                "data": trained.data,
                "grid": self.grid,
            },
            "object_weights": None if weights is None else file_sha256(Path(weights)),
            "proposer": None if proposer is None else proposer.settings,
            "versions": versions(),
        }

    @torch.inference_mode()
    def __call__(self, clip: Clip) -> Segmentation:
        """Segment every frame of a clip.

        Returns:
            Masks at source size. Heat is (1 + cosine) / 2 at the system's own grid (7 x 7 or 14 x 14 for 224
            px), or EZ-VSL's mixture of two maps stretched to 0..1. `scores` are the map's highest cosine.
            `reasons`: "", "silent", "no sound", "no mask" (flat heat), "no proposal".
        """
        return answered(clip, self.config, self.grid, self.settings, lambda rows: self._answers(clip, rows))

    def _answers(self, clip: Clip, rows: list[int]) -> Iterator[Answer]:
        for row in rows:
            frame = clip.frames[row]
            window = wave(clip.window(row, self.config.window), clip.sample_rate, self.trained.config.seconds)
            features, objects = self._maps(frame, partial(self._seen, frame))
            cosine = cosine_heat(features, self.system.sound_vectors(window[None].to(self.device)))[0]
            yield self._decide(shrunk(frame, self.config.working_side), cosine, objects)

    def _seen(self, frame: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """A frame's part of the answer: unit vectors [1, C, h, w] and the object map [h, w] at 0..1."""
        features = self.system.image_map(pixels([frame], self.trained.config.image_size).to(self.device))
        return features, None if self.objects is None else stretched(self.objects(frame))

    def _decide(self, picture: np.ndarray, cosine: Tensor, objects: Tensor | None) -> Answer:
        heat = (1 + cosine) / 2
        if objects is not None:
            share = self.config.object_share
            heat = stretched((1 - share) * stretched(cosine) + share * objects)
        fine = F.interpolate(heat[None, None], picture.shape[:2], mode="bilinear", align_corners=False)[0, 0]
        coarse = self._coarse(fine)
        small, score = heat.half().cpu().numpy(), float(cosine.max())
        if not coarse.any():
            return Answer(coarse, small, score, "no mask")
        if self.proposer is None:
            return Answer(coarse, small, score, "")
        config = self.config
        parts = match_proposals(self.proposer(picture), coarse, config.match_iou, config.when_unmatched)
        mask: np.ndarray = np.any(parts, axis=0)
        return Answer(mask, small, score, "" if mask.any() else "no proposal", parts)

    def _coarse(self, fine: Tensor) -> np.ndarray:
        """Bool [H, W] of heat [H, W]."""
        if self.config.masks == "share":
            return top_share(fine.cpu().numpy(), self.config.heat_share)
        return (stretched(fine) > 0.5).cpu().numpy()


def load_comparator(
    path: str | Path,
    device: str = "cpu",
    *,
    system: str | None = None,
    places: Places | None = None,
    **settings: Any,
) -> ComparatorMethod:
    """Build a trained comparator, ready to be called with a clip.

    Args:
        path: the folder that `train_comparator` returned, or its ``comparator.safetensors``.
        device: to compute on.
        system: name of the system it must be; None takes any.
        places: where foundation models of proposals come from; None is the Hub.
        settings: fields of `moca_avs.comparators.config.HeatConfig`, like ``refine="mpm"``.

    Raises:
        UsageError: for an unknown setting, or an object map of another system than EZ-VSL.
        WeightsError: if the file is missing, damaged, or another system's.
    """
    config = HeatConfig.from_dict(settings)
    trained = read_system(Path(path), system)
    proposer = None
    if config.refine == "mpm":
        proposer = build_proposer(config.proposals, places or Places(), device)
    return ComparatorMethod(trained, config, proposer, _objects(config, trained, device), device)


def _objects(config: HeatConfig, trained: Trained, device: str) -> ObjectMap | None:
    side = trained.config.image_size
    if config.object_map == "lite":
        return lite_objects(side, device)
    if config.object_weights is not None:
        return resnet_objects(config.object_weights, side, device)
    return None
