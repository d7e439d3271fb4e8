"""MoCA's inference (paper section 3.1): fused features, clusters, the sounding one, proposals, masks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from moca_avs.clip import Clip, Segmentation
from moca_avs.encoders.base import AudioFeatures, AudioVisualEncoder
from moca_avs.errors import UsageError
from moca_avs.methods.base import (
    FrameIndex,
    FramePrediction,
    MaskClassifier,
    encode_windows,
    encoder_settings,
    predict_clips,
    prepare_frames,
    versions,
)
from moca_avs.methods.config import MocaConfig
from moca_avs.model.adapter import AdapterSet
from moca_avs.model.clustering import sounding_clusters, spherical_kmeans
from moca_avs.model.fusion import cosine_heatmap, image_prefix, last_state
from moca_avs.model.proposal_matching import best_proposal, connected_parts, hottest_proposal, match_proposals
from moca_avs.proposals.base import Proposer, cached_proposer, is_parallel
from moca_avs.proposals.masks import downscale, resize_mask
from moca_avs.utils.frame_cache import CACHED_FRAMES, frame_key
from moca_avs.utils.prefetch import parallel_map
from moca_avs.utils.profiler import record


class Moca:
    """Finds the pixels that make the sound, frame by frame.

    Args:
        encoder: frozen.
        adapters: trained; None is the method `frozen`.
        proposer: gives the masks that refine; None where ``config.refine`` is "none".
        config: every choice.
        method: name told in `settings`.
        classifier: says what the masks are; None: `Segmentation.labels` stays None.

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
        classifier: MaskClassifier | None = None,
    ) -> None:
        self.config = config or MocaConfig()
        if self.config.refine != "none" and proposer is None:
            raise UsageError(f"refine={self.config.refine!r} needs a proposer; give one, or refine='none'")
        self.encoder = encoder
        self.classifier = classifier
        self.adapters = None if adapters is None else adapters.requires_grad_(False)
        self.proposer = (
            None if self.config.refine == "none" or proposer is None else cached_proposer(proposer)
        )
        self._states: OrderedDict[bytes, Tensor] = OrderedDict()
        self.settings: dict[str, Any] = {
            "method": method,
            **self.config.to_dict(),
            "encoder": encoder_settings(encoder),
            "adapters": None if adapters is None else {**adapters.config, "weights": adapters.weights_hash()},
            "proposer": None if self.proposer is None else self.proposer.settings,
            "labels": None if classifier is None else classifier.settings,
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
        return self._answered([clip], adapter_clip)[0]

    @torch.inference_mode()
    def predict_batch(self, clips: Sequence[Clip]) -> list[Segmentation]:
        """Segment several clips, their frames in common batches; see `BatchedMethod`."""
        return self._answered(clips)

    @property
    def device(self) -> torch.device:
        """Where the encoder computes."""
        return torch.device(getattr(self.encoder, "device", "cpu"))

    def _answered(self, clips: Sequence[Clip], adapter_clip: Clip | None = None) -> list[Segmentation]:
        return predict_clips(
            clips,
            self.config,
            self.encoder.grid,
            self.settings,
            lambda rows: self._segment(rows, adapter_clip),
            self.classifier,
        )

    def _segment(self, rows: list[FrameIndex], adapter_clip: Clip | None) -> Iterator[FramePrediction]:
        frames = [clip.frames[index] for clip, index in rows]
        working = [downscale(frame, self.config.working_side) for frame in frames]
        with self._proposing(working) as proposals:
            sounds = self._sounds(rows, adapter_clip)
            with record("image encoder"):
                state = self._state(frames, sounds)
                joint = self.encoder.joint_features(state)
            cosine = cosine_heatmap(joint, sounds.embedding)
            heat = ((1 + cosine) / 2).half().cpu().numpy()
            fine = _upsample(cosine, [image.shape[:2] for image in working])
            coarse = self._coarse(state, joint, sounds.embedding, fine)
            for index, image in enumerate(working):
                with record("waiting for proposals"):
                    found = next(proposals)
                yield self._decide(image, found, heat[index], fine[index], coarse[index])

    @contextmanager
    def _proposing(self, working: list[np.ndarray]) -> Iterator[Iterator[np.ndarray | None]]:
        """Proposals of each frame, found in threads while the encoder is busy: they don't hear the sound.

        None where they wait for the coarse mask, because it may be empty.
        """
        config = self.config
        if self.proposer is None or (config.masks == "clusters" and config.sounding == "threshold"):
            yield repeat(None)
            return
        workers = min(torch.get_num_threads(), len(working)) if is_parallel(self.proposer) else 1
        with parallel_map(self.proposer, working, workers) as found:
            yield found

    def _decide(
        self,
        image: np.ndarray,
        proposals: np.ndarray | None,
        heat: np.ndarray,
        cosine: np.ndarray,
        coarse: np.ndarray,
    ) -> FramePrediction:
        if not coarse.any():
            return FramePrediction(coarse, heat, 0.0, "below threshold")
        if proposals is None and self.proposer is not None:
            proposals = self.proposer(image)
        with record("matching"):
            parts = self._refined(proposals, cosine, coarse)
        mask: np.ndarray = np.any(parts, axis=0)
        if not mask.any():
            return FramePrediction(mask, heat, 0.0, "no proposal")
        score = float(cosine[mask].mean(dtype=np.float64))
        if score < self.config.similarity:
            return FramePrediction(np.zeros_like(mask), heat, score, "below threshold")
        return FramePrediction(mask, heat, score, "", parts)

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

    def _coarse(
        self, state: Tensor, joint: Tensor, embedding: Tensor, fine: list[np.ndarray]
    ) -> list[np.ndarray]:
        """Coarse masks bool [H, W] of the working copies."""
        config = self.config
        if config.masks == "heat":
            return [top_share(cosine, config.heat_share) for cosine in fine]
        grid = (joint.shape[2] * config.upsample, joint.shape[3] * config.upsample)
        features = joint if config.cluster_space == "joint" else self.encoder.backbone_features(state)
        with record("clustering"):
            found = spherical_kmeans(
                features, config.clusters, size=grid, seed=config.seed, starts=config.starts
            )
            cosine = cosine_heatmap(joint, embedding, grid)
            chosen = sounding_clusters(found.labels, cosine, config.sounding, config.sounding_threshold)
        coarse = zip(chosen.cpu().numpy(), fine, strict=True)
        return [resize_mask(mask, cosine.shape) for mask, cosine in coarse]

    def _sounds(self, rows: list[FrameIndex], adapter_clip: Clip | None) -> AudioFeatures:
        """States of the rows' windows, each distinct window encoded once."""
        seconds = self.config.window
        sounds = encode_windows(
            self.encoder, [(clip.window(i, seconds), clip.sample_rate) for clip, i in rows]
        )
        if adapter_clip is None or self.adapters is None:
            return sounds
        others = [(_window_of(adapter_clip, i, seconds), adapter_clip.sample_rate) for _, i in rows]
        return AudioFeatures(sounds.embedding, encode_windows(self.encoder, others).tokens)

    def _state(self, frames: list[np.ndarray], sounds: AudioFeatures) -> Tensor:
        """State after the last block, with what the adapters add: batch first."""
        until = self.encoder.image_blocks if self.adapters is None else self.adapters.first_block
        return last_state(self.encoder, self.adapters, self._prefix(frames, until), sounds, until)

    def _prefix(self, frames: list[np.ndarray], until: int) -> Tensor:
        """`image_prefix` of each frame; recent frames are remembered, equal ones computed once."""
        keys = [frame_key(frame) for frame in frames]
        known = {key: self._states[key] for key in keys if key in self._states}
        new = {key: index for index, key in enumerate(keys) if key not in known}
        if new:
            images = prepare_frames(self.encoder, [frames[index] for index in new.values()])
            states = image_prefix(self.encoder, images, until).split(1)
            known |= {key: state.clone() for key, state in zip(new, states, strict=True)}
        for key in keys:
            self._states[key] = known[key]
            self._states.move_to_end(key)
        while len(self._states) > CACHED_FRAMES:
            self._states.popitem(last=False)
        return torch.cat([known[key] for key in keys])  # cat keeps the memory format, stack does not


def _upsample(cosine: Tensor, sizes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """[B, h, w] and a size (H, W) for each -> float32 [H, W] each, bilinear; runs of one size go together."""
    counts = [(size, len(list(run))) for size, run in groupby(sizes)]
    fine: list[np.ndarray] = []
    for (size, _), part in zip(counts, cosine.split([count for _, count in counts]), strict=True):
        maps = F.interpolate(part[:, None], size, mode="bilinear", align_corners=False)
        fine += list(maps[:, 0].cpu().numpy())
    return fine


def top_share(heat: np.ndarray, share: float) -> np.ndarray:
    """The hottest `share` of an image: float [H, W] -> bool [H, W], at least one position."""
    count = min(heat.size, max(1, round(share * heat.size)))
    return heat >= np.partition(heat, heat.size - count, axis=None)[heat.size - count]


def _window_of(clip: Clip, index: int, seconds: float) -> np.ndarray:
    """The window of a clip's frame, or of its last one; all of its sound where that window is empty."""
    window = clip.window(min(index, len(clip) - 1), seconds)
    return window if window.size else clip.sound
