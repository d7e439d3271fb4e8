"""How fast, not what: options of a training run that its identity does not name one by one.

Every choice of a training run, as data. The defaults are the paper's (arXiv 2403.14203, section 4).
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from moca_avs.errors import UsageError
from moca_avs.utils.device import PrecisionName

CACHE_LIMIT = 8 * 10**9
"""Bytes; most that the cache of constant states takes if nothing else is said."""

_IN_FILE = {"triplet": "paper", "audio_swap_triplet": "mismatched", "infonce": "listening"}
_FROM_FILE = {stored: name for name, stored in _IN_FILE.items()}


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
class TrainConfig:
    """What to train and how; equal configs, data, weights and machine give bit-equal adapters.

    Raises:
        UsageError: on a value outside its range or of another type.
    """

    objective: Literal["triplet", "audio_swap_triplet", "infonce", "paper", "mismatched", "listening"] = (
        "triplet"
    )
    """The paper's triplet loss; the same image with another sound as the negative; InfoNCE over the batch.
    The last three are the names up to 0.1: still accepted, and what files hold."""
    lr: float = 1e-4
    """Adam's learning rate at step 0; it follows a cosine down to 0 at the last step."""
    steps: int = 10_000
    """Optimizer steps."""
    batch: int = 8
    """Anchors per step (each brings its own positive and negative)."""
    margin: float = 0.3
    """Alpha of the triplet loss, in units of the matching cost."""

    window: int = 3
    """Side of the square matching window, in map positions; odd."""
    ssd: float = 1.0
    """Weight of the squared differences in the matching cost."""
    ncc: float = 1.0
    """Weight of the normalized correlation in the matching cost."""
    ncc_form: Literal["one_minus", "literal"] = "one_minus"
    """How NCC enters the cost: as 1 - NCC, or as it stands (the paper's equation as printed)."""
    max_disparity: int | None = None
    """Farthest match along a row, in map positions; None is the whole row."""
    weighting: Literal["uniform", "audio"] = "uniform"
    """Mean over positions: all alike, or by their similarity to the sound."""
    aggregation: Literal["matching", "pool"] = "matching"
    """Compare by pixel matching, or average each map to one vector first (the ablation without PMA)."""
    feature_space: Literal["joint", "trunk"] = "joint"
    """Features compared: sent through the frozen head into the joint space, or the trunk's own."""

    placement: Literal["last", "first", "interleaved"] = "last"
    """Which image blocks get adapters."""
    count: int = 6
    """Adapted image blocks."""
    latents: int = 4
    """Latent tokens that gather the sound, per module."""
    bottleneck: int = 32
    """Width of an adapter's bottleneck, in channels."""
    share_sites: bool = False
    """One module for all sites of a block (layout Q) instead of one per site (layout P)."""

    neighbours: int = 10
    """K of the nearest-neighbour table: positives come from the top K, negatives from outside it."""
    allow_same_clip: bool = False
    """Whether another frame of the anchor's own clip may be its positive."""
    pairing: str = "auto"
    """Space of the images' neighbours: "encoder" (its own image feature), "dino" (the paper), or the Hub id
    or folder of another ViT of DINO's family; "auto" is "dino" for imagebind, "encoder" for lite."""
    neighbour_search: Literal["exact", "faiss"] = "exact"
    """How neighbours are found; both are exact, faiss (an extra) may be quicker past a million images."""
    seed: int = 0
    """Draws the adapters' start, the anchors and their partners; >= 0."""
    image_size: int | None = None
    """Side of the square model input, in pixels; None is the encoder's own."""
    cache_dtype: Literal["float32", "float16"] = "float32"
    """Cached states: float32 changes nothing, float16 halves the room they take."""

    checkpoint_every: int = 500
    """Steps between checkpoints (the last step always has one)."""
    log_every: int = 1
    """Steps between lines of log.jsonl."""
    deterministic: bool = True
    """Use only kernels that give equal bits for equal input (slower on a GPU)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "objective", _FROM_FILE.get(self.objective, self.objective))
        self._check_choices()
        self._check_ranges()
        if self.objective == "infonce" and self.feature_space != "joint":
            raise UsageError(
                'objective="infonce" compares positions with the sound: it needs feature_space="joint", '
                f"found {self.feature_space!r}"
            )
        if self.weighting == "audio" and (self.feature_space, self.aggregation) != ("joint", "matching"):
            raise UsageError(
                'weighting="audio" compares positions with the sound: it needs feature_space="joint" and '
                f'aggregation="matching", found {self.feature_space!r} and {self.aggregation!r}'
            )

    def _check_choices(self) -> None:
        hints = get_type_hints(type(self))
        for name, hint in hints.items():
            value = getattr(self, name)
            if get_origin(hint) is Literal and value not in get_args(hint):
                raise UsageError(f"{name} must be one of {', '.join(get_args(hint))}; found {value!r}")
            if hint is bool and not isinstance(value, bool):
                raise UsageError(f"{name} must be true or false, found {value!r}")
        if not isinstance(self.pairing, str) or not self.pairing:
            raise UsageError(f"pairing must be a name, a Hub id or a folder, found {self.pairing!r}")

    def _check_ranges(self) -> None:
        for name in ("steps", "batch", "window", "count", "latents", "bottleneck", "neighbours"):
            self._at_least(name, 1)
        for name in ("checkpoint_every", "log_every"):
            self._at_least(name, 1)
        for name in ("seed", "lr", "margin", "ssd", "ncc"):
            self._at_least(name, 0)
        for name in ("max_disparity", "image_size"):
            if getattr(self, name) is not None:
                self._at_least(name, 0 if name == "max_disparity" else 1)
        if self.window % 2 == 0:
            raise UsageError(f"window must be odd, so that it has a center; found {self.window}")
        if self.ssd == 0 and self.ncc == 0:
            raise UsageError("ssd and ncc are both 0: the matching cost would always be 0; give one a weight")

    def _at_least(self, name: str, lowest: int) -> None:
        value = getattr(self, name)
        real = name in ("lr", "margin", "ssd", "ncc")
        kinds = (int, float) if real else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds) or not lowest <= value < math.inf:
            kind = "finite number" if real else "whole number"
            raise UsageError(f"{name} must be a {kind} of at least {lowest}, found {value!r}")

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain JSON data; the objective by the name that run folders and caches know."""
        return asdict(self) | {"objective": _IN_FILE[self.objective]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """The inverse of `to_dict`; missing fields take their defaults.

        Raises:
            UsageError: on a name that is no field.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise UsageError(f"unknown training settings {unknown}; was it written by a newer moca-avs?")
        return cls(**values)

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
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} must be a JSON file of training settings: {error}") from error
        if not isinstance(values, dict):
            raise UsageError(f"{path} must hold a JSON object, found {type(values).__name__}")
        return cls.from_dict(values)

    def hash(self) -> str:
        """SHA-256 (hex) of the settings; equal exactly when they are."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
