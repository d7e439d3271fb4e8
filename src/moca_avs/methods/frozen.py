"""MoCA with nothing trained: the frozen encoder's own audio-pixel association (paper figure 1c)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from moca_avs.clip import Clip, Segmentation
from moca_avs.encoders.base import AudioVisualEncoder
from moca_avs.methods.base import MaskClassifier
from moca_avs.methods.config import MocaConfig
from moca_avs.methods.moca import Moca
from moca_avs.proposals.base import Proposer


class Frozen:
    """Same features, clustering and refinement as `Moca`, without adapters; also step 0 of its training.

    Args:
        encoder: frozen.
        proposer: gives the masks that refine; None where ``config.refine`` is "none".
        config: every choice.
        classifier: says what the masks are; None: `Segmentation.labels` stays None.

    Raises:
        UsageError: if the config wants proposals and there is no proposer.
    """

    def __init__(
        self,
        encoder: AudioVisualEncoder,
        proposer: Proposer | None,
        config: MocaConfig | None = None,
        classifier: MaskClassifier | None = None,
    ) -> None:
        self._moca = Moca(encoder, None, proposer, config, "frozen", classifier)
        self.settings = self._moca.settings

    def __call__(self, clip: Clip) -> Segmentation:
        """Segment every frame of a clip; see `Moca`."""
        return self._moca(clip)

    def predict_batch(self, clips: Sequence[Clip]) -> list[Segmentation]:
        """Segment several clips, their frames in common batches; see `BatchedMethod`."""
        return self._moca.predict_batch(clips)

    @property
    def device(self) -> torch.device:
        """Where the encoder computes."""
        return self._moca.device
