import numpy as np
import pytest
import torch
from PIL import Image

from moca_avs.encoders import build_encoder
from moca_avs.encoders.lite import AudioHead, LiteEncoder
from moca_avs.encoders.lite_networks import MIN_SAMPLES
from moca_avs.errors import MediaError, UsageError, WeightsError

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def lite():
    return LiteEncoder(image_size=128, binding=None, trunk="soundnet")


@pytest.fixture(scope="module")
def lite_yamnet():
    head = AudioHead(2048, joint_dim=16, generator=torch.Generator().manual_seed(0)).eval()
    return LiteEncoder(image_size=128, binding=head)


@pytest.fixture(scope="module")
def sounds(lite):
    rng = np.random.default_rng(0)
    tone = np.sin(np.arange(30000) * 0.1).astype(np.float32)
    return torch.stack(
        [
            lite.prepare_audio(rng.normal(0, 0.1, 22050).astype(np.float32), 22050),
            lite.prepare_audio(tone, 16000),
            lite.prepare_audio(np.zeros(100, np.float32), 8000),
        ]
    )


def images(count, height=90, width=130):
    return np.random.default_rng(1).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def walk(lite, images):
    states = [lite.image_stem(images)]
    for index in range(lite.image_blocks):
        states.append(lite.image_block(index, states[-1]))
    return states


# --- the frozen contract ----------------------------------------------------------------------------------


def test_nothing_trains_and_training_mode_is_refused(lite):
    assert not any(p.requires_grad for p in lite.parameters())
    lite.train()
    torch.nn.Sequential(lite).train()
    assert not any(m.training for m in lite.modules())


def test_the_hash_is_stable_and_sees_the_binding(lite):
    head = AudioHead(4985, generator=torch.Generator().manual_seed(0))
    other = AudioHead(4985, generator=torch.Generator().manual_seed(1))
    hashes = {LiteEncoder(128, binding=b, trunk="soundnet").weights_hash() for b in (None, head, other)}
    assert len(hashes) == 3
    assert LiteEncoder(64, binding=None, trunk="soundnet").weights_hash() == lite.weights_hash()
    assert len(lite.weights_hash()) == 64


def test_wrong_options_are_usage_errors():
    with pytest.raises(UsageError, match="multiple of 32, found 100"):
        LiteEncoder(image_size=100)
    with pytest.raises(UsageError, match=r"unknown encoder 'clip'; there are: .*lite"):
        build_encoder("clip")


def test_built_by_name_with_options():
    for name in ("lite", "lite-soundnet"):
        encoder = build_encoder(name, image_size=96, dilate=True, binding=None)
        assert (encoder.name, encoder.image_size, encoder.grid) == (name, 96, 6)


# --- adapters' places -------------------------------------------------------------------------------------


def test_pairs_of_each_placement(lite):
    assert lite.adapter_pairs("last", 6) == [(10, 1), (11, 2), (12, 3), (13, 4), (14, 5), (15, 6)]
    assert lite.adapter_pairs("last", 2) == [(14, 5), (15, 6)]
    assert lite.adapter_pairs("first", 4) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert lite.adapter_pairs("interleaved", 6) == [(5, 1), (7, 2), (9, 3), (11, 4), (13, 5), (15, 6)]
    for bad in (("last", 0), ("last", 8), ("middle", 2)):
        with pytest.raises(UsageError):
            lite.adapter_pairs(*bad)


def test_widths_of_the_last_six(lite):
    widths = [lite.hook_widths(*pair) for pair in lite.adapter_pairs("last", 6)]
    assert [w.image_in for w in widths] == [112, 112, 192, 192, 192, 192]
    assert [w.image_out for w in widths] == [112, 192, 192, 192, 192, 320]
    assert [w.audio for w in widths] == [32, 64, 128, 256, 512, 1024]


@pytest.mark.parametrize("index", range(16))
@torch.no_grad()
def test_a_site_reads_the_input_and_adds_to_the_output(lite, index):
    """With the averaged input's tokens checked against a plain mean over each 2x2 square."""
    state = walk(lite, lite.prepare_images(images(2)))[index]
    plain = lite.image_block(index, state)
    batch, width, height, _ = plain.shape
    seen = []

    def add(tokens):
        seen.append(tokens)
        ramp = torch.arange(height * height * width, dtype=torch.float32)
        return ramp.reshape(1, height * height, width).expand(batch, -1, -1)

    zeros = torch.zeros(batch, height * height, width)
    assert torch.equal(lite.image_block(index, state, {"block": lambda tokens: zeros}), plain)
    shifted = lite.image_block(index, state, {"block": add})
    expected = plain + add(None).reshape(batch, height, height, width).permute(0, 3, 1, 2)
    torch.testing.assert_close(shifted, expected)
    step = state.shape[2] // height
    squares = state.unfold(2, step, step).unfold(3, step, step).mean((4, 5))
    torch.testing.assert_close(seen[0], squares.permute(0, 2, 3, 1).reshape(batch, height**2, -1))
    assert seen[0].shape[2] == lite.hook_widths(index, 0).image_in
    assert width == lite.hook_widths(index, 0).image_out


