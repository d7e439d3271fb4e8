"""ImageBind against numbers of its public code: every block, both heads, the dense map, both front ends."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

from helpers import GOLDEN
from helpers.tiny_encoders import open_gates
from helpers.tiny_imagebind import TINY_SIZES
from moca_avs.encoders.imagebind import (
    ImageBindEncoder,
    TrunkSizes,
    clip_times,
    facts,
    log_mel,
    official_name,
)
from moca_avs.encoders.transformer import resized_positions
from moca_avs.errors import MediaError, UsageError
from moca_avs.model.adapter import AdapterSet
from moca_avs.model.fusion import enhanced_features, from_prefix, image_prefix


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "imagebind_tiny.safetensors")


@pytest.fixture(scope="module")
def sounds():
    return load_file(GOLDEN / "fbank.safetensors")


@pytest.fixture(scope="module")
def checkpoint(golden, tmp_path_factory):
    """The golden weights as a user has them: a .pth file, and config.json for the heads."""
    folder = tmp_path_factory.mktemp("imagebind")
    state = {k.removeprefix("state."): v for k, v in golden.items() if k.startswith("state.")}
    torch.save(state, folder / "imagebind_huge.pth")
    (folder / "config.json").write_text('{"vision_num_heads": 4, "audio_num_heads": 4}')
    return folder / "imagebind_huge.pth"


@pytest.fixture(scope="module")
def small(checkpoint):
    return ImageBindEncoder.load(checkpoint, image_size=56)


@pytest.fixture(scope="module")
def tiny():
    return ImageBindEncoder.random(TINY_SIZES, image_size=56)


@pytest.fixture(scope="module")
def mels(golden):
    return golden["mel_i8"].float() / 64


def close(found, expected, atol=2e-5):
    torch.testing.assert_close(found, expected, atol=atol, rtol=1e-5)


def states_of(encoder, images):
    """(tokens at each block's mlp site, each block's output), through the public door."""
    state, middles, outs = encoder.image_stem(images), [], []
    for index in range(encoder.image_blocks):
        entering = state

        def listen(tokens):
            middles.append(tokens)
            return torch.zeros_like(tokens)

        def check(tokens, entering=entering):
            assert torch.equal(tokens, entering)
            return torch.zeros_like(tokens)

        state = encoder.image_block(index, state, {"attention": check, "mlp": listen})
        outs.append(state)
    return middles, outs


# --- vision -----------------------------------------------------------------------------------------------


def test_every_vision_state(small, golden):
    pixels = golden["pixels"]
    close(small.vision.embed(pixels), golden["vision.tokens_in"])
    close(small.image_stem(pixels), golden["vision.preln"])
    middles, outs = states_of(small, pixels)
    for index in range(4):
        close(middles[index], golden[f"vision.block{index}.mid"])
        close(outs[index], golden[f"vision.block{index}.out"])
    close(F.normalize(small.joint_features(outs[-1]), dim=1), golden["vision.dense"])
    assert torch.equal(small.backbone_features(outs[-1])[:, :, 1, 2], outs[-1][:, 1 + 4 + 2])


def test_vision_embeddings(small, golden):
    raw = small.embed_images(golden["pixels"])
    close(raw, golden["vision.embed_raw"])
    close(F.normalize(raw, dim=-1), golden["vision.embed_post"])
    close(F.normalize(raw, dim=-1), golden["forward.vision"])
    faint = golden["vision.block3.out"] * 0.02
    close(small.vision.to_joint(faint[:, 0]), golden["vision.head_of_trunk_x0.02"])


def test_a_clip_of_two_frames(small, golden):
    clip = torch.stack(list(golden["pixels"]), dim=1)[None]
    close(small.vision.embed(clip), golden["clip2.tokens_in"])
    close(F.normalize(small.embed_images(clip), dim=-1), golden["clip2.forward"])


def test_other_image_sizes(small, checkpoint, golden):
    for side in (4, 8, 20):
        close(
            resized_positions(small.vision.positions, side, antialias=False),
            golden[f"vision.pos_embed_{side}x{side}"],
        )
    whole = ImageBindEncoder.load(checkpoint)
    assert (whole.image_size, whole.grid) == (224, 16)
    large = golden["pixels"].repeat(1, 1, 4, 4)
    state = image_prefix(whole, large, whole.image_blocks)
    close(state[:, :8], golden["vision224.trunk_out_first8"])
    close(F.normalize(whole.joint_features(state), dim=1), golden["vision224.dense"])
    close(whole.embed_images(large), golden["vision224.embed_raw"])


# --- audio ------------------------------------------------------------------------------------------------


def test_every_audio_state(small, golden, mels):
    flat = mels.flatten(0, 1)
    encoded = small.encode_audio(flat)
    last, _ = small.audio.states(flat[[1, 5]])
    close(small.audio(flat[[1, 5]]), golden["audio.tokens_in"])
    entering = golden["audio.tokens_in"]
    for index in range(4):
        close(encoded.tokens[index, "attention"][[1, 5]], entering)
        close(encoded.tokens[index, "mlp"][[1, 5]], golden[f"audio.block{index}.mid"])
        entering = golden[f"audio.block{index}.out"]
    close(last, entering)


def test_audio_embeddings(small, golden, mels):
    close(small.encode_audio(mels.flatten(0, 1)).embedding, golden["audio.embed_raw"])
    faint = golden["audio.block3.out"] * 0.02
    close(small.audio.to_joint(faint[:, 0]), golden["audio.head_of_trunk_x0.02"])
    one_each = small.embed_sound_clips(mels.flatten(0, 1)[:, None])
    close(one_each, golden["audio.embed_post"], atol=2e-4)
    close(small.embed_sound_clips(mels), golden["forward.audio"], atol=2e-4)


@pytest.mark.parametrize("name", ["mix_2s", "noise_1p3s"])
def test_the_audio_front_end(small, sounds, name):
    pcm = sounds[f"{name}.pcm_i16"].float() / 32768
    expected = sounds[f"{name}.norm"]
    for found in (log_mel(pcm), small.prepare_audio(pcm.numpy(), 16_000)):
        assert (found - expected).abs().max() <= 3e-3
        assert (found - expected).abs().mean() <= 1e-4


@pytest.mark.parametrize("name", ["loader_long", "loader_short"])
def test_three_clips_spread_over_a_file(small, sounds, name):
    noise, mix = (sounds[f"{part}_2s.pcm_i16"].float() / 32768 for part in ("noise", "mix"))
    sound = torch.cat([noise, mix[:27200]]) if name == "loader_long" else noise[:16000]
    found = small.prepare_sound_clips(sound.numpy(), 16_000)
    assert found.shape == (3, 1, 128, 204)
    apart = (found[:, 0, :, ::10] - sounds[f"{name}.norm_every10_clips_copied"]).abs()
    assert apart.max() <= 3e-3
    assert apart.mean() <= 1e-4


@pytest.mark.parametrize("seconds", ["1.0", "2.0", "3.7", "5.0", "10.0"])
def test_clip_times(seconds):
    expected = json.loads((GOLDEN / "fbank.json").read_text())["clip_sampler"]["durations"][seconds]["clips"]
    for (start, end), clip in zip(clip_times(float(seconds)), expected, strict=True):
        assert start == pytest.approx(clip["start_s"], abs=1e-9)
        assert end == pytest.approx(clip["end_s"], abs=1e-9)
        assert [int(start * 16000), int(end * 16000)] == clip["slice"]


@pytest.mark.parametrize("samples", [1, 2, 399, 16_000, 32_001, 200_000])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_any_length_and_rate(tiny, samples, rate):
    sound = np.sin(np.arange(samples) / 7).astype(np.float32)
    for read_only in (False, True):
        sound.setflags(write=not read_only)
        prepared = tiny.prepare_audio(sound, rate)
        assert prepared.shape == (1, 128, 204)
        assert torch.isfinite(tiny.encode_audio(prepared[None]).embedding).all()
    assert tiny.prepare_sound_clips(sound, rate).shape == (3, 1, 128, 204)


def test_of_a_long_sound_the_middle_is_heard(tiny):
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, 16_000 * 9).astype(np.float32)
    assert torch.equal(tiny.prepare_audio(sound, 16_000), log_mel(torch.from_numpy(sound[56_000:88_000])))
    # At another rate only the middle is resampled; the filter does not reach further than its margin.
    from moca_avs.io.audio import resample

    whole = resample(sound, 16_000, 48_000)
    again = tiny.prepare_audio(whole, 48_000)
    assert (again - log_mel(torch.from_numpy(sound[56_000:88_000]))).abs()[:, :100].mean() < 0.02


def test_no_sound_is_an_error(tiny):
    for prepare in (tiny.prepare_audio, tiny.prepare_sound_clips):
        with pytest.raises(MediaError, match="the sound is empty"):
            prepare(np.empty(0, np.float32), 16_000)


# --- images ---------------------------------------------------------------------------------------------


def test_images_are_squashed_as_pillow_does_and_normalized(tiny):
    frames = np.random.default_rng(0).integers(0, 256, (2, 90, 130, 3), dtype=np.uint8)
    found = tiny.prepare_images(frames)
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    for image, frame in zip(found, frames, strict=True):
        small = np.asarray(Image.fromarray(frame).resize((56, 56), Image.Resampling.BICUBIC))
        expected = ((small / 255 - mean) / std).transpose(2, 0, 1).astype(np.float32)
        torch.testing.assert_close(image, torch.from_numpy(expected), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("size", [0, 13, 225])
def test_impossible_sizes_are_refused(size):
    with torch.device("meta"), pytest.raises(UsageError, match="positive multiple of 14"):
        ImageBindEncoder(TINY_SIZES, size)


def test_features_for_pairing_are_the_mean_patch(tiny, golden):
    state = image_prefix(tiny, golden["pixels"], tiny.image_blocks)
    torch.testing.assert_close(tiny.image_feature(golden["pixels"]), state[:, 1:].mean(1))


# --- the frozen contract ----------------------------------------------------------------------------------


def test_nothing_trains_and_training_mode_is_refused(tiny):
    assert not any(weight.requires_grad for weight in tiny.parameters())
    torch.nn.Sequential(tiny).train()
    assert not any(module.training for module in tiny.modules())


@pytest.mark.parametrize("placement", ["last", "first", "interleaved"])
@pytest.mark.parametrize("share_sites", [False, True])
@pytest.mark.parametrize("space", ["joint", "trunk"])
def test_zero_gates_are_the_frozen_features_bit_for_bit(tiny, golden, mels, placement, share_sites, space):
    count = 2 if placement == "interleaved" else 4
    heard = tiny.encode_audio(mels[:, 0])
    adapters = AdapterSet(tiny, placement, count, share_sites=share_sites)
    frozen = enhanced_features(tiny, None, golden["pixels"], heard, space)
    assert torch.equal(enhanced_features(tiny, adapters, golden["pixels"], heard, space), frozen)
    opened = enhanced_features(tiny, open_gates(adapters), golden["pixels"], heard, space)
    assert not torch.allclose(opened, frozen)


def test_gradients_reach_all_adapters_through_a_cached_prefix(tiny, golden, mels):
    adapters = open_gates(AdapterSet(tiny, "last", 4))
    heard = tiny.encode_audio(mels[:, 0])
    prefix = image_prefix(tiny, golden["pixels"], adapters.first_block)
    features = from_prefix(tiny, adapters, prefix, heard, adapters.first_block)
    assert torch.equal(features, enhanced_features(tiny, adapters, golden["pixels"], heard))
    features.square().sum().backward()
    assert all(weight.grad.abs().max() > 0 for weight in adapters.parameters())
    assert all(weight.grad is None for weight in tiny.parameters())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near_and_inside(golden, mels, dtype):
    exact, half = (ImageBindEncoder.random(TINY_SIZES, image_size=56) for _ in range(2))
    half.set_precision(dtype)
    found, expected = (
        enhanced_features(encoder, None, golden["pixels"], encoder.encode_audio(mels[:, 0]))
        for encoder in (exact, half)
    )
    assert half.encode_audio(mels[:, 0]).embedding.dtype == found.dtype == torch.float32
    assert not torch.equal(found, expected)
    assert F.cosine_similarity(found.flatten(1), expected.flatten(1)).min() > 0.999


def test_an_unknown_precision_is_refused():
    with pytest.raises(UsageError, match="bfloat16, float16, found 'int8'"):
        ImageBindEncoder.random(TINY_SIZES).set_precision("int8")


# --- full size, without weights ---------------------------------------------------------------------------


def test_every_official_key_has_its_place_and_shape():
    official = json.loads((GOLDEN / "imagebind_huge_keys.json").read_text())
    with torch.device("meta"):
        encoder = ImageBindEncoder()
    found = {official_name(name): list(weight.shape) for name, weight in encoder.state_dict().items()}
    assert found == official["keys"]
    assert len(found) == official["n_keys"] == len(encoder.state_dict())
    totals = {part: official["totals"][part]["parameters"] for part in ("vision", "audio")}
    assert {p: sum(w.numel() for w in getattr(encoder, p).parameters()) for p in totals} == totals


def test_facts_of_the_full_size():
    found = json.loads(json.dumps(facts()))
    assert (found["image_blocks"], found["audio_blocks"], found["joint_dim"]) == (32, 12, 1024)
    assert found["adapter_parameters"] == {"P": 1_330_956, "Q": 1_304_838}
    pairs = found["adapter_pairs"]
    assert pairs["last"]["6"] == [[26, 6], [27, 7], [28, 8], [29, 9], [30, 10], [31, 11]]
    assert pairs["first"]["6"] == [[0, 0], [1, 1], [2, 2], [3, 3], [4, 4], [5, 5]]
    assert pairs["interleaved"]["6"] == [[21, 1], [23, 3], [25, 5], [27, 7], [29, 9], [31, 11]]
    assert pairs["interleaved"]["4"] == [[25, 5], [27, 7], [29, 9], [31, 11]]
    assert pairs["interleaved"]["2"] == [[29, 9], [31, 11]]
    assert pairs["last"]["2"] == [[30, 10], [31, 11]]


def test_heads_of_the_full_size_need_no_config():
    with torch.device("meta"):
        encoder = ImageBindEncoder()
    assert encoder.sizes.vision == TrunkSizes(32, 1280, 16, 5120, 257, (2, 14, 14))
    assert encoder.sizes.audio == TrunkSizes(12, 768, 12, 3072, 229, (16, 16))
    assert encoder.weights_hash() == ""
