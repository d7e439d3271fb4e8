"""Is anything to be heard? Levels in dBFS, the noise floor of a recording, and the gate (paper figure 1).

Room noise is not digital zero, so one absolute level is not enough. A window is silent where its loudest
block is below an absolute level, or not clearly above the quiet parts of its own recording. Quiet parts only
tell of room noise if they are quiet in absolute terms as well: a recording that is loud throughout has none.

Levels are of the root mean square: a full-scale square wave is 0 dBFS, a full-scale sine -3.01 dBFS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moca_avs.errors import UsageError

LOWEST = -120.0
"""dBFS given to digital silence (and to no samples at all)."""

_PADDING = -90.0  # dBFS; below, a block is padding (or dither) and says nothing of the room


@dataclass(frozen=True)
class SilenceConfig:
    """The gate's levels.

    The defaults stand in the middle of what measured best on 3,000 seconds mixed from stamps' validation
    sounds over room noise: any margin from 8 to 12 dB found every silent second and called none silent that
    was not.
    """

    absolute: float = -60.0
    """dBFS; a window whose loudest block is below is silent, whatever the recording."""
    margin: float = 9.0
    """dB by which the loudest block must stand out from the recording's noise floor."""
    ceiling: float = -45.0
    """dBFS; quiet parts above this are not room noise, and the margin does not apply."""
    block: float = 0.05
    """Seconds per block: short enough for one bark, long enough for a low note."""
    percentile: float = 10.0
    """Of the block levels: the noise floor."""

    def __post_init__(self) -> None:
        if not (self.block > 0 and 0 <= self.percentile <= 100):
            raise UsageError(
                f"block must be positive and percentile in 0..100, found {self.block} and {self.percentile}"
            )


def level(sound: np.ndarray) -> float:
    """Level of a whole sound, float32 [N], in dBFS; at least `LOWEST`."""
    return float(block_levels(sound, max(len(sound), 1), 1.0)[0])


def block_levels(sound: np.ndarray, rate: int, seconds: float = 0.05) -> np.ndarray:
    """Levels of consecutive blocks.

    Args:
        sound: float32 [N], mono, in [-1, 1].
        rate: in Hz.
        seconds: length of a block; what is left over at the end is not counted, unless it is all there is.

    Returns:
        float64 [max(1, blocks)] in dBFS, at least `LOWEST`.
    """
    size = max(1, round(seconds * rate))
    count = len(sound) // size
    blocks = sound[: count * size].reshape(count, size) if count else sound[None]
    power = np.square(blocks, dtype=np.float64).sum(1) / max(blocks.shape[1], 1)
    return np.maximum(10 * np.log10(np.maximum(power, 1e-30)), LOWEST)


def noise_floor(levels: np.ndarray, config: SilenceConfig | None = None) -> float:
    """Level of a recording's quiet parts.

    Args:
        levels: float64 [B] in dBFS, from `block_levels` over the whole recording (any order, any number).
        config: its percentile; None takes the defaults.

    Returns:
        dBFS. Digital silence does not count as a quiet part (files are often padded with it): `LOWEST` where
        there is nothing else.
    """
    config = config or SilenceConfig()
    heard = levels[levels > _PADDING]
    return float(np.percentile(heard, config.percentile)) if heard.size else LOWEST


def is_silent(window: np.ndarray, rate: int, floor: float, config: SilenceConfig | None = None) -> bool:
    """Whether nothing stands out in a window of sound.

    Args:
        window: float32 [N]; N = 0 is silent.
        rate: in Hz.
        floor: of the recording, from `noise_floor`, in dBFS.
        config: the levels; None takes the defaults.
    """
    config = config or SilenceConfig()
    loudest = float(block_levels(window, rate, config.block).max())
    if loudest < config.absolute:
        return True
    return floor <= config.ceiling and loudest < floor + config.margin
