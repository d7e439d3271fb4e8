"""AdaAV: sizes, equation, zero gate, sharing, and files that know their encoder."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.tiny_encoders import TinyConvolution, TinyTransformer, images_and_sounds, open_gates
from moca_avs.encoders.base import HookWidths
from moca_avs.errors import UsageError, WeightsError
from moca_avs.model.adapter import AdaAV, AdapterSet, load_adapters, save_adapters
from moca_avs.model.adapter_file import read_adapter_config


def count(module):
    return sum(weight.numel() for weight in module.parameters())


class Widths:
    """ImageBind's sizes, without ImageBind."""

    name, hook_points = "sizes", ("attention", "mlp")

    def adapter_pairs(self, placement, number):
        return [(26 + i, 6 + i) for i in range(number)]

    def hook_widths(self, image_block, audio_layer):
        return HookWidths(1280, 1280, 768)

    def weights_hash(self):
        return "0" * 64


def test_sizes_of_both_layouts_are_those_of_the_paper():
    assert count(AdaAV(HookWidths(1280, 1280, 768), latents=4, bottleneck=32)) == 110_913
    assert count(AdapterSet(Widths(), count=6)) == 1_330_956
    assert count(AdapterSet(Widths(), count=6, bottleneck=64, share_sites=True)) == 1_304_838


def test_equals_the_equation_written_out(generator):
    adapter = open_gates(AdaAV(HookWidths(6, 9, 5), 3, 4, generator), 0.5).double()
    torch.manual_seed(0)
    x, s = torch.randn(7, 6, dtype=torch.float64), torch.randn(11, 5, dtype=torch.float64)

    def norm(v):
        return (v - v.mean()) / (v.var(unbiased=False) + 1e-5).sqrt()

    def attend(query, keys):
        weights = torch.stack([(query @ key / math.sqrt(len(key))).exp() for key in keys])
        return sum(w * k for w, k in zip(weights / weights.sum(), keys, strict=True))

    sound = [norm(token) for token in s]
    latents = [latent + attend(latent, sound) for latent in adapter.latents]
    keys = [adapter.audio_down.weight @ latent + adapter.audio_down.bias for latent in latents]
    rows = []
    for token in x:
        h = adapter.image_down.weight @ norm(token) + adapter.image_down.bias
        h = h + attend(h, keys)
        gelu = h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
        rows.append(0.5 * (adapter.up.weight @ gelu + adapter.up.bias))
    torch.testing.assert_close(adapter(x[None], s[None])[0], torch.stack(rows))


def test_starts_at_nothing_and_only_the_gate_learns_first(generator):
    adapter = AdaAV(HookWidths(6, 6, 5), generator=generator)
    out = adapter(torch.randn(2, 4, 6), torch.randn(2, 8, 5))
    assert torch.equal(out, torch.zeros(2, 4, 6))
    out.backward(torch.randn(2, 4, 6))
    moved = {name for name, weight in adapter.named_parameters() if weight.grad.abs().max() > 0}
    assert moved == {"gate"}
    open_gates(adapter)(torch.randn(2, 4, 6), torch.randn(2, 8, 5)).square().sum().backward()
    assert all(weight.grad.abs().max() > 0 for weight in adapter.parameters())


def test_one_sound_serves_every_image(generator):
    adapter = open_gates(AdaAV(HookWidths(6, 6, 5), generator=generator))
    x, s = torch.randn(3, 4, 6), torch.randn(1, 8, 5)
    torch.testing.assert_close(adapter(x, s), adapter(x, s.expand(3, 8, 5)))


def test_hears_the_sound(generator):
    adapter = open_gates(AdaAV(HookWidths(6, 6, 5), generator=generator))
    x = torch.randn(1, 4, 6)
    assert not torch.allclose(adapter(x, torch.randn(1, 8, 5)), adapter(x, torch.randn(1, 8, 5)))


def test_seeds_decide_the_start(encoder):
    def start(seed):
        return AdapterSet(encoder, count=2, generator=torch.Generator().manual_seed(seed))

    assert start(3).weights_hash() == start(3).weights_hash() != start(4).weights_hash()


def test_each_site_has_its_own_states_and_module(encoder):
    adapters = open_gates(AdapterSet(encoder, count=2, bottleneck=4))
    _, sounds = images_and_sounds(encoder)
    assert adapters.first_block == 2
    assert adapters.at(1, sounds) is None
    added = adapters.at(3, sounds)
    assert set(added) == set(encoder.hook_points)
    width = encoder.hook_widths(3, 2)
    for site, add in added.items():
        tokens = torch.randn(3, 7, width.image_in)
        module = adapters.get_submodule(f"block03_{site}")
        torch.testing.assert_close(add(tokens), module(tokens, sounds.tokens[2, site]))
        assert add(tokens).shape == (3, 7, width.image_out)


def test_shared_sites_use_one_module_on_different_states():
    encoder = TinyTransformer()
    adapters = open_gates(AdapterSet(encoder, count=2, share_sites=True))
    _, sounds = images_and_sounds(encoder)
    assert [name for name, _ in adapters.named_children()] == ["block02", "block03"]
    tokens, added = torch.randn(3, 7, 16), adapters.at(3, sounds)
    assert not torch.allclose(added["attention"](tokens), added["mlp"](tokens))


def test_a_file_brings_everything_back(encoder, tmp_path):
    adapters = open_gates(AdapterSet(encoder, "first", 3, 2, 5, False, torch.Generator().manual_seed(5)))
    save_adapters(adapters, tmp_path / "adapters.safetensors")
    again = load_adapters(tmp_path / "adapters.safetensors", encoder)
    assert again.config == adapters.config == read_adapter_config(tmp_path / "adapters.safetensors")
    assert again.weights_hash() == adapters.weights_hash()
    assert json.loads(json.dumps(again.config)) == again.config
    assert [file.name for file in tmp_path.iterdir()] == ["adapters.safetensors"]


def test_another_encoder_is_refused_by_name(tmp_path):
    path = tmp_path / "adapters.safetensors"
    save_adapters(AdapterSet(TinyTransformer(), count=2), path)
    with pytest.raises(WeightsError, match=r"'tiny-transformer'.*'tiny-convolution'"):
        load_adapters(path, TinyConvolution())
    with pytest.raises(WeightsError, match=r"weights \w{12} of 'tiny-transformer'.*weights \w{12}"):
        load_adapters(path, TinyTransformer(seed=1))


def test_bad_files_are_named(tmp_path):
    path, encoder = tmp_path / "adapters.safetensors", TinyTransformer()
    with pytest.raises(WeightsError, match="no adapters at"):
        load_adapters(path, encoder)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load_adapters(path, encoder)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(WeightsError, match="not one of MoCA adapters"):
        load_adapters(path, encoder)
    adapters = AdapterSet(encoder, count=2)
    save_adapters(adapters, path)
    tensors = load_file(path)
    tensors["block02_attention.latents"] = torch.ones(9, 12)
    save_file(tensors, path, metadata={"moca_avs_adapters": json.dumps(adapters.config)})
    with pytest.raises(WeightsError, match=r"block02_attention\.latents"):
        load_adapters(path, encoder)


def test_sizes_below_one_are_refused():
    with pytest.raises(UsageError, match="at least 1"):
        AdapterSet(TinyTransformer(), count=2, latents=0)
