"""MoCA's inference (paper section 3.1): fused features, clusters, the sounding one, proposals, masks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from moca_avs.adapter import AdapterSet
from moca_avs.clip import Clip, Segmentation
from moca_avs.clustering import cosine_map, sounding_clusters, spherical_kmeans
from moca_avs.encoders.base import AudioVisualEncoder, SoundStates
from moca_avs.errors import UsageError
from moca_avs.fusion import image_prefix, last_state
from moca_avs.methods.config import MocaConfig
from moca_avs.methods.hearing import (
    Answer,
    Labeller,
    answered,
    encoded,
    encoder_settings,
    versions,
)
from moca_avs.overlap import ahead
from moca_avs.proposals.base import Proposer, remembering, resized_mask, shrunk
from moca_avs.proposals.matching import (
    best_proposal,
    connected_parts,
    hottest_proposal,
    match_proposals,
)
from moca_avs.remembering import REMEMBERED, frame_key
from moca_avs.stages import stage

AHEAD = 2  # frames whose proposals are looked for ahead; more would only take memory


class Moca:
    """Finds the pixels that make the sound, frame by frame.

    Args:
        encoder: frozen.
        adapters: trained; None is the method `frozen`.
        proposer: gives the masks that refine; None where ``config.refine`` is "none".
        config: every choice.
        method: name told in `settings`.
        labeller: says what the masks are; None: `Segmentation.labels` stays None.

    Raises:
        UsageError: if the config wants proposals and there is no proposer.
    """

    def __init__(
        self,
        encoder: AudioVisualEncoder,
        adapters: AdapterSet | None,
        proposer: Proposer | None,
        config: MocaConfig | None = None,
        method: str = "moca",
        labeller: Labeller | None = None,
    ) -> None:
        self.config = config or MocaConfig()
        if self.config.refine != "none" and proposer is None:
            raise UsageError(f"refine={self.config.refine!r} needs a proposer; give one, or refine='none'")
        self.encoder = encoder
        self.labeller = labeller
        self.adapters = None if adapters is None else adapters.requires_grad_(False)
        self.proposer = None if self.config.refine == "none" or proposer is None else remembering(proposer)
        self._states: OrderedDict[bytes, Tensor] = OrderedDict()
        self.settings: dict[str, Any] = {
            "method": method,
            **self.config.to_dict(),
            "encoder": encoder_settings(encoder),
            "adapters": None if adapters is None else {**adapters.config, "weights": adapters.weights_hash()},
            "proposer": None if self.proposer is None else self.proposer.settings,
            "labels": None if labeller is None else labeller.settings,
            "versions": versions(),
        }

    @torch.inference_mode()
    def __call__(self, clip: Clip, adapter_clip: Clip | None = None) -> Segmentation:
        """Segment every frame of a clip.

        Args:
            clip: frames and sound.
            adapter_clip: another clip whose sound the adapters hear instead, frame by frame (the wrong-sound
                control); the gate and the choice of the mask still use the clip's own.

        Returns:
            Masks at source size. `scores` are mean cosines with the sound inside the mask, 0 where there is
            none; `reasons` are "", "silent", "no sound", "below threshold" or "no proposal"; heat maps are
            all 0 where nothing is heard.

        Raises:
            UsageError: if `adapter_clip` is silent as a file.
        """
        if adapter_clip is not None and not (adapter_clip.sound.size and len(adapter_clip)):
            raise UsageError("adapter_clip has no sound for the adapters to hear")
        return answered(
            clip,
            self.config,
            self.encoder.grid,
            self.settings,
            lambda rows: self._segment(clip, adapter_clip, rows),
            self.labeller,
        )

    def _segment(self, clip: Clip, adapter_clip: Clip | None, rows: list[int]) -> Iterator[Answer]:
        frames = clip.frames[rows]
        working = [shrunk(frame, self.config.working_side) for frame in frames]
        with self._proposing(working) as proposals:
            sounds = self._sounds(clip, adapter_clip, rows)
            with stage("image encoder"):
                state = self._state(frames, sounds)
                joint = self.encoder.joint_map(state)
            cosine = cosine_map(joint, sounds.embedding)
            heat = ((1 + cosine) / 2).half().cpu().numpy()
            fine = _upsampled(cosine, working[0].shape[:2])
            coarse = self._coarse(state, joint, sounds.embedding, fine)
            for index, picture in enumerate(working):
                with stage("waiting for proposals"):
                    found = next(proposals)
                yield self._decide(picture, found, heat[index], fine[index], coarse[index])

    @contextmanager
    def _proposing(self, working: list[np.ndarray]) -> Iterator[Iterator[np.ndarray | None]]:
        """Proposals of each frame, found in a thread while the encoder is busy: they don't hear the sound.

        None where they wait for the coarse mask, because it may be empty.
        """
        config = self.config
        if self.proposer is None or (config.masks == "clusters" and config.sounding == "threshold"):
            yield repeat(None)
            return
        with ahead(map(self.proposer, working), AHEAD) as found:
            yield found

    def _decide(
        self,
        picture: np.ndarray,
        proposals: np.ndarray | None,
        heat: np.ndarray,
        cosine: np.ndarray,
        coarse: np.ndarray,
    ) -> Answer:
        if not coarse.any():
            return Answer(coarse, heat, 0.0, "below threshold")
        if proposals is None and self.proposer is not None:
            proposals = self.proposer(picture)
        with stage("matching"):
            parts = self._refined(proposals, cosine, coarse)
        mask: np.ndarray = np.any(parts, axis=0)
        if not mask.any():
            return Answer(mask, heat, 0.0, "no proposal")
        score = float(cosine[mask].mean(dtype=np.float64))
        if score < self.config.similarity:
            return Answer(np.zeros_like(mask), heat, score, "below threshold")
        return Answer(mask, heat, score, "", parts)

    def _refined(self, proposals: np.ndarray | None, cosine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        """Masks bool [P, H, W] whose union is the answer."""
        config = self.config
        if proposals is None:
            return coarse[None]
        if config.refine == "heat":
            return hottest_proposal(proposals, cosine, coarse, config.area_power)[None]
        parts = connected_parts(coarse, config.max_sources, config.source_share)
        if config.refine == "best":
            return np.stack([best_proposal(proposals, part, config.best_iou) for part in parts])
        matched = [
            match_proposals(proposals, part, config.match_iou, config.when_unmatched) for part in parts
        ]
        return np.concatenate(matched)

    def _coarse(self, state: Tensor, joint: Tensor, embedding: Tensor, fine: np.ndarray) -> list[np.ndarray]:
        """Coarse masks bool [H, W] of the working copies."""
        config = self.config
        size = fine.shape[1:]
        if config.masks == "heat":
            return [top_share(cosine, config.heat_share) for cosine in fine]
        grid = (joint.shape[2] * config.upsample, joint.shape[3] * config.upsample)
        features = joint if config.cluster_space == "joint" else self.encoder.trunk_map(state)
        with stage("clustering"):
            found = spherical_kmeans(
                features, config.clusters, size=grid, seed=config.seed, starts=config.starts
            )
            cosine = cosine_map(joint, embedding, grid)
            chosen = sounding_clusters(found.labels, cosine, config.sounding, config.sounding_threshold)
        return [resized_mask(mask, size) for mask in chosen.cpu().numpy()]

    def _sounds(self, clip: Clip, adapter_clip: Clip | None, rows: list[int]) -> SoundStates:
        """States of the rows' windows, each distinct window encoded once."""
        windows = [clip.window(index, self.config.window) for index in rows]
        sounds = encoded(self.encoder, windows, clip.sample_rate)
        if adapter_clip is None or self.adapters is None:
            return sounds
        others = [_window_of(adapter_clip, index, self.config.window) for index in rows]
        adapted = encoded(self.encoder, others, adapter_clip.sample_rate)
        return SoundStates(sounds.embedding, adapted.tokens)

    def _state(self, frames: np.ndarray, sounds: SoundStates) -> Tensor:
        """State after the last block, with what the adapters add: batch first."""
        until = self.encoder.image_blocks if self.adapters is None else self.adapters.first_block
        return last_state(self.encoder, self.adapters, self._prefix(frames, until), sounds, until)

    def _prefix(self, frames: np.ndarray, until: int) -> Tensor:
        """`image_prefix` of each frame; recent frames are remembered, equal ones computed once."""
        keys = [frame_key(frame) for frame in frames]
        known = {key: self._states[key] for key in keys if key in self._states}
        new = {key: index for index, key in enumerate(keys) if key not in known}
        if new:
            images = self.encoder.prepare_images(frames[list(new.values())])
            states = image_prefix(self.encoder, images, until).split(1)
            known |= {key: state.clone() for key, state in zip(new, states, strict=True)}
        for key in keys:
            self._states[key] = known[key]
            self._states.move_to_end(key)
        while len(self._states) > REMEMBERED:
            self._states.popitem(last=False)
        return torch.cat([known[key] for key in keys])  # cat keeps the memory format, stack does not


def _upsampled(cosine: Tensor, size: tuple[int, int]) -> np.ndarray:
    """[B, h, w] -> float32 [B, H, W], bilinear."""
    fine = F.interpolate(cosine[:, None], size, mode="bilinear", align_corners=False)
    return fine[:, 0].cpu().numpy()


def top_share(heat: np.ndarray, share: float) -> np.ndarray:
    """The hottest `share` of a picture: float [H, W] -> bool [H, W], at least one position."""
    count = min(heat.size, max(1, round(share * heat.size)))
    return heat >= np.partition(heat, heat.size - count, axis=None)[heat.size - count]


def _window_of(clip: Clip, index: int, seconds: float) -> np.ndarray:
    """The window of a clip's frame, or of its last one; all of its sound where that window is empty."""
    window = clip.window(min(index, len(clip) - 1), seconds)
    return window if window.size else clip.sound