def test_gradients_reach_what_was_added_early(lite):
    state = lite.image_stem(lite.prepare_images(images(1)))
    extra = torch.zeros(1, 32 * 32, 24, requires_grad=True)
    for index in range(lite.image_blocks):
        state = lite.image_block(index, state, {"block": lambda tokens: extra} if index == 1 else None)
    lite.joint_features(state).square().mean().backward()
    assert extra.grad.abs().sum() > 0


# --- images ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(90, 130), (500, 333), (128, 128), (1, 1), (40, 1000)])
def test_images_are_squashed_as_pillow_does(lite, size):
    frames = images(2, *size)
    found = lite.prepare_images(frames) * 0.502 + 0.498
    resized = [Image.fromarray(f).resize((128, 128), Image.Resampling.BILINEAR) for f in frames]
    expected = torch.from_numpy(np.stack([np.asarray(r) for r in resized])).permute(0, 3, 1, 2) / 255
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 1.01 / 255


def test_read_only_frames_are_taken(lite):
    frames = images(1)
    frames.flags.writeable = False
    assert lite.prepare_images(frames).shape == (1, 3, 128, 128)


@torch.no_grad()
def test_maps_have_their_shapes_and_the_joint_map_is_centered_logits(lite):
    inputs = lite.prepare_images(images(2))
    state = walk(lite, inputs)[-1]
    assert lite.backbone_features(state).shape == (2, 320, 4, 4)
    joint = lite.joint_features(state)
    assert joint.shape == (2, 1000, 4, 4)
    assert joint.mean(1).abs().max() < 1e-4
    # The classifier is linear: the mean over positions is the whole image's logits, centered.
    logits = lite.class_logits(inputs)
    whole = logits - logits.mean(1, keepdim=True)
    torch.testing.assert_close(joint.mean((2, 3)), whole, atol=1e-4, rtol=1e-4)
    assert lite.image_feature(inputs).shape == (2, 1280)
    torch.testing.assert_close(lite.embed_images(inputs), whole, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_order_in_the_batch_does_not_matter(lite, sounds):
    inputs = lite.prepare_images(images(3))
    order = torch.tensor([2, 0, 1])
    a, b = (lite.joint_features(walk(lite, x)[-1]) for x in (inputs, inputs[order]))
    torch.testing.assert_close(b, a[order], atol=1e-4, rtol=1e-4)
    first, second = lite.encode_audio(sounds), lite.encode_audio(sounds[order])
    torch.testing.assert_close(second.embedding, first.embedding[order], atol=1e-4, rtol=1e-4)
    for site, tokens in first.index(order).tokens.items():
        torch.testing.assert_close(second.tokens[site], tokens, atol=1e-4, rtol=1e-4)


# --- sound ------------------------------------------------------------------------------------------------


def test_a_short_sound_is_tiled(lite):
    sound = np.random.default_rng(0).normal(0, 0.1, 7000).astype(np.float32)
    prepared = lite.prepare_audio(sound, 22050).numpy()
    assert prepared.shape == (MIN_SAMPLES,)
    np.testing.assert_array_equal(prepared, np.resize(sound * np.float32(256), MIN_SAMPLES))


def test_of_a_long_sound_the_middle_is_kept(lite):
    sound = np.linspace(-1, 1, MIN_SAMPLES * 2).astype(np.float32)
    prepared = lite.prepare_audio(sound, 22050).numpy()
    np.testing.assert_array_equal(prepared, sound[MIN_SAMPLES // 2 :][:MIN_SAMPLES] * 256)


def test_a_tone_keeps_its_pitch_and_level(lite):
    rate = 48000
    sound = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate * 20) / rate).astype(np.float32)
    prepared = lite.prepare_audio(sound, rate).numpy() / 256
    spectrum = np.abs(np.fft.rfft(prepared))
    assert spectrum.argmax() * 22050 / MIN_SAMPLES == pytest.approx(440, abs=0.1)
    assert np.sqrt((prepared**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=1e-2)


@pytest.mark.parametrize(("samples", "rate"), [(1, 96000), (1, 22050), (3, 8000), (5_000_000, 96000)])
def test_any_length_and_rate_give_one_shape(lite, samples, rate):
    prepared = lite.prepare_audio(np.full(samples, 0.5, np.float32), rate)
    assert prepared.shape == (MIN_SAMPLES,)
    assert prepared.dtype == torch.float32
    assert prepared.isfinite().all()


def test_an_empty_sound_is_a_media_error(lite):
    with pytest.raises(MediaError, match="empty"):
        lite.prepare_audio(np.zeros(0, np.float32), 22050)


def test_states_of_each_layer(lite, sounds):
    states = lite.encode_audio(sounds)
    assert states.embedding.shape == (3, 1000)
    assert states.embedding.mean(1).abs().max() < 1e-5
    shapes = {layer: tokens.shape for (layer, _), tokens in states.tokens.items()}
    widths = (16, 32, 64, 128, 256, 512, 1024)
    counts = (64, 64, 64, 64, 64, 15, 8)
    assert shapes == {i: (3, counts[i], widths[i]) for i in range(lite.audio_blocks)}
    everything = [states.embedding, *states.tokens.values()]
    assert all(x.isfinite().all() and not x.requires_grad for x in everything)


def test_features_are_means_then_maxima_then_logits(lite, sounds):
    features = lite.sound_features(sounds)
    states, objects, sources = lite.trunk.network(sounds)
    assert features.shape == (3, 4985)
    torch.testing.assert_close(features[:, 256:768], states[5].mean(2))
    torch.testing.assert_close(features[:, 1792 + 768 : 3584], states[6].amax(2))
    torch.testing.assert_close(features[:, 3584:4584], objects[..., 0])
    torch.testing.assert_close(features[:, 4584:], sources[..., 0])


def test_the_binding_reads_the_features(lite, sounds):
    head = AudioHead(4985, members=2, generator=torch.Generator().manual_seed(0)).eval()
    bound = LiteEncoder(128, binding=head, trunk="soundnet")
    found = bound.encode_audio(sounds)
    torch.testing.assert_close(found.embedding, head(lite.sound_features(sounds)))
    for site, tokens in lite.encode_audio(sounds).tokens.items():
        assert torch.equal(found.tokens[site], tokens)


# --- on YAMNet --------------------------------------------------------------------------------------------


def test_yamnets_layers_are_adapter_layers(lite_yamnet):
    """ "last" reads the last convolutions; every placement fits the 16 blocks."""
    assert lite_yamnet.adapter_pairs("last", 2) == [(14, 12), (15, 13)]
    assert lite_yamnet.adapter_pairs("first", 2) == [(0, 0), (1, 1)]
    assert lite_yamnet.adapter_pairs("interleaved", 8) == [(2 * i + 1, i + 6) for i in range(8)]
    assert [lite_yamnet.hook_widths(*p).audio for p in lite_yamnet.adapter_pairs("last", 3)] == [
        512,
        1024,
        1024,
    ]
    for bad in (("last", 15), ("interleaved", 9)):
        with pytest.raises(UsageError, match="must be in 1"):
            lite_yamnet.adapter_pairs(*bad)


@pytest.mark.parametrize(("samples", "rate"), [(1, 96000), (1, 16000), (15_599, 16_000), (800_000, 44_100)])
def test_yamnet_hears_four_patches_of_any_sound(lite_yamnet, samples, rate):
    prepared = lite_yamnet.prepare_audio(np.full(samples, 0.5, np.float32), rate)
    assert prepared.shape == (4, 15_600)
    assert prepared.dtype == torch.float32


def test_the_patches_cover_a_sound_from_end_to_end(lite_yamnet):
    sound = np.arange(32_000, dtype=np.float32) / 32_000
    prepared = lite_yamnet.prepare_audio(sound, 16_000).numpy()
    assert (prepared[0, 0], prepared[-1, -1]) == (sound[0], sound[-1])
    assert set(np.unique(prepared)) == set(sound)
    short = lite_yamnet.prepare_audio(sound[:100], 16_000).numpy()
    np.testing.assert_array_equal(short[:, :100], np.tile(sound[:100], (4, 1)))
    assert not short[:, 100:].any()


def test_states_of_yamnet_are_the_networks_own(lite_yamnet):
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, (2, 40_000)).astype(np.float32)
    sounds = torch.stack([lite_yamnet.prepare_audio(s, 16_000) for s in sound])
    found = lite_yamnet.encode_audio(sounds)
    alone = [lite_yamnet.trunk.network(sounds[1, patch][None]) for patch in range(4)]
    counts = (64, 64, 64, 64, 48, 48, 24, 24, 24, 24, 24, 24, 12, 12)
    for layer, count in enumerate(counts):
        assert found.tokens[layer, "block"].shape == (2, count, lite_yamnet.trunk.widths[layer])
    last = torch.cat([heard.states[-1] for heard in alone], 2)[0].T
    torch.testing.assert_close(found.tokens[13, "block"][1], last, atol=1e-4, rtol=1e-4)
    embeddings = torch.cat([heard.embedding[..., 0] for heard in alone])
    features = torch.cat([embeddings.mean(0), embeddings.amax(0)])
    torch.testing.assert_close(lite_yamnet.sound_features(sounds)[1], features, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        found.embedding[1], lite_yamnet.binding(features[None])[0], atol=1e-4, rtol=1e-4
    )


def test_a_trunk_refuses_the_others_binding_and_yamnet_needs_one():
    with pytest.raises(WeightsError, match="must read 2048 features of a sound, found one that reads 4985"):
        LiteEncoder(64, binding=AudioHead(4985))
    encoder = LiteEncoder(64, binding=None)
    with pytest.raises(UsageError, match="needs a binding to embed sounds"):
        encoder.encode_audio(encoder.prepare_audio(np.ones(10, np.float32), 16_000)[None])
