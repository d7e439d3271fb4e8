"""How fast, not what: options of a training run that its identity does not name one by one.

Every choice of a training run, as data. The defaults are the paper's (arXiv 2403.14203, section 4).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from moca_avs.errors import UsageError
from moca_avs.utils.device import PrecisionName
from moca_avs.utils.files import parse_json
from moca_avs.utils.settings import Count, NonNegative, Range, Seed, Settings

CACHE_LIMIT = 8 * 10**9
"""Bytes; most that the cache of precomputed features takes if nothing else is said."""

_IN_FILE = {
    "triplet": "paper",
    "audio_swap_triplet": "mismatched",
    "infonce": "listening",
    "synchrony": "synchrony",
}
_FROM_FILE = {stored: name for name, stored in _IN_FILE.items()}


_NEUTRAL = ("checkpoint_every", "log_every", "neighbour_search")


def may_differ(name: str, old: Any, new: Any) -> bool:
    """Whether a resumed run may have another value of a setting: one that changes no step it has taken."""
    return old == new or name in _NEUTRAL or (name == "steps" and new > old)


@dataclass(frozen=True)
class RuntimeConfig:
    """How a run is computed. The defaults give the same bits on a CPU as no options at all."""

    precision: PrecisionName = "auto"
    """Arithmetic of the frozen models and the adapters; the matching cost never sinks below float32. "auto"
    is float32, except on a GPU that is good at bfloat16 or float16. Part of what a resumed run must share."""
    checkpoint_activations: bool = False
    """Forget what is inside adapted blocks and compute it again going backwards: less memory, more time,
    the same result."""
    compile: bool = False
    """Let torch compile the adapted blocks and the matching: a slow start, then faster; needs a C++ compiler.
    Sums may be ordered otherwise, so results differ by rounding (relative 1e-4 in float32, as tested)."""


@dataclass(frozen=True)
class TrainConfig(Settings):
    """What to train and how; equal configs, data, weights and machine give bit-equal adapters.

    Raises:
        UsageError: on a value outside its range or of another type.
    """

    group: ClassVar[str] = "training settings"

    objective: Literal[
        "triplet", "audio_swap_triplet", "infonce", "synchrony", "paper", "mismatched", "listening"
    ] = "triplet"
    """The paper's triplet loss; the same image with another sound as the negative; InfoNCE over the batch;
    what moves with the sound against the sound of another time (a folder of videos, or a `MovingSet`).
    The last three are the names up to 0.1: still accepted, and what files hold."""
    lr: NonNegative = 1e-4
    """Adam's learning rate at step 0; it follows a cosine down to 0 at the last step."""
    steps: Count = 10_000
    """Optimizer steps."""
    batch: Count = 8
    """Anchors per step (each brings its own positive and negative)."""
    margin: NonNegative = 0.3
    """Alpha of the triplet loss, in units of the matching cost."""

    window: Count = 3
    """Side of the square matching window, in map positions; odd."""
    ssd: NonNegative = 1.0
    """Weight of the squared differences in the matching cost."""
    ncc: NonNegative = 1.0
    """Weight of the normalized correlation in the matching cost."""
    ncc_form: Literal["one_minus", "literal"] = "one_minus"
    """How NCC enters the cost: as 1 - NCC, or as it stands (the paper's equation as printed)."""
    max_disparity: Annotated[int, Range(0)] | None = None
    """Farthest match along a row, in map positions; None is the whole row."""
    weighting: Literal["uniform", "audio"] = "uniform"
    """Mean over positions: all alike, or by their similarity to the sound."""
    aggregation: Literal["matching", "pool"] = "matching"
    """Compare by pixel matching, or average each map to one vector first (the ablation without PMA)."""
    feature_space: Literal["joint", "trunk"] = "joint"
    """Features compared: sent through the frozen head into the joint space, or the trunk's own."""

    placement: Literal["last", "first", "interleaved"] = "last"
    """Which image blocks get adapters."""
    count: Count = 6
    """Adapted image blocks."""
    latents: Count = 4
    """Latent tokens that gather the sound, per module."""
    bottleneck: Count = 32
    """Width of an adapter's bottleneck, in channels."""
    share_sites: bool = False
    """One module for all sites of a block (layout Q) instead of one per site (layout P)."""

    neighbours: Count = 10
    """K of the nearest-neighbour table: positives come from the top K, negatives from outside it."""
    allow_same_clip: bool = False
    """Whether another frame of the anchor's own clip may be its positive."""
    pairing: str = "auto"
    """Space of the images' neighbours: "encoder" (its own image feature), "dino" (the paper), or the Hub id
    or folder of another ViT of DINO's family; "auto" is "dino" for imagebind, "encoder" for lite."""
    neighbour_search: Literal["exact", "faiss"] = "exact"
    """How neighbours are found; both are exact, faiss (an extra) may be quicker past a million images."""
    seed: Seed = 0
    """Draws the adapters' start, the anchors and their partners; >= 0."""
    image_size: Count | None = None
    """Side of the square model input, in pixels; None is the encoder's own."""
    cache_dtype: Literal["float32", "float16"] = "float32"
    """Cached states: float32 changes nothing, float16 halves the room they take."""

    checkpoint_every: Count = 500
    """Steps between checkpoints (the last step always has one)."""
    log_every: Count = 1
    """Steps between lines of log.jsonl."""
    deterministic: bool = True
    """Use only kernels that give equal bits for equal input (slower on a GPU)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "objective", _FROM_FILE.get(str(self.objective), self.objective))
        super().__post_init__()
        if self.window % 2 == 0:
            raise UsageError(f"window must be odd, so that it has a center; found {self.window}")
        if self.ssd == 0 and self.ncc == 0:
            raise UsageError("ssd and ncc are both 0: the matching cost would always be 0; give one a weight")
        if self.objective in ("infonce", "synchrony") and self.feature_space != "joint":
            raise UsageError(
                f'objective="{self.objective}" compares positions with the sound: it needs '
                f'feature_space="joint", found {self.feature_space!r}'
            )
        if self.weighting == "audio" and (self.feature_space, self.aggregation) != ("joint", "matching"):
            raise UsageError(
                'weighting="audio" compares positions with the sound: it needs feature_space="joint" and '
                f'aggregation="matching", found {self.feature_space!r} and {self.aggregation!r}'
            )

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain JSON data; the objective by the name that run folders and caches know."""
        return super().to_dict() | {"objective": _IN_FILE[self.objective]}

    def save(self, path: str | Path) -> None:
        """Write it as JSON (a recipe that `load` reads)."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> TrainConfig:
        """Read what `save` wrote.

        Raises:
            UsageError: where the file is missing, no JSON object, or names unknown fields.
        """
        try:
            values = parse_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} must be a JSON file of training settings: {error}") from error
        if not isinstance(values, dict):
            raise UsageError(f"{path} must hold a JSON object, found {type(values).__name__}")
        return cls.from_dict(values)

    def hash(self) -> str:
        """SHA-256 (hex) of the settings; equal exactly when they are."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
