"""The sound networks that `LiteEncoder` can stand on: YAMNet (`lite`) and SoundNet-8 (`lite-soundnet`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from moca_avs.encoders import lite_networks as soundnet
from moca_avs.encoders import yamnet
from moca_avs.encoders.preprocessing import center_crop_at, resample_audio


@dataclass(frozen=True)
class TrunkOutput:
    """What a sound trunk makes of B sounds.

    Attributes:
        states: per layer, [B, C, n], in the order of time.
        features: [B, F], what the audio head reads.
        logits: the network's own ImageNet logits [B, 1000]; None where it has none.
    """

    states: list[Tensor]
    features: Tensor
    logits: Tensor | None = None


class SoundTrunk(nn.Module):
    """A frozen sound network.

    Attributes:
        encoder_name: what a `LiteEncoder` on this trunk is called.
        asset: where its weights are, a key of `moca_avs.hub.catalog.ASSETS`.
        widths: channels of each layer that adapters may read.
        features: F, how many numbers the audio head reads.
    """

    encoder_name: str
    asset: str
    widths: tuple[int, ...]
    features: int

    def prepare(self, sound: np.ndarray, sample_rate: int) -> np.ndarray:
        """float32 [N >= 1] mono at any rate -> float32 network input, of one shape for every sound.

        Raises:
            MediaError: for an empty sound.
        """
        raise NotImplementedError

    def forward(self, sounds: Tensor) -> TrunkOutput:
        """A batch of `prepare` outputs -> states and features."""
        raise NotImplementedError


class YamnetTrunk(SoundTrunk):
    """YAMNet on four patches of .975 s, evenly spread over the sound.

    Four cover the usual two seconds; of a sound longer than 3.9 s they leave parts out.
    """

    encoder_name = "lite"
    asset = "yamnet"
    widths = tuple(width for _, width in yamnet.LAYERS)
    features = 2 * yamnet.FEATURES
    patches = 4

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.network = yamnet.YamNet(state)

    def prepare(self, sound: np.ndarray, sample_rate: int) -> np.ndarray:
        """float32 [N >= 1] mono -> float32 [4, 15600] at 16 kHz; zeros behind a sound under .975 s."""
        samples = resample_audio(sound, sample_rate, yamnet.SAMPLE_RATE)
        samples = np.pad(samples, (0, max(0, yamnet.PATCH_SAMPLES - len(samples))))
        starts = np.linspace(0, len(samples) - yamnet.PATCH_SAMPLES, self.patches).round().astype(int)
        return np.stack([samples[start : start + yamnet.PATCH_SAMPLES] for start in starts])

    def forward(self, sounds: Tensor) -> TrunkOutput:
        """[B, 4, 15600] -> states of the 14 convolutions; mean, then maximum, of the patches' embeddings."""
        count, patches = sounds.shape[:2]
        heard = self.network(sounds.flatten(0, 1))  # one patch each
        states = [s.unflatten(0, (count, patches)).transpose(1, 2).flatten(2) for s in heard.states]
        embedding = heard.embedding.unflatten(0, (count, patches))[..., 0]  # [B, 4, 1024]
        return TrunkOutput(states, torch.cat([embedding.mean(1), embedding.amax(1)], 1))


class SoundNetTrunk(SoundTrunk):
    """SoundNet-8 on eleven seconds."""

    encoder_name = "lite-soundnet"
    asset = "soundnet8"
    widths = tuple(layer.width for layer in soundnet.LAYERS)  # conv1..conv7; the heads are no layers
    features = 2 * sum(widths[4:]) + soundnet.IMAGENET_CLASSES + soundnet.PLACES_CLASSES

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.network = soundnet.SoundNet8(state)

    def prepare(self, sound: np.ndarray, sample_rate: int) -> np.ndarray:
        """float32 [N >= 1] mono -> float32 [242142] at 22050 Hz, times 256.

        A shorter sound is tiled to that length (11 s, the least SoundNet takes; see `lite_networks`); of a
        longer one the middle is kept.
        """
        samples = center_crop_at(sound, sample_rate, soundnet.SAMPLE_RATE, soundnet.MIN_SAMPLES)
        return np.resize(samples, soundnet.MIN_SAMPLES).astype(np.float32) * np.float32(soundnet.SCALE)

    def forward(self, sounds: Tensor) -> TrunkOutput:
        """[B, 242142] -> states of conv1..conv7 after ReLU, before pooling.

        Features: mean, then maximum, over time of conv5, conv6 and conv7, then both heads' logits averaged
        over time.
        """
        states, objects, places = self.network(sounds)
        late, logits = states[4:], objects.mean(2)
        parts = [s.mean(2) for s in late] + [s.amax(2) for s in late] + [logits, places.mean(2)]
        return TrunkOutput(states, torch.cat(parts, 1), logits)


TRUNKS: dict[str, type[YamnetTrunk] | type[SoundNetTrunk]] = {
    "yamnet": YamnetTrunk,
    "soundnet": SoundNetTrunk,
}
"""Name -> class, built from the tensors of its asset."""
