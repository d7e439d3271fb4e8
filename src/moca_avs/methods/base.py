"""What every method is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from moca_avs.clip import Clip, Segmentation

if TYPE_CHECKING:
    import torch


class Method(Protocol):
    """A way to segment a clip.

    Attributes:
        settings: JSON-able, everything needed to build it again, weights' hashes included.
    """

    settings: dict[str, Any]

    def __call__(self, clip: Clip) -> Segmentation:
        """Masks of what sounds, at source size, one per frame."""
        ...


@runtime_checkable
class Batched(Method, Protocol):
    """A method whose networks take frames of several clips at once."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def many(self, clips: Sequence[Clip]) -> list[Segmentation]:
        """A result per clip, as from asking about each alone up to the rounding of batched arithmetic.

        Args:
            clips: with pictures of any sizes and sounds of any sample rates; pieces of one film may be among
                them.
        """
        ...
