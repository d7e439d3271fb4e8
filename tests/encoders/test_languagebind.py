"""LanguageBind against transformers' CLIP, its front end against the published steps, its files strictly."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers.tiny_encoders import open_gates
from helpers.tiny_languagebind import SPECTROGRAM, tiny_clip, write_tiny_languagebind, write_tower
from moca_avs.encoders import build_encoder
from moca_avs.encoders.languagebind import LanguageBindEncoder, merge_lora
from moca_avs.encoders.preprocessing import fbank
from moca_avs.encoders.transformer import Block
from moca_avs.errors import MediaError, UsageError, WeightsError
from moca_avs.hub.huggingface import ModelSources
from moca_avs.model.adapter import AdapterSet
from moca_avs.model.fusion import enhanced_features, image_prefix


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_tiny_languagebind(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def encoder(weights):
    return build_encoder("languagebind", sources=ModelSources(weights))


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def sounds():
    return torch.randn(2, 3, 112, 1036, generator=torch.Generator().manual_seed(1))


def clip_states(model, inputs):
    """Every hidden state of transformers' vision tower; made by hand up to its encoder: any shape."""
    tower = model.vision_model
    patches = tower.embeddings.patch_embedding(inputs).flatten(2).transpose(1, 2)
    first = tower.embeddings.class_embedding.expand(len(inputs), 1, -1)
    tokens = torch.cat([first, patches], 1) + tower.embeddings.position_embedding.weight
    states = [tower.pre_layrnorm(tokens)]
    for layer in tower.encoder.layers:
        out = layer(states[-1], attention_mask=None)
        states.append(out[0] if isinstance(out, tuple) else out)
    return states, model.visual_projection(tower.post_layernorm(states[-1]))


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_the_image_tower_is_clips(encoder, images):
    model = tiny_clip(0)
    with torch.no_grad():
        states, joint = clip_states(model, images)
        whole = model.get_image_features(images)
    state = encoder.image_stem(images)
    close(state, states[0])
    for index in range(encoder.image_blocks):
        state = encoder.image_block(index, state)
        close(state, states[index + 1])
    close(encoder.joint_features(state).flatten(2).transpose(1, 2), joint[:, 1:])
    close(encoder.embed_images(images), joint[:, 0])
    close(encoder.embed_images(images), getattr(whole, "pooler_output", whole))
    assert torch.equal(encoder.backbone_features(state)[:, :, 3, 5], state[:, 1 + 3 * 16 + 5])
    assert (encoder.image_size, encoder.grid, encoder.joint_dim) == (224, 16, 16)


def test_the_audio_tower_is_clips_on_an_oblong_image(encoder, sounds):
    with torch.no_grad():
        states, joint = clip_states(tiny_clip(1, 593), sounds)
    heard = encoder.encode_audio(sounds)
    close(heard.embedding, joint[:, 0])
    for index in range(encoder.audio_blocks):
        close(heard.tokens[index, "attention"], states[index])
    assert heard.tokens[6, "mlp"].shape == (2, 1 + 8 * 74, 32)


def test_another_image_size_resizes_the_table(weights, images):
    small = build_encoder("languagebind", sources=ModelSources(weights), image_size=56)
    table = tiny_clip(0).vision_model.embeddings.position_embedding.weight.detach()
    square = table[1:].T.reshape(1, 32, 16, 16)
    resized = F.interpolate(square, (4, 4), mode="bicubic", antialias=True)
    expected = torch.cat([table[:1], resized.flatten(2)[0].T])
    zeros = torch.zeros(1, 3, 56, 56)
    without = torch.zeros(17, 32)
    without[0] = small.vision.class_token
    close(small.image_stem(zeros)[0], small.vision.norm(without + expected))
    assert small.joint_features(small.image_stem(images[:, :, :56, :56])).shape == (2, 16, 4, 4)


# --- sound ------------------------------------------------------------------------------------------------


def normalized(mel):
    return (mel - SPECTROGRAM["audio_mean"]) / SPECTROGRAM["audio_std"]


def test_a_short_sound_is_repeated_and_padded(encoder):
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, 32_000).astype(np.float32)
    wave = torch.zeros(165_760)
    for start in range(0, 160_000, 32_000):
        wave[start : start + 32_000] = torch.tensor(sound)
    mel = F.pad(fbank(wave - wave.mean(), 112).T, (0, 2))
    found = encoder.prepare_audio(sound, 16_000)
    assert found.shape == (3, 112, 1036)
    for channel in found:
        close(channel, normalized(mel))


