"""Says what a sound is: probabilities over a list of labels.

AST (Gong et al. 2021): names of sounds among AudioSet's 527 classes. Weights and front end: transformers.

The paper pads a sound to 960 ms; AST's own input is 10.24 s, and its front end fills what is missing behind
the log-mel frames. Both happen here: first silence up to 0.96 s, then the front end's filling. A longer sound
is heard in windows of the network's length, and a class counts as much as in the window where it is clearest.

YAMNet (encoders/yamnet.py): AudioSet's names as well, 521 of them, from a network of 3.75 M parameters.

SoundNet's own ImageNet posterior as a tagger: the stand-in for an audio spectrogram transformer in
`lite-soundnet`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

from moca_avs.encoders.audioset import audioset_labels
from moca_avs.encoders.lite import LiteEncoder
from moca_avs.encoders.lite_networks import IMAGENET_CLASSES
from moca_avs.encoders.yamnet import SAMPLE_RATE as YAMNET_RATE
from moca_avs.encoders.yamnet import YamNet
from moca_avs.errors import UsageError
from moca_avs.hub.huggingface import ModelSources, origin, pretrained
from moca_avs.hub.weight_files import load_asset, tensors_sha256


class Tagger(Protocol):
    """Names sounds.

    Attributes:
        labels: what it can name, in the order of its probabilities.
        settings: JSON-able, what is needed to make it again.
    """

    labels: tuple[str, ...]
    settings: dict[str, Any]

    def __call__(self, sound: np.ndarray, sample_rate: int) -> np.ndarray:
        """float32 [N >= 1] mono -> probabilities float32 [len(labels)] in [0, 1]."""
        ...


SHORTEST = 0.96
"""Seconds; the paper's."""
BATCH = 8
_HOP = 0.01  # seconds from one frame of the front end to the next
_FRAME = 0.025  # seconds of a frame


class AstTagger:
    """Names sounds (a `Tagger`).

    Args:
        sources: where the weights come from.
        device: to compute on.

    Raises:
        WeightsError: if they are missing, damaged, or no AST.
    """

    def __init__(self, sources: ModelSources | None = None, device: str = "cpu") -> None:
        from transformers import ASTFeatureExtractor, ASTForAudioClassification

        sources = sources or ModelSources()
        self.device = device
        self._model = pretrained(ASTForAudioClassification, "ast", sources).to(device)
        self._front_end = pretrained(ASTFeatureExtractor, "ast", sources)
        names: dict[int, str] = self._model.config.id2label
        self.labels: tuple[str, ...] = tuple(names[index] for index in range(len(names)))
        self.settings: dict[str, Any] = {
            "name": "ast",
            "shortest": SHORTEST,
            "weights": origin("ast", sources),
        }

    @torch.no_grad()
    def __call__(self, sound: np.ndarray, sample_rate: int) -> np.ndarray:
        """float32 [N >= 1] mono at any rate -> probabilities float32 [len(labels)] in [0, 1].

        Raises:
            UsageError: for no samples, samples that are no numbers, or more than one channel.
        """
        best = np.zeros(len(self.labels), np.float32)
        windows = self._windows(sound, sample_rate)
        for start in range(0, len(windows), BATCH):
            rate = self._front_end.sampling_rate
            inputs = self._front_end(windows[start : start + BATCH], sampling_rate=rate, return_tensors="pt")
            logits = self._model(inputs["input_values"].float().to(self.device)).logits
            best = np.maximum(best, logits.sigmoid().amax(0).numpy(force=True))
        return best

    def _windows(self, sound: np.ndarray, sample_rate: int) -> list[np.ndarray]:
        """The sound at the network's rate, in pieces that it hears whole, at least 0.96 s in all."""
        rate = int(self._front_end.sampling_rate)
        sound = _mono_at(sound, sample_rate, rate)
        sound = np.pad(sound, (0, max(0, round(SHORTEST * rate) - len(sound))))
        length = round(((self._front_end.max_length - 1) * _HOP + _FRAME) * rate)
        starts = range(0, max(1, len(sound) - round(_FRAME * rate) + 1), length)
        return [sound[start : start + length] for start in starts]


def _mono_at(sound: np.ndarray, sample_rate: int, rate: int) -> np.ndarray:
    """A mono sound at another rate; UsageError for no samples, no numbers, or more than one channel."""
    from moca_avs.io.audio import resample

    sound = np.asarray(sound, np.float32)
    if sound.ndim != 1 or not sound.size or not np.isfinite(sound).all():
        raise UsageError(f"expected a mono sound of finite samples, found {list(sound.shape)}")
    return resample(sound, sample_rate, rate)


class YamnetTagger:
    """Names sounds (a `Tagger`): YAMNet's scores, averaged over its patches (.96 s, one every .48 s).

    Args:
        device: to compute on.

    Raises:
        WeightsError: weights that can't be fetched, or are not what their hash says.
    """

    labels = audioset_labels()

    def __init__(self, device: str = "cpu") -> None:
        weights = load_asset("yamnet")
        self._network = YamNet(weights).to(device)
        self.device = device
        self.settings: dict[str, Any] = {"name": "yamnet", "weights": tensors_sha256(weights)}

    @torch.no_grad()
    def __call__(self, sound: np.ndarray, sample_rate: int) -> np.ndarray:
        """float32 [N >= 1] mono at any rate -> probabilities float32 [521] in [0, 1].

        Raises:
            UsageError: for no samples, samples that are no numbers, or more than one channel.
        """
        samples = torch.from_numpy(_mono_at(sound, sample_rate, YAMNET_RATE)).to(self.device)
        return self._network(samples[None]).scores[0].mean(0).cpu().numpy()


def imagenet_label(index: int) -> str:
    """What an ImageNet class is called here: "imagenet 207". No list of names ships with any package used."""
    return f"imagenet {index}"


class SoundNetTagger:
    """Softmax over the ImageNet logits that SoundNet-8 hears, the binding left out.

    The network was trained to hear what an image network sees, so its posterior is flat (a thousand classes,
    many of them alike): the paper's .5 would never be reached, and `lite` compares shares of the likeliest
    class (``tag_score="rescaled"``).

    Args:
        encoder: taken if its sound trunk is SoundNet; else `lite-soundnet` is loaded beside it.
    """

    labels = tuple(imagenet_label(index) for index in range(IMAGENET_CLASSES))

    def __init__(self, encoder: LiteEncoder) -> None:
        own = encoder.name == "lite-soundnet"
        encoder = encoder if own else LiteEncoder(trunk="soundnet").to(encoder.device)
        self.encoder = encoder
        self.settings: dict[str, Any] = {"name": "soundnet", "weights": encoder.weights_hash()}

    @torch.no_grad()
    def __call__(self, sound: np.ndarray, sample_rate: int) -> np.ndarray:
        """float32 [N >= 1] mono -> probabilities float32 [1000], summing to 1."""
        prepared = self.encoder.prepare_audio(sound, sample_rate)
        logits: torch.Tensor = self.encoder.trunk(prepared[None]).logits
        return logits[0].softmax(0).cpu().numpy()
