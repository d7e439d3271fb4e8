"""AdaAV: the only part of MoCA that learns (paper section 3.1, figure 3).

One adapter stands beside one site of one image block and adds to the frozen trunk what the sound has to say
there. The paper writes one width for both trunks; real trunks differ, so the sound is brought to the image
inside the bottleneck:

    L' = L + softmax(L LN(X_a)^T / sqrt(d_a)) LN(X_a)     m latent tokens gather the sound
    h  = D_v LN(X_v),  k = D_a L'                         image and latents go down into the bottleneck
    h  = h + softmax(h k^T / sqrt(b)) k                   image tokens read the latents
    out = gate * U gelu(h)                                the gate starts at zero
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from moca_avs.encoders.base import (
    AdapterHook,
    AudioFeatures,
    AudioVisualEncoder,
    HookWidths,
)
from moca_avs.errors import UsageError, WeightsError
from moca_avs.hub.weight_files import tensors_sha256, write_safetensors
from moca_avs.model.adapter_file import read_adapter_config

_LATENT_SCALE = 0.1  # small beside LN(X_a): at first the latents mostly hold what they gathered


class AdaAV(nn.Module):
    """One adapter at one site. Adds nothing (exactly) until its gate leaves zero.

    Args:
        widths: image tokens in and out, audio tokens in.
        latents: number m of latent audio tokens.
        bottleneck: width b.
        generator: source of the initial weights; None uses torch's global one.
    """

    def __init__(
        self,
        widths: HookWidths,
        latents: int = 4,
        bottleneck: int = 32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(latents, widths.audio))
        self.audio_down = nn.Linear(widths.audio, bottleneck)
        self.image_down = nn.Linear(widths.image_in, bottleneck)
        self.up = nn.Linear(bottleneck, widths.image_out)
        # The gate alone is zero: were `up` zero as well, neither would ever get a gradient.
        self.gate = nn.Parameter(torch.zeros(()))
        self._initialize(generator)

    @torch.no_grad()
    def _initialize(self, generator: torch.Generator | None) -> None:
        self.latents.normal_(0, _LATENT_SCALE, generator=generator)
        for layer in (self.audio_down, self.image_down, self.up):
            layer.weight.normal_(0, 1 / math.sqrt(layer.in_features), generator=generator)
            layer.bias.zero_()

    def forward(self, image_tokens: Tensor, sound_tokens: Tensor) -> Tensor:
        """[B, n, image_in] and [B or 1, N_a, audio] -> what to add, [B, n, image_out]."""
        sound = F.layer_norm(sound_tokens, sound_tokens.shape[-1:])
        latents = self.latents + _attend(self.latents, sound)  # [B, m, audio]
        keys = self.audio_down(latents)  # [B, m, b]
        hidden = self.image_down(F.layer_norm(image_tokens, image_tokens.shape[-1:]))  # [B, n, b]
        hidden = hidden + _attend(hidden, keys)
        added: Tensor = self.gate * self.up(F.gelu(hidden))
        return added


def _attend(queries: Tensor, keys: Tensor) -> Tensor:
    """One head, keys as values, no projections: softmax(q k^T / sqrt(d)) k."""
    scores = queries @ keys.transpose(-1, -2) / math.sqrt(keys.shape[-1])
    return scores.softmax(-1) @ keys


class AdapterSet(nn.Module):
    """All adapters of a placement, ready to stand beside an encoder's blocks.

    Args:
        encoder: names the (image block, audio layer) pairs, their sites and widths; it is not kept.
        placement: "last", "first" or "interleaved" (paper table 6).
        count: number of adapted blocks (paper table 5).
        latents: m.
        bottleneck: b.
        share_sites: one adapter per block, used at every site of it, instead of one per site.
        generator: source of the initial weights; None uses torch's global one.

    Attributes:
        config: JSON-able, all that is needed to build it again and to refuse another encoder.
        pairs: (image block, audio layer), ascending.
    """

    def __init__(
        self,
        encoder: AudioVisualEncoder,
        placement: str = "last",
        count: int = 6,
        latents: int = 4,
        bottleneck: int = 32,
        share_sites: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if latents < 1 or bottleneck < 1:
            raise UsageError(f"latents and bottleneck must be at least 1, found {latents} and {bottleneck}")
        self.pairs = tuple(sorted(encoder.adapter_pairs(placement, count)))
        self.config: dict[str, Any] = {
            "encoder": encoder.name,
            "encoder_hash": encoder.weights_hash(),
            "placement": placement,
            "count": count,
            "latents": latents,
            "bottleneck": bottleneck,
            "share_sites": share_sites,
            "pairs": [list(pair) for pair in self.pairs],
        }
        self._names: dict[int, dict[str, str]] = {}
        for block, layer in self.pairs:
            names = {s: f"block{block:02d}" + ("" if share_sites else f"_{s}") for s in encoder.hook_points}
            self._names[block] = names
            for name in dict.fromkeys(names.values()):
                widths = encoder.hook_widths(block, layer)
                self.add_module(name, AdaAV(widths, latents, bottleneck, generator))

    @property
    def first_block(self) -> int:
        """The first adapted image block: everything before it never changes."""
        return self.pairs[0][0]

    def at(self, block: int, sounds: AudioFeatures) -> dict[str, AdapterHook] | None:
        """What stands beside an image block when these sounds are heard; None where nothing does.

        Args:
            block: image block index.
            sounds: one row per image, or a single row for all of them.
        """
        if block not in self._names:
            return None
        layer = dict(self.pairs)[block]
        return {
            site: partial(_add_tokens, self.get_submodule(name), sounds.tokens[layer, site])
            for site, name in self._names[block].items()
        }

    def weights_hash(self) -> str:
        """SHA-256 over names, shapes and bytes of every weight."""
        return tensors_sha256(self.state_dict())


def _add_tokens(adapter: nn.Module, sound_tokens: Tensor, image_tokens: Tensor) -> Tensor:
    added: Tensor = adapter(image_tokens, sound_tokens)
    return added


def save_adapters(adapters: AdapterSet, path: Path) -> None:
    """Write weights and `config` as one safetensors file; whole or not at all."""
    write_safetensors(adapters.state_dict(), path, {"moca_avs_adapters": json.dumps(adapters.config)})


def load_adapters(path: Path, encoder: AudioVisualEncoder, dtype: torch.dtype = torch.float32) -> AdapterSet:
    """Read what `save_adapters` wrote, on the CPU, as `dtype` (only a float64 run wrote float64).

    Raises:
        WeightsError: if the file is missing, damaged, no adapter file, or was trained beside other weights
            than this encoder's.
    """
    config, tensors = _read(path)
    _check_encoder(path, config, encoder)
    options = ("placement", "count", "latents", "bottleneck", "share_sites")
    adapters = AdapterSet(encoder, **{name: config[name] for name in options}).to(dtype)
    expected = {name: tuple(t.shape) for name, t in adapters.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    if found != expected:
        odd = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
        raise WeightsError(f"{path} does not hold the adapters its own settings describe: see {odd[:3]}")
    adapters.load_state_dict(tensors)
    return adapters


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config = read_adapter_config(path)
    with safe_open(path, framework="pt") as file:
        return config, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


def _check_encoder(path: Path, config: dict[str, Any], encoder: AudioVisualEncoder) -> None:
    if config["encoder"] != encoder.name:
        raise WeightsError(
            f"{path} holds adapters of the encoder {config['encoder']!r}, but the encoder here is "
            f"{encoder.name!r}; load them with their own encoder"
        )
    if config["encoder_hash"] != encoder.weights_hash():
        raise WeightsError(
            f"{path} was trained beside weights {config['encoder_hash'][:12]} of {config['encoder']!r}, but "
            f"{encoder.name!r} here has weights {encoder.weights_hash()[:12]}; "
            "use the same version of moca-avs, or train again"
        )