@pytest.mark.parametrize(("samples", "starts"), [(165_760, (0, 0, 0)), (400_000, (0, 488, 976))])
def test_a_long_sound_is_seen_in_three_windows(encoder, samples, starts):
    sound = torch.randn(samples, generator=torch.Generator().manual_seed(3)) * 0.1
    mel = fbank(sound - sound.mean(), 112).T
    mel = F.pad(mel, (0, max(1036 - mel.shape[1], 0)))
    found = encoder.prepare_audio(sound.numpy(), 16_000)
    # np.array_split of 1463 starts gives parts of 488, 488 and 487.
    for channel, start in zip(found, starts, strict=True):
        close(channel, normalized(mel[:, start : start + 1036]))


@pytest.mark.parametrize("samples", [1, 399, 44_100, 165_761, 166_000])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_any_length_and_rate(encoder, samples, rate):
    sound = np.sin(np.arange(samples) / 7).astype(np.float32)
    found = encoder.prepare_audio(sound, rate)
    assert found.shape == (3, 112, 1036)
    assert torch.isfinite(found).all()


def test_no_sound_is_an_error(encoder):
    with pytest.raises(MediaError, match="the sound is empty"):
        encoder.prepare_audio(np.empty(0, np.float32), 16_000)


# --- the frozen contract ---------------------------------------------------------------------------------


def test_zero_gates_are_the_frozen_features_bit_for_bit(encoder, images, sounds):
    heard = encoder.encode_audio(sounds)
    frozen = enhanced_features(encoder, None, images, heard)
    adapters = AdapterSet(encoder, count=6)
    assert torch.equal(enhanced_features(encoder, adapters, images, heard), frozen)
    assert not torch.allclose(enhanced_features(encoder, open_gates(adapters), images, heard), frozen)
    assert [list(pair) for pair in adapters.pairs] == [[i, i] for i in range(1, 7)]


def test_half_precision_reaches_every_block(weights):
    half = build_encoder("languagebind", sources=ModelSources(weights))
    half.set_precision("bfloat16")
    blocks = [module for module in half.modules() if isinstance(module, Block)]
    assert {block.attn.in_proj_weight.dtype for block in blocks} == {torch.bfloat16}
    assert half.vision.norm.weight.dtype == torch.float32


# --- files ------------------------------------------------------------------------------------------------


def towers(folder):
    return (folder / f"languagebind-{part}" / "pytorch_model.bin" for part in ("image", "audio"))


def test_temporal_attention_over_one_frame(weights, tmp_path, images):
    """Every token first attends to itself alone: out(value(norm x)), then its own MLP."""
    model = tiny_clip(0)
    state, other = model.state_dict(), tiny_clip(5)
    for name, weight in other.state_dict().items():
        if name.startswith("vision_model.encoder.layers."):
            temporal = name.replace("self_attn", "attn").split(".")
            temporal[4] = f"temporal_{temporal[4]}"
            state[".".join(temporal)] = weight
    for index in range(7):
        state[f"vision_model.encoder.layers.{index}.temporal_embedding"] = torch.ones(1, 1, 32)
    write_tiny_languagebind(tmp_path)
    write_tower(tmp_path / "languagebind-image", state, add_time_attn=True)
    encoder = LanguageBindEncoder(*towers(tmp_path))
    with torch.no_grad():
        tokens = clip_states(model, images)[0][0]
        first = other.vision_model.encoder.layers[0]
        seen = first.self_attn.out_proj(first.self_attn.v_proj(first.layer_norm1(tokens)))
        alone = tokens + seen
        alone = alone + first.mlp(first.layer_norm2(alone))
        out = model.vision_model.encoder.layers[0](alone, attention_mask=None)
    found = encoder.image_block(0, encoder.image_stem(images))
    close(found, out[0] if isinstance(out, tuple) else out)
    assert torch.isfinite(encoder.embed_images(images)).all()


@pytest.mark.parametrize("base_layer", ["", ".base_layer"])
def test_lora_is_merged(tmp_path, images, base_layer):
    state, generator = tiny_clip(0).state_dict(), torch.Generator().manual_seed(9)
    expected, wrapped = dict(state), {}
    for name, weight in state.items():
        if "vision_model.encoder" not in name:
            wrapped[name] = weight
            continue
        inside = name.replace("vision_model.encoder", "vision_model.encoder.base_model.model")
        if "_proj.weight" in name:
            low = torch.randn(2, 32, generator=generator)
            high = torch.randn(32, 2, generator=generator)
            stem = inside.removesuffix(".weight")
            wrapped[f"{stem}{base_layer}.weight"] = weight
            wrapped[f"{stem}.lora_A.default.weight"] = low
            wrapped[f"{stem}.lora_B.default.weight"] = high
            expected[name] = weight + 8 / 2 * high @ low
        else:
            wrapped[inside] = weight
    merged = merge_lora(wrapped, 8)
    assert merged.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(merged[name], weight)
    write_tiny_languagebind(tmp_path)
    write_tower(tmp_path / "languagebind-image", wrapped, lora_r=2, lora_alpha=8)
    encoder = LanguageBindEncoder(*towers(tmp_path))
    model = tiny_clip(0)
    model.load_state_dict(expected)
    with torch.no_grad():
        close(encoder.embed_images(images), clip_states(model, images)[1][:, 0])
    del wrapped[next(name for name in wrapped if "lora_B" in name)]
    write_tower(tmp_path / "languagebind-image", wrapped, lora_r=2, lora_alpha=8)
    with pytest.raises(WeightsError, match="lora_A"):
        LanguageBindEncoder(*towers(tmp_path))


