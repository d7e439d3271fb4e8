"""A trained comparator: the file it is kept in, and the `Method` that segments with it.

Its heat map becomes a mask by a threshold, and on top comes the proposal matching.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import moca_avs
from moca_avs.errors import UsageError, WeightsError
from moca_avs.hub.cache import file_sha256
from moca_avs.hub.huggingface import ModelSources
from moca_avs.hub.weight_files import read_safetensors, tensors_sha256, write_safetensors
from moca_avs.methods.base import ClipFrame, FrameMethod, FramePrediction, versions
from moca_avs.methods.moca import top_share
from moca_avs.model.proposal_matching import match_proposals
from moca_avs.proposals import build_proposer
from moca_avs.proposals.base import Proposer, cached_proposer
from moca_avs.proposals.masks import downscale
from moca_avs.utils.files import parse_json
from moca_avs.utils.frame_cache import FrameCache
from moca_avs_bench.ssl import COMPARATORS, ComparatorConfig, HeatConfig
from moca_avs_bench.ssl.backbone import (
    ObjectMap,
    enlarged,
    lite_objects,
    load_strictly,
    min_max_normalize,
    pixels,
    plain_state,
    resnet_objects,
    wave,
)
from moca_avs_bench.ssl.comparators import Comparator, EzVsl, Lvs, MixAndLocalize, cosine_heat

WEIGHTS = "comparator.safetensors"
_FORMAT = "moca-avs comparator 1"
_SYSTEMS: dict[str, type[Comparator]] = {system.name: system for system in (EzVsl, Lvs, MixAndLocalize)}
_GUIDED = "ez-vsl"


@dataclass(frozen=True, eq=False)
class TrainedSystem:
    """What a file holds.

    Attributes:
        system: in eval mode, frozen, on the CPU.
        config: it was trained with.
        data: fingerprint of what it was trained on.
    """

    system: Comparator
    config: ComparatorConfig
    data: str


def system_class(name: str) -> type[Comparator]:
    """The class of a system. Raises UsageError for a name that does not exist."""
    if name not in _SYSTEMS:
        raise UsageError(f"no comparator named {name!r}; there are: {', '.join(COMPARATORS)}")
    return _SYSTEMS[name]


def new_system(name: str, seed: int) -> Comparator:
    """A system at its random start, drawn from `seed` alone; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return system_class(name)()


def save_system(system: Comparator, config: ComparatorConfig, data: str, path: Path) -> None:
    """Write weights with their config and origin as metadata, whole or not at all."""
    about = {
        "format": _FORMAT,
        "system": system.name,
        "config": json.dumps(config.to_dict()),
        "data": data,
        "moca_avs": moca_avs.__version__,
    }
    write_safetensors(plain_state(system), path, about)


