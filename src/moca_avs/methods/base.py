"""What every method is."""

from __future__ import annotations

from typing import Any, Protocol

from moca_avs.clip import Clip, Segmentation


class Method(Protocol):
    """A way to segment a clip.

    Attributes:
        settings: JSON-able, everything needed to build it again, weights' hashes included.
    """

    settings: dict[str, Any]

    def __call__(self, clip: Clip) -> Segmentation:
        """Masks of what sounds, at source size, one per frame."""
        ...
