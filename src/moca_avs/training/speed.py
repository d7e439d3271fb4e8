"""How fast, not what: options of a training run that its identity does not name one by one."""

from __future__ import annotations

from dataclasses import dataclass

from moca_avs.devices import Precision

CACHE_LIMIT = 8 * 10**9
"""Bytes; most that the cache of constant states takes if nothing else is said."""


@dataclass(frozen=True)
class Speed:
    """How a run is computed. The defaults give the same bits on a CPU as no options at all."""

    precision: Precision = "auto"
    """Arithmetic of the frozen models and the adapters; the matching cost never sinks below float32. "auto"
    is float32, except on a GPU that is good at bfloat16 or float16. Part of what a resumed run must share."""
    checkpoint_activations: bool = False
    """Forget what is inside adapted blocks and compute it again going backwards: less memory, more time,
    the same result."""
    compile: bool = False
    """Let torch compile the adapted blocks and the matching: a slow start, then faster; needs a C++ compiler.
    Sums may be ordered otherwise, so results differ by rounding (relative 1e-4 in float32, as tested)."""
