"""Moca with more than one cue: everything that tells what sounds is fused, and the mask follows the evidence.

Beyond the paper: its inference rests on one cue, the cosine of image features with the sound, and is
`moca_avs.methods.moca.Moca`.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from moca_avs.clip import MOTION_SECONDS, Clip
from moca_avs.cues import HEARING, SEMANTIC, Cue, check_cues
from moca_avs.encoders.preprocessing import square_tiles
from moca_avs.errors import UsageError
from moca_avs.methods.base import ClipFrame, FramePrediction, lots, silence_reasons
from moca_avs.methods.moca import Moca
from moca_avs.model.evidence import (
    FLAT,
    Fusion,
    choose_masks,
    confidence,
    evidence_grid,
    fuse,
    shipped_fusion,
    spread_out,
    standardize,
    supported,
)
from moca_avs.model.fusion import cosine_heatmap
from moca_avs.model.shots import find_cuts, shot_numbers
from moca_avs.proposals.masks import downscale
from moca_avs.utils.frame_cache import FrameCache, frame_key
from moca_avs.utils.profiler import record

PLAIN = 2.0
"""Gray levels: a picture whose channels all vary less (standard deviation) shows but compression noise."""

Evidence = tuple[np.ndarray, "np.ndarray | None"]
"""Log-odds that a position sounds, float32 [h, w], and objectness at its own resolution."""


class EvidenceMoca(Moca):
    """Masks from several cues; with adapters the semantic cue sees the features that they enhanced.

    Heat is the probability that a position sounds. `scores` are probabilities that the mask overlaps what
    sounds by more than half. `reasons` are "", "silent", "no sound", or "unsure": below `MocaConfig.unsure`,
    or score 0: a picture of one color (a fade to black), or cues that tell no position from another.

    Args:
        args: of `Moca`.
        cues: name -> cue, for all in ``config.cues`` but "semantic", which is computed here.
        fusion: the numbers; None takes those that ship.
        kwargs: of `Moca`.

    Raises:
        UsageError: where a cue is missing, or the adapters have no semantic cue to act on.
    """

    def __init__(
        self, *args: Any, cues: Mapping[str, Cue], fusion: Fusion | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.names = check_cues(self.config.cues)
        missing = [name for name in self.names if name != SEMANTIC and name not in cues]
        if missing:
            raise UsageError(f"no cue was given for {', '.join(missing)}")
        if self.adapters is not None and SEMANTIC not in self.names:
            raise UsageError(f"adapters change the cue 'semantic', which is not in cues={self.config.cues!r}")
        self.cues = {name: cues[name] for name in self.names if name != SEMANTIC}
        self.fusion = shipped_fusion() if fusion is None else fusion
        self._evidence: FrameCache[Evidence] = FrameCache(key=_evidence_key)
        self.settings |= {
            "fusion": self.fusion.to_dict(),
            "cue_settings": {name: getattr(cue, "settings", name) for name, cue in self.cues.items()},
        }

    def deaf(self) -> EvidenceMoca | None:
        """The same fusion without the cues that hear: what it can guess. None where nothing is left."""
        left = [name for name in self.names if name not in HEARING]
        if not left:
            return None
        other = copy.copy(self)
        other.names, other.adapters = left, None
        other.config = replace(self.config, cues="+".join(left))
        other.cues = {name: cue for name, cue in self.cues.items() if name in left}
        other._evidence = FrameCache(key=_evidence_key)
        other.settings = {**self.settings, "cues": other.config.cues, "adapters": None}
        return other

    @property
    def context(self) -> bool:
        """Whether it looks at the frames right before and after those it is asked for."""
        return self.config.smoothing > 0

    def heat_size(self, clip: Clip) -> tuple[int, int]:
        """See `evidence_grid`."""
        return evidence_grid(clip.frames.shape[1:3])

    def predict_frames(
        self, frames: list[ClipFrame], adapter_clip: Clip | None = None
    ) -> Iterator[FramePrediction]:
        """Cues, their fusion, and the mask that it supports; see `FrameMethod` and `Moca.__call__`."""
        images = [downscale(frame.image, self.config.working_side) for frame in frames]
        with self._proposals(images) as proposals:
            evidence = self._smoothed(frames, adapter_clip)
            for image, (log_odds, objectness) in zip(images, evidence, strict=True):
                if objectness is None:  # which alone gives masks their extent
                    log_odds = spread_out(log_odds)
                heat = expit(log_odds).astype(np.float16)
                with record("waiting for proposals"):
                    masks = next(proposals)
                with record("matching"):
                    support = supported(log_odds, objectness, image.shape[:2], self.fusion)
                    none = np.zeros((0, *support.shape), bool)
                    parts, expected = choose_masks(support, none if masks is None else masks)
                # Where no position differs from another, all of the picture is supported, which says nothing.
                blank = log_odds.std() < FLAT or image.std((0, 1)).max() < PLAIN
                score = 0.0 if blank else confidence(expected, self.fusion)
                if blank or score < self.config.unsure:
                    yield FramePrediction(np.zeros(support.shape, bool), heat, score, "unsure")
                else:
                    yield FramePrediction(np.any(parts, axis=0), heat, score, "", parts)

    def _smoothed(self, frames: list[ClipFrame], adapter_clip: Clip | None) -> Iterator[Evidence]:
        """The evidence of each frame, averaged with that of the frames `_beside` it."""
        kept = self._evidence if adapter_clip is None else FrameCache[Evidence](key=_evidence_key)
        reasons = {id(frame.clip): silence_reasons(frame.clip, self.config) for frame in frames}
        beside = [self._beside(frame, reasons[id(frame.clip)]) for frame in frames]
        needed = [*frames, *chain.from_iterable(beside)]

        def compute(new: list[int]) -> Iterator[Evidence]:
            chosen = [needed[index] for index in new]
            for frame, said in zip(chosen, self._say(chosen, adapter_clip), strict=True):
                maps = self._standardized(said, evidence_grid(frame.image.shape[:2]))
                yield fuse(maps, self.fusion), said.get("objectness")

        found = kept.batch(needed, compute)
        others = iter(found[len(frames) :])
        weight = self.config.smoothing
        for own, near in zip(found, beside, strict=False):
            parts = [own, *(next(others) for _ in near)]
            weights = [1.0, *(weight for _ in near)]
            log_odds = np.average([one for one, _ in parts], 0, weights)
            objectness = own[1] if own[1] is None else np.average([one for _, one in parts], 0, weights)
            yield log_odds.astype(np.float32), objectness

    def _beside(self, frame: ClipFrame, reasons: list[str]) -> list[ClipFrame]:
        """The frames right before and after one that are heard, too, and belong to its shot."""
        clip, index = frame.clip, frame.index
        if not self.config.smoothing:
            return []
        near = [one for one in (index - 1, index + 1) if 0 <= one < len(clip) and not reasons[one]]
        near = [one for one in near if abs(clip.times[one] - clip.times[index]) <= MOTION_SECONDS]
        moving, times = clip.motion_window(index)
        if not len(moving):  # nobody knows where it cuts, but not from a picture to the same one
            same = (one for one in near if np.array_equal(clip.frames[one], frame.image))
            return [ClipFrame(clip, one) for one in same]
        shots = shot_numbers(clip.times[[index, *near]], find_cuts(moving, times))
        return [ClipFrame(clip, one) for one, shot in zip(near, shots[1:], strict=True) if shot == shots[0]]

    def cue_maps(
        self, frames: list[ClipFrame], adapter_clip: Clip | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """What each cue says of each of a batch of audible frames: cue -> float32 [h, w], standardized.

        A cue that has nothing to say of a frame has a map of zeros.
        """
        for frame, said in zip(frames, self._say(frames, adapter_clip), strict=True):
            yield self._standardized(said, evidence_grid(frame.image.shape[:2]))

    def _say(
        self, frames: list[ClipFrame], adapter_clip: Clip | None
    ) -> Iterator[dict[str, np.ndarray | None]]:
        """What each cue says of each frame, as it says it: cue -> float32 [h, w] on any grid, or None."""
        semantic = self._semantic(frames, adapter_clip) if SEMANTIC in self.names else None
        for index, frame in enumerate(frames):
            said: dict[str, np.ndarray | None] = {} if semantic is None else {SEMANTIC: semantic[index]}
            for name, cue in self.cues.items():
                with record(f"cue {name}"):
                    said[name] = cue(frame.clip, frame.index)
            yield said

    def _standardized(
        self, said: Mapping[str, np.ndarray | None], grid: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        return {
            name: np.zeros(grid, np.float32) if found is None else standardize(name, found, grid)
            for name, found in said.items()
        }

    def _semantic(self, frames: list[ClipFrame], adapter_clip: Clip | None) -> list[np.ndarray]:
        """Cosine of each frame's positions with its sound, float32 [h, w]; wide frames in tiles."""
        audio = self._encode_audio(frames, adapter_clip)
        found: list[np.ndarray] = []
        for rows in lots(self.device, len(frames)):
            tiled = [square_tiles(frames[row].image, self.config.max_aspect) for row in rows]
            owner = [row for row, (tiles, _) in zip(rows, tiled, strict=True) for _ in tiles]
            heard = audio.index(torch.tensor(owner, device=audio.embedding.device))
            with record("image encoder"):
                state = self._enhanced_state([tile for tiles, _ in tiled for tile in tiles], heard)
                cosine = cosine_heatmap(self.encoder.joint_features(state), heard.embedding).cpu().numpy()
            pieces = iter(cosine)
            found += [np.concatenate([next(pieces) for _ in tiles], axis) for tiles, axis in tiled]
        return found


def _evidence_key(frame: ClipFrame) -> bytes:
    """What evidence depends on: the frame, and what is heard and seen around it."""
    clip, index = frame.clip, frame.index
    moving, times = clip.motion_window(index)
    heard = clip.window(index, 2 * MOTION_SECONDS)
    places = clip.times[index], clip.sound_times is None or clip.sound_times[index], clip.sample_rate
    key = hashlib.sha256(frame_key(frame.image) + repr(places).encode())
    for part in (heard, moving, times):
        key.update(part.tobytes())
    return key.digest()