def read_system(path: Path, expected: str | None = None) -> TrainedSystem:
    """Read what `save_system` wrote.

    Args:
        path: the file, or the folder it lies in.
        expected: name of the system it must be; None takes any.

    Raises:
        WeightsError: if it is missing, damaged, no comparator's, or another system's.
    """
    file = path / WEIGHTS if path.is_dir() else path
    state, about = read_safetensors(file)
    name = about.get("system", "")
    if about.get("format") != _FORMAT or name not in _SYSTEMS:
        raise WeightsError(
            f"{file} holds no comparator ({', '.join(COMPARATORS)}); train one and give its folder"
        )
    if expected not in (None, name):
        raise WeightsError(
            f"{file} holds {name}, not {expected}; give the folder that {expected} was trained in"
        )
    try:
        values = dict(parse_json(about["config"]))
    except (KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{file} does not say how it was trained ({error!r}); train it again") from error
    config = ComparatorConfig.from_dict(values)
    system = new_system(name, 0)
    load_strictly(system, state, name, file)
    return TrainedSystem(system.eval().requires_grad_(False), config, about.get("data", ""))


class ComparatorMethod(FrameMethod):
    """Finds what sounds where a comparator's heat is high.

    Every frame is computed alone, so that a prediction does not depend on its company. Heat is
    (1 + cosine) / 2 at the system's own grid (7 x 7 or 14 x 14 for 224 px), or EZ-VSL's mixture of two maps
    stretched to 0..1. `scores` are the map's highest cosine. `reasons`: "", "silent", "no sound", "no mask"
    (flat heat), "no proposal".

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
        trained: TrainedSystem,
        config: HeatConfig | None = None,
        proposer: Proposer | None = None,
        objects: ObjectMap | None = None,
        device: str = "cpu",
    ) -> None:
        self.config: HeatConfig = config or HeatConfig()
        if (self.config.refine == "mpm") != (proposer is not None):
            raise UsageError('refine="mpm" and a proposer go together; give both or neither')
        if (self.config.object_map != "none") != (objects is not None):
            raise UsageError(f"object_map={self.config.object_map!r} and what computes it go together")
        if objects is not None and trained.system.name != _GUIDED:
            raise UsageError(f"only {_GUIDED} mixes an object map into its heat, not {trained.system.name}")
        self.system, self.trained, self._device = trained.system.to(device), trained, device
        self.proposer = None if proposer is None else cached_proposer(proposer)
        self.objects = objects
        self.grid = trained.config.image_size // trained.system.stride
        self._maps: FrameCache[tuple[Tensor, Tensor | None]] = FrameCache()
        weights = self.config.object_weights
        self.settings = {
            "method": trained.system.name,
            **self.config.to_dict(),
            "heat_resize": "bicubic",
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

    def predict_frames(self, frames: list[ClipFrame]) -> Iterator[FramePrediction]:
        """See `FrameMethod`."""
        for frame in frames:
            sound, rate = frame.window(self.config.window)
            window = wave(sound, rate, self.trained.config.seconds)
            features, objects = self._maps(frame.image, partial(self._seen, frame.image))
            cosine = cosine_heat(features, self.system.sound_vectors(window[None].to(self._device)))[0]
            yield self._decide(downscale(frame.image, self.config.working_side), cosine, objects)

    def _seen(self, frame: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """A frame's part of the answer: unit vectors [1, C, h, w] and the object map [h, w] at 0..1."""
        features = self.system.image_map(pixels([frame], self.trained.config.image_size).to(self._device))
        return features, None if self.objects is None else min_max_normalize(self.objects(frame))

    def _decide(self, image: np.ndarray, cosine: Tensor, objects: Tensor | None) -> FramePrediction:
        heat = (1 + cosine) / 2
        if objects is not None:
            share = self.config.object_share
            heat = min_max_normalize((1 - share) * min_max_normalize(cosine) + share * objects)
        fine = enlarged(heat, *image.shape[:2])
        if self.config.masks == "share":
            coarse = top_share(fine.numpy(), self.config.heat_share)
        else:
            coarse = (min_max_normalize(fine) > 0.5).numpy()
        small, score = heat.half().cpu().numpy(), float(cosine.max())
        if not coarse.any():
            return FramePrediction(coarse, small, score, "no mask")
        if self.proposer is None:
            return FramePrediction(coarse, small, score, "")
        config = self.config
        parts = match_proposals(self.proposer(image), coarse, config.match_iou, config.when_unmatched)
        mask: np.ndarray = np.any(parts, axis=0)
        return FramePrediction(mask, small, score, "" if mask.any() else "no proposal", parts)


def load_comparator(
    path: str | Path,
    device: str = "cpu",
    *,
    system: str | None = None,
    sources: ModelSources | None = None,
    wrap_proposer: Callable[[Proposer], Proposer] | None = None,
    **settings: Any,
) -> ComparatorMethod:
    """Build a trained comparator, ready to be called with a clip.

    Args:
        path: the folder that `train_comparator` returned, or its ``comparator.safetensors``.
        device: to compute on.
        system: name of the system it must be; None takes any.
        sources: where foundation models of proposals come from; None is the Hub.
        wrap_proposer: see `moca_avs.proposals.build_proposer`.
        settings: fields of `moca_avs_bench.ssl.HeatConfig`, like ``refine="mpm"``.

    Raises:
        UsageError: for an unknown setting, or an object map of another system than EZ-VSL.
        WeightsError: if the file is missing, damaged, or another system's.
    """
    config = HeatConfig.from_dict(settings)
    trained = read_system(Path(path), system)
    proposer = None
    if config.refine == "mpm":
        proposer = build_proposer(config.proposals, sources, device, wrap_proposer)
    objects, side = None, trained.config.image_size
    if config.object_map == "lite":
        objects = lite_objects(side, device)
    elif config.object_weights is not None:
        objects = resnet_objects(config.object_weights, side, device)
    return ComparatorMethod(trained, config, proposer, objects, device)
