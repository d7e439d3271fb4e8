"""Duets: two real clips in one picture, the sound of one. Whoever cannot hear has no way to tell which."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from moca_avs.clip import MOTION_SECONDS, Clip
from moca_avs.data.base import Sample, SceneObject
from moca_avs.errors import DataError, UsageError
from moca_avs.io.frames import fitted_size, probe
from moca_avs.io.motion_frames import SMALL
from moca_avs_bench.data.video_manifest import (
    GATE_WINDOW,
    ManifestEntry,
    check_split,
    one_kind,
    read_manifest,
)

PAIRS = 240
"""Pairs of clips of different kinds that are drawn at most, and of one kind."""
LONGER = 768
"""Pixels of a duet's longer side, at most."""
TIERS = ("different kinds", "one kind", "same clip twice")
SHIFTS = (2.5, -2.5, 1.5, -1.5)
"""Seconds by which the second picture of a clip may be later: the first that is in the video, and audible."""
SEPARATOR = "\t"
"""Between the two clips in a sample's `cluster`, which is one clip where both are."""
_KEPT = 32  # decoded clips, about 5 MB each at 720p


class DuetSet:
    """Pairs of clips of a manifest as single pictures (an `EvaluationSet` of the kind "duets").

    Two clips stand one above the other or side by side, whichever is nearer to a square, at equal width or
    height and in their own proportions; their `time_s` coincide. A sample has the sound of the first (the
    upper or left one); its `swapped` is the same picture with the sound of the other. Clips whose `time_s` is
    silent are left out. `tier` tells pairs of different kinds from pairs of one kind
    (`video_manifest.kind_of`), and from clips beside themselves a few seconds later (`SHIFTS`): alike but for
    what moves when.

    Args:
        root: folder of ``manifest.csv`` (`video_manifest`); boxes are not needed.
        split: "test".
        tier: None.
        pairs: of each tier, at most; the first two are drawn evenly over the clips.
        seed: of the draw, and of which clip comes first.

    Attributes:
        silent: ids of the clips that were left out.

    Raises:
        DataError: as `read_manifest`; where a video or its kind is missing, or no two clips are audible.
        MediaError: where a video is damaged.
    """

    name, split, kind = "duets", "test", "duets"

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        tier: str | None = None,
        *,
        pairs: int = PAIRS,
        seed: int = 0,
    ) -> None:
        check_split(self.name, split, tier)
        entries = read_manifest(root, boxes=False)
        for entry in entries:
            if not entry.path.is_file() or not entry.kind:
                lacks = (
                    "a kind (column kind or what_sounds)"
                    if entry.path.is_file()
                    else f"its video {entry.path}"
                )
                raise DataError(f"clip {entry.id} of {root} has not {lacks}; duets need both for every clip")
        audible = [entry for entry in entries if entry.audible()]
        self.silent = [entry.id for entry in entries if entry not in audible]
        self._pairs = {
            f"{first.id}+{second.id}": (first, second) for first, second in draw_pairs(audible, pairs, seed)
        }
        if not self._pairs:
            raise DataError(f"{root} has {len(audible)} clips that can be heard; duets need at least two")
        for entry in audible[:pairs]:
            if other := at_another_time(entry):
                self._pairs[f"{entry.id}+{entry.id}@{other.time:g}"] = (entry, other)
        self._clip = lru_cache(_KEPT)(ManifestEntry.clip)

    @property
    def ids(self) -> list[str]:
        """``FIRST+SECOND``: pairs of different kinds, those of one kind, then ``CLIP+CLIP@TIME``."""
        return list(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def categories(self) -> dict[str, str]:
        """Kind of each duet's first clip."""
        return {one: first.kind for one, (first, _) in self._pairs.items()}

    def load(self, sample_id: str) -> Sample:
        """Compose one duet; DataError or MediaError where a clip can't be read."""
        if sample_id not in self._pairs:
            raise UsageError(f"no duet {sample_id!r} in this set")
        entries = self._pairs[sample_id]
        first, second = compose(self._clip(entries[0]), self._clip(entries[1]))
        masks = halves(*(self._clip(entry).frames.shape[1:3] for entry in entries))
        alike = one_kind(entries[0].kind, entries[1].kind) + (entries[0].id == entries[1].id)
        objects = tuple(
            SceneObject(mask[None], np.array([heard]), entry.kind, entry.id, entry.id)
            for mask, entry, heard in zip(masks, entries, (True, False), strict=True)
        )
        return Sample(
            id=sample_id,
            clip=first,
            masks=masks[:1],
            category=entries[0].kind,
            cluster=SEPARATOR.join(dict.fromkeys(entry.id for entry in entries)),
            tier=TIERS[alike],
            objects=objects,
            swapped=(second, masks[1:]),
        )


def draw_pairs(
    entries: list[ManifestEntry], count: int, seed: int
) -> list[tuple[ManifestEntry, ManifestEntry]]:
    """At most `count` pairs of different kinds, then at most `count` of one kind.

    Of the pairs in random order that one comes next whose clips have been taken least often so far, so that
    no clip dominates.
    """
    rng = np.random.default_rng(seed)
    every = [(a, b) if rng.random() < 0.5 else (b, a) for a, b in combinations(entries, 2)]
    every = [every[index] for index in rng.permutation(len(every))]
    drawn = []
    for alike in (False, True):
        left = [pair for pair in every if one_kind(pair[0].kind, pair[1].kind) is alike]
        used = dict.fromkeys((entry.id for entry in entries), 0)
        for _ in range(min(count, len(left))):
            pair = left.pop(min(range(len(left)), key=lambda i: sum(used[one.id] for one in left[i])))
            drawn.append(pair)
            for entry in pair:
                used[entry.id] += 1
    return drawn


def at_another_time(entry: ManifestEntry) -> ManifestEntry | None:
    """The same clip, looked at by one of `SHIFTS` later; None where it is too short or silent then."""
    end = probe(entry.path).duration - GATE_WINDOW / 2
    others = (replace(entry, time=entry.time + shift) for shift in SHIFTS)
    return next((other for other in others if 0 <= other.time < end and other.audible()), None)


def compose(first: Clip, second: Clip) -> tuple[Clip, Clip]:
    """One picture of two clips of one frame each, with the sound of the first, and with that of the second.

    The common time of the frame is `MOTION_SECONDS`. `motion_frames` are stacked like the frames, at the
    times of the clip that has more of them, each with the other's nearest; None where one has none.
    """
    clips = (first, second)
    sizes, axis = layout(*(clip.frames.shape[1:3] for clip in clips))
    frame = np.concatenate(
        [_resized(clip.frames[0], size) for clip, size in zip(clips, sizes, strict=True)], axis
    )
    motion_frames, motion_times = _stacked_motion(clips, sizes, axis)
    shifts = [MOTION_SECONDS - float(clip.times[0]) for clip in clips]
    composed = [
        Clip(
            frames=frame[None],
            times=np.array([MOTION_SECONDS]),
            sound=clip.sound,
            sample_rate=clip.sample_rate,
            source=f"{first.source} + {second.source}",
            sound_start=clip.sound_start + shift,
            noise_floor=clip.noise_floor,
            loudest=clip.loudest,
            motion_frames=motion_frames,
            motion_times=motion_times,
        )
        for clip, shift in zip(clips, shifts, strict=True)
    ]
    return composed[0], composed[1]


def layout(first: tuple[int, int], second: tuple[int, int]) -> tuple[list[tuple[int, int]], int]:
    """Sizes that two pictures get in a duet, and how they stand.

    Args:
        first: height and width of one.
        second: of the other.

    Returns:
        ([(h, w), (h, w)], axis): 0, one above the other at equal width; 1, side by side at equal height;
        whichever is nearer to a square. Nothing is enlarged, and the longer side is at most `LONGER`.
    """
    pictures = (first, second)
    options = []
    for axis in (0, 1):
        across = min(size[1 - axis] for size in pictures)  # the side that both have in common
        along = [size[axis] * across / size[1 - axis] for size in pictures]
        scale = min(1.0, LONGER / max(across, sum(along)))
        lengths = [max(round(length * scale), 1) for length in along]
        side = max(round(across * scale), 1)
        sizes = [(length, side) if axis == 0 else (side, length) for length in lengths]
        options.append((abs(math.log(sum(along) / across)), axis, sizes))
    _, axis, sizes = min(options)
    return sizes, axis


def halves(first: tuple[int, int], second: tuple[int, int]) -> np.ndarray:
    """Where the two pictures of a `layout` are: bool [2, H, W]."""
    sizes, axis = layout(first, second)
    parts = [np.full(size, index) for index, size in enumerate(sizes)]
    owner = np.concatenate(parts, axis)
    return np.stack([owner == 0, owner == 1])


def _stacked_motion(
    clips: tuple[Clip, Clip], sizes: list[tuple[int, int]], axis: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    tracks = []
    for clip in clips:
        if clip.motion_frames is None or clip.motion_times is None or not len(clip.motion_times):
            return None, None
        tracks.append((clip.motion_frames, clip.motion_times - clip.times[0]))
    times = max((track[1] for track in tracks), key=len)
    whole = [max(size[0] for size in sizes), max(size[1] for size in sizes)]
    whole[axis] = sum(size[axis] for size in sizes)
    height, width = fitted_size(whole[0], whole[1], *SMALL)
    cut = round((height, width)[axis] * sizes[0][axis] / whole[axis])
    small = [(cut, width), (height - cut, width)] if axis == 0 else [(height, cut), (height, width - cut)]
    parts = []
    for (frames, own), size in zip(tracks, small, strict=True):
        resized = np.stack([_resized(frame, size) for frame in frames])
        parts.append(resized[np.abs(own[None] - times[:, None]).argmin(1)])
    return np.concatenate(parts, axis + 1), times + MOTION_SECONDS


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    return np.asarray(
        Image.fromarray(image).resize(
            size[::-1], Image.Resampling.BOX if image.ndim == 2 else Image.Resampling.LANCZOS
        )
    )