def test_the_override_in_a_config_counts(tmp_path, images):
    """transformers puts vision_config_dict over vision_config; here it says quick_gelu."""
    write_tiny_languagebind(tmp_path)
    file = tmp_path / "languagebind-image" / "config.json"
    told = json.loads(file.read_text()) | {"vision_config_dict": {"hidden_act": "quick_gelu"}}
    file.write_text(json.dumps(told))
    quick = LanguageBindEncoder(*towers(tmp_path))
    model = tiny_clip(0)
    tokens = quick.image_stem(images)
    layer = model.vision_model.encoder.layers[0].mlp
    with torch.no_grad():
        hidden = layer.fc1(tokens)
        close(quick.vision.blocks[0].mlp(tokens), layer.fc2(hidden * torch.sigmoid(1.702 * hidden)))


def change(folder, name, remove=(), **add):
    file = folder / name / "pytorch_model.bin"
    state = {k: v for k, v in torch.load(file).items() if k not in remove}
    torch.save(state | {k.replace("__", "."): v for k, v in add.items()}, file)


LAYER = "vision_model.encoder.layers.3."
CASES = {
    "missing": (
        lambda f: change(f, "languagebind-image", [f"{LAYER}self_attn.k_proj.bias"]),
        "lacks .*k_proj",
    ),
    "no projection": (
        lambda f: change(f, "languagebind-audio", ["visual_projection.weight"]),
        r"no LanguageBind tower: it lacks 'visual_projection\.weight'",
    ),
    "shape": (
        lambda f: change(f, "languagebind-image", visual_projection__weight=torch.zeros(16, 31)),
        r"visual_projection\.weight \[16, 31\] instead of \[16, 32\]",
    ),
    "stranger": (lambda f: change(f, "languagebind-audio", depth__x=torch.zeros(2)), r"holds depth\.x"),
    "images for ears": (
        lambda f: write_tower(f / "languagebind-audio", tiny_clip(1).state_dict(), **SPECTROGRAM),
        "one position per patch of its spectrogram",
    ),
    "no spectrogram": (
        lambda f: write_tower(f / "languagebind-audio", tiny_clip(1).state_dict()),
        "is this an audio tower",
    ),
    "video": (
        lambda f: write_tower(f / "languagebind-image", tiny_clip(0).state_dict(), num_frames=8),
        "8 frames and gelu",
    ),
    "activation": (
        lambda f: write_tower(f / "languagebind-image", tiny_clip(0).state_dict(), hidden_act="relu"),
        "1 frames and relu",
    ),
    "heads": (
        lambda f: write_tower(f / "languagebind-image", tiny_clip(0).state_dict(), num_attention_heads=5),
        "5 heads do not divide the width 32",
    ),
    "no config": (
        lambda f: (f / "languagebind-audio" / "config.json").unlink(),
        r"config\.json is missing or no config of LanguageBind.*num_attention_heads",
    ),
    "no weights": (
        lambda f: (f / "languagebind-audio" / "pytorch_model.bin").unlink(),
        r"holds none of model\.safetensors, pytorch_model\.bin; .*hf download",
    ),
    "cut short": (
        lambda f: (f / "languagebind-audio" / "pytorch_model.bin").write_bytes(b"PK"),
        "get the file again",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_weights_are_named(tmp_path, case):
    spoil, says = CASES[case]
    spoil(write_tiny_languagebind(tmp_path) and tmp_path)
    with pytest.raises(WeightsError, match=says):
        build_encoder("languagebind", sources=ModelSources(tmp_path))


def test_the_hash_is_of_both_towers_and_stays(weights, encoder, tmp_path):
    again = build_encoder("languagebind", sources=ModelSources(weights), image_size=56)
    assert again.weights_hash() == encoder.weights_hash()
    write_tiny_languagebind(tmp_path)
    write_tower(tmp_path / "languagebind-audio", tiny_clip(2, 593).state_dict(), **SPECTROGRAM)
    assert (
        build_encoder("languagebind", sources=ModelSources(tmp_path)).weights_hash() != encoder.weights_hash()
    )


def test_frozen_and_sized(encoder, weights):
    assert not any(weight.requires_grad for weight in encoder.parameters())
    with pytest.raises(UsageError, match="positive multiple of 14"):
        build_encoder("languagebind", sources=ModelSources(weights), image_size=100)
    assert image_prefix(encoder, torch.zeros(1, 3, 224, 224), 2).shape == (1, 257, 32)
