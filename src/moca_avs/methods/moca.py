"""MoCA's inference (paper section 3.1): enhanced features, the sounding cluster, matching proposals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from moca_avs.clip import Clip, Segmentation
from moca_avs.encoders.base import AudioFeatures, AudioVisualEncoder
from moca_avs.errors import UsageError
from moca_avs.io.video import as_clip
from moca_avs.methods.base import (
    ClipFrame,
    FrameMethod,
    FramePrediction,
    MaskClassifier,
    encode_windows,
    encoder_settings,
    lots,
    prepare_frames,
    versions,
)
from moca_avs.methods.config import MocaConfig
from moca_avs.model.adapter import AdapterSet
from moca_avs.model.clustering import sounding_clusters, spherical_kmeans
from moca_avs.model.fusion import cosine_heatmap, image_prefix, last_state
from moca_avs.model.proposal_matching import (
    best_proposal,
    connected_parts,
    hottest_proposal,
    match_proposals,
)
from moca_avs.proposals.base import Proposer, cached_proposer, is_parallel
from moca_avs.proposals.masks import downscale, resize_mask
from moca_avs.utils.frame_cache import FrameCache
from moca_avs.utils.prefetch import parallel_map
from moca_avs.utils.profiler import record


class Moca(FrameMethod):
    """The paper's method; without adapters it is the method `frozen` (figure 1c, step 0 of training).

    Args:
        encoder: frozen.
        adapters: trained; None leaves the encoder's own features.
        proposer: gives the masks that refine; None where ``config.refine`` is "none".
        config: every choice.
        classifier: says what the masks are; None: `Segmentation.labels` stays None.
        prefixes: keeps the last frames' states before the first adapter; None: of its own.

    Raises:
        UsageError: if the config wants proposals and there is no proposer.
    """

    def __init__(
        self,
        encoder: AudioVisualEncoder,
        adapters: AdapterSet | None,
        proposer: Proposer | None,
        config: MocaConfig | None = None,
        classifier: MaskClassifier | None = None,
        prefixes: FrameCache[Tensor] | None = None,
    ) -> None:
        self.config: MocaConfig = config or MocaConfig()
        self.encoder, self.grid, self.classifier = encoder, encoder.grid, classifier
        self.adapters = None if adapters is None else adapters.requires_grad_(False)
        self.proposer: Proposer | None = None
        if self.config.refine != "none":
            if proposer is None:
                raise UsageError(
                    f"refine={self.config.refine!r} needs a proposer; give one, or refine='none'"
                )
            self.proposer = cached_proposer(proposer)
        self._prefixes: FrameCache[Tensor] = FrameCache() if prefixes is None else prefixes
        self.settings = {
            "method": "frozen" if adapters is None else "moca",
            **self.config.to_dict(),
            "encoder": encoder_settings(encoder),
            "adapters": None if adapters is None else {**adapters.config, "weights": adapters.weights_hash()},
            "proposer": None if self.proposer is None else self.proposer.settings,
            "labels": None if classifier is None else classifier.settings,
            "versions": versions(),
        }

    @property
    def device(self) -> torch.device:
        """Where the encoder computes."""
        return torch.device(getattr(self.encoder, "device", "cpu"))

    @property
    def supports_adapter_audio(self) -> bool:
        """Whether the adapters' sound can be given apart from the rest (``adapter_clip=``)."""
        return self.adapters is not None

    def __call__(
        self,
        source: Clip | str | Path | tuple[Any, Any, int],
        audio: Any = None,
        sample_rate: int | None = None,
        *,
        adapter_clip: Clip | None = None,
    ) -> Segmentation:
        """Segment every frame of a clip.

        Args:
            source: see `FrameMethod`.
            audio: see `FrameMethod`.
            sample_rate: see `FrameMethod`.
            adapter_clip: another clip whose sound the adapters hear instead, frame by frame (the wrong-sound
                control); the gate and the choice of the mask still use the clip's own.

        Returns:
            Masks at source size. `scores` are mean cosines with the sound inside the mask, 0 where there is
            none; `reasons` are "", "silent", "no sound", "below threshold" or "no proposal"; heat maps are
            all 0 where nothing is heard.

        Raises:
            UsageError: if `adapter_clip` is silent as a file.
        """
        if adapter_clip is not None:
            adapter_clip = as_clip(adapter_clip)
        if adapter_clip is not None and not (adapter_clip.sound.size and len(adapter_clip)):
            raise UsageError("adapter_clip has no sound for the adapters to hear")
        return self.predict_batch([as_clip(source, audio, sample_rate)], adapter_clip=adapter_clip)[0]

    def predict_frames(
        self, frames: list[ClipFrame], adapter_clip: Clip | None = None
    ) -> Iterator[FramePrediction]:
        """The paper's inference on a batch of B audible frames; see `FrameMethod` and `__call__`."""
        config = self.config
        images = [downscale(frame.image, config.working_side) for frame in frames]
        with self._proposals(images) as proposals:  # found in threads meanwhile: they need no sound
            audio = self._encode_audio(frames, adapter_clip)
            for rows in lots(self.device, len(frames)):
                heard = audio.index(torch.tensor(rows, device=audio.embedding.device))
                with record("image encoder"):
                    # With adapters beside the last frozen blocks.
                    state = self._enhanced_state([frames[row].image for row in rows], heard)
                    features = self.encoder.joint_features(state)  # [B, E, h, w]
                cosine = cosine_heatmap(features, heard.embedding)  # [B, h, w] in [-1, 1]
                heat = ((1 + cosine) / 2).half().cpu().numpy()
                fine = _upsample(cosine, [images[row].shape[:2] for row in rows])
                if config.masks == "heat":
                    coarse = [top_share(one, config.heat_share) for one in fine]
                else:
                    size = (features.shape[2] * config.upsample, features.shape[3] * config.upsample)
                    joint = config.cluster_space == "joint"
                    clustered = features if joint else self.encoder.backbone_features(state)
                    with record("clustering"):
                        clusters = spherical_kmeans(
                            clustered, config.clusters, size=size, seed=config.seed, starts=config.starts
                        )
                        cosine = cosine_heatmap(features, heard.embedding, size)
                        sounding = sounding_clusters(
                            clusters.labels, cosine, config.sounding, config.sounding_threshold
                        )
                    masks = zip(sounding.cpu().numpy(), fine, strict=True)
                    coarse = [resize_mask(mask, one.shape) for mask, one in masks]
                for index, row in enumerate(rows):
                    with record("waiting for proposals"):
                        found = next(proposals)
                    yield self._match(images[row], found, coarse[index], heat[index], fine[index])

    @contextmanager
    def _proposals(self, images: list[np.ndarray]) -> Iterator[Iterator[np.ndarray | None]]:
        """Proposals of each image, made in threads while the encoder computes.

        None where they wait for the coarse mask, because it may be empty.
        """
        config = self.config
        if self.proposer is None or (config.masks == "clusters" and config.sounding == "threshold"):
            yield repeat(None)
            return
        workers = min(torch.get_num_threads(), len(images)) if is_parallel(self.proposer) else 1
        with parallel_map(self.proposer, images, workers) as found:
            yield found

    def _encode_audio(self, frames: list[ClipFrame], adapter_clip: Clip | None) -> AudioFeatures:
        """Embedding and tokens of each frame's window, each distinct window encoded once."""
        seconds = self.config.window
        audio = encode_windows(self.encoder, [frame.window(seconds) for frame in frames])
        if adapter_clip is None or self.adapters is None:
            return audio
        last, others = len(adapter_clip) - 1, []
        for frame in frames:
            window, rate = ClipFrame(adapter_clip, min(frame.index, last)).window(seconds)
            others.append((window if window.size else adapter_clip.sound, rate))
        return AudioFeatures(audio.embedding, encode_windows(self.encoder, others).tokens)

    def _enhanced_state(self, images: list[np.ndarray], audio: AudioFeatures) -> Tensor:
        """The state after the last block of images, with what adapters add for each one's sound: batch first.

        What lies before the first adapter depends on the frame alone and is kept for the last frames.
        """
        first = self.encoder.image_blocks if self.adapters is None else self.adapters.first_block

        def prefixes(new: list[int]) -> Iterator[Tensor]:
            for lot in lots(self.device, len(new)):
                prepared = prepare_frames(self.encoder, [images[new[one]] for one in lot])
                states = image_prefix(self.encoder, prepared, first)
                yield from (state.clone() for state in torch.split(states, 1))

        kept = self._prefixes.batch(images, prefixes)
        state = torch.cat(kept)  # cat keeps the memory format, stack does not
        return last_state(self.encoder, self.adapters, state, audio, first)

    def _match(
        self,
        image: np.ndarray,
        proposals: np.ndarray | None,
        coarse: np.ndarray,
        heat: np.ndarray,
        cosine: np.ndarray,
    ) -> FramePrediction:
        """Refine a coarse mask (bool [H, W]) by proposals (bool [P, H, W]); `cosine` is [H, W]."""
        config = self.config
        if not coarse.any():
            return FramePrediction(coarse, heat, 0.0, "below threshold")
        if proposals is None and self.proposer is not None:
            proposals = self.proposer(image)
        with record("matching"):
            if proposals is None:
                parts = coarse[None]
            elif config.refine == "heat":
                parts = hottest_proposal(proposals, cosine, coarse, config.area_power)[None]
            else:
                sources = connected_parts(coarse, config.max_sources, config.source_share)
                if config.refine == "best":
                    parts = np.stack([best_proposal(proposals, one, config.best_iou) for one in sources])
                else:
                    unmatched = config.when_unmatched
                    matched = [
                        match_proposals(proposals, one, config.match_iou, unmatched) for one in sources
                    ]
                    parts = np.concatenate(matched)
        mask: np.ndarray = np.any(parts, axis=0)
        if not mask.any():
            return FramePrediction(mask, heat, 0.0, "no proposal")
        score = float(cosine[mask].mean(dtype=np.float64))
        if score < config.similarity:
            return FramePrediction(np.zeros_like(mask), heat, score, "below threshold")
        return FramePrediction(mask, heat, score, "", parts)


def _upsample(cosine: Tensor, sizes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """[B, h, w] and a size (H, W) for each -> float32 [H, W] each, bilinear; runs of one size go together."""
    counts = [(size, len(list(run))) for size, run in groupby(sizes)]
    fine: list[np.ndarray] = []
    for (size, _), part in zip(counts, torch.split(cosine, [count for _, count in counts]), strict=True):
        maps = F.interpolate(part[:, None], size, mode="bilinear", align_corners=False)
        fine += list(maps[:, 0].cpu().numpy())
    return fine


def top_share(heat: np.ndarray, share: float) -> np.ndarray:
    """The hottest `share` of an image: float [H, W] -> bool [H, W], at least one position."""
    count = min(heat.size, max(1, round(share * heat.size)))
    mask: np.ndarray = heat >= np.partition(heat, heat.size - count, axis=None)[heat.size - count]
    return mask
