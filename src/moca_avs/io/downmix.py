"""Several channels of sound to the one that is heard.

One and two channels are averaged, and so are those whose positions the file does not tell. Where it does,
they are weighed as Recommendation ITU-R BS.775 does for one channel (annex 4, 3/2 to 1/0): center 1, front
left and right 0.7071, each surround 0.5, the low-frequency channel left out. These add up to 3.4, so they are
made smaller where the mix would be more powerful than its loudest channel, or beyond full scale (`excess`):
what is in the center alone is as loud as in a mono file, and so is what all channels have alike.

Weights are chosen once for a whole recording, by what its channels have in common: where they cancel each
other, or nearly all of them are empty, others take the place of these (`file_weights`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SIDE = 0.5**0.5
# By FFmpeg's name of the position. Beyond BS.775: whatever is behind or above is a surround.
_POSITIONS = (
    {"FC": 1.0, "LFE": 0.0, "LFE2": 0.0, "BC": _SIDE, "TC": 0.5, "TFC": 0.5, "TBC": 0.5}
    | dict.fromkeys(("FL", "FR", "FLC", "FRC", "WL", "WR"), _SIDE)
    | dict.fromkeys(("SL", "SR", "BL", "BR", "SDL", "SDR"), 0.5)
    | dict.fromkeys(("TFL", "TFR", "TBL", "TBR", "TSL", "TSR"), 0.5)
)
_LOST = 10**-0.6  # power: 6 dB
# A low-frequency channel is heard only where it is all there is: 20 dB more than what the others need.
_LOW = 0.01
_EMPTY = 0.01  # a channel 20 dB below the loudest
_AGAINST = 0.1  # correlation; what has nothing in common correlates a little by chance


def position_weights(positions: Sequence[str]) -> np.ndarray | None:
    """Weights of channels by FFmpeg's names of their positions: float64 [C]; None stands for the average."""
    if len(positions) <= 2 or not set(positions) <= set(_POSITIONS):
        return None
    weights = np.array([_POSITIONS[name] for name in positions])
    heard = weights > 0
    if not heard.any():
        return None
    return weights if heard.sum() > 2 else heard / heard.sum()


def mono(planes: np.ndarray, weights: np.ndarray | None = None, limit: bool = True) -> np.ndarray:
    """The weighted sum of the channels (None: their average): float32 [C, n] -> float32 [n].

    It is in [-1, 1], unless `limit` is false.
    """
    if weights is None:
        return planes[0] if len(planes) == 1 else planes.mean(0, dtype=np.float32)
    # Not a matrix product, whose rounding depends on how a sound is cut into blocks.
    mixed = (weights[:, None].astype(np.float32) * planes).sum(0)
    return np.clip(mixed, -1, 1) if limit else mixed


def file_weights(products: np.ndarray, weights: np.ndarray | None) -> np.ndarray | None:
    """The weights for a whole recording.

    Args:
        products: float64 [C, C], the mean product of each two channels; the diagonal is their power.
        weights: of the channels by their positions, from `position_weights`.

    Returns:
        `weights` as given, unless the mix loses more than 6 dB: against the mean power of two channels where
        they cancel each other, against that of four or more of which only one sounds. (Channels that have
        nothing in common lose no more than averaging them costs, and stay as they are.) Then the first of
        these that keeps it: the same, with the sign of what runs against the loudest channel turned; the
        average of the channels that are at most 20 dB below the loudest, turned so; the loudest alone.
    """
    power = np.diag(products)
    plain = np.full(len(power), 1 / len(power)) if weights is None else weights
    counted = np.where(plain > 0, power, _LOW * power)

    def keeps(mix: np.ndarray) -> bool:
        mixed = mix @ products @ mix
        return bool(mixed >= 2 * _LOST * (mix**2 @ power) and mixed >= _LOST**2 * counted.max())

    if keeps(plain):
        return weights
    loudest = int(counted.argmax())
    against = products[loudest] < -_AGAINST * np.sqrt(power * power[loudest])
    signs = np.where(against, -1.0, 1.0)
    sounding = signs * (counted >= _EMPTY * counted[loudest])
    alone = np.eye(len(power))[loudest]
    return next(mix for mix in (signs * plain, sounding / np.abs(sounding).sum(), alone) if keeps(mix))


def excess(products: np.ndarray, weights: np.ndarray, peak: float) -> float:
    """By what weights have to be divided, so that a mix is no louder than its loudest channel: 1 or more.

    Args:
        products: as of `file_weights`.
        weights: float64 [C].
        peak: of the mix, full scale = 1.
    """
    loudest = float(np.diag(products)[weights != 0].max())
    mixed = float(weights @ products @ weights)
    return max(1.0, peak, (mixed / loudest) ** 0.5 if loudest > 0 else 1.0)
