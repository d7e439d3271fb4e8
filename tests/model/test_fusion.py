"""Fusion: a zero gate changes nothing, a cached prefix changes nothing, gradients stay in the adapters."""

import pytest
import torch

from helpers.tiny_encoders import images_and_sounds, open_gates
from moca_avs.errors import UsageError
from moca_avs.model.adapter import AdapterSet
from moca_avs.model.fusion import enhanced_features, from_prefix, image_prefix


@pytest.mark.parametrize("space", ["joint", "trunk"])
@pytest.mark.parametrize("placement", ["last", "first"])
def test_zero_gates_are_the_frozen_encoder_bit_for_bit(encoder, space, placement):
    images, sounds = images_and_sounds(encoder)
    frozen = enhanced_features(encoder, None, images, sounds, space)
    fused = enhanced_features(encoder, AdapterSet(encoder, placement, 3), images, sounds, space)
    assert torch.equal(frozen, fused)
    assert frozen.shape[2:] == (encoder.grid, encoder.grid)


def test_open_gates_change_features_with_the_sound(encoder):
    images, sounds = images_and_sounds(encoder)
    adapters = open_gates(AdapterSet(encoder, count=2))
    fused = enhanced_features(encoder, adapters, images, sounds)
    other = enhanced_features(encoder, adapters, images, sounds.index(torch.tensor([1, 2, 0])))
    assert not torch.allclose(fused, enhanced_features(encoder, None, images, sounds))
    assert not torch.allclose(fused, other)


def test_one_sound_serves_every_image(encoder):
    images, sounds = images_and_sounds(encoder)
    adapters = open_gates(AdapterSet(encoder, count=2))
    one = sounds.index(torch.tensor([1]))
    torch.testing.assert_close(
        enhanced_features(encoder, adapters, images, one),
        enhanced_features(encoder, adapters, images, sounds.index(torch.tensor([1, 1, 1]))),
    )


@pytest.mark.parametrize("until", [0, 1, 2])
def test_the_prefix_is_the_same_way_in_two_parts(encoder, until):
    images, sounds = images_and_sounds(encoder)
    adapters = open_gates(AdapterSet(encoder, count=2))
    prefix = image_prefix(encoder, images, until)
    assert not prefix.requires_grad
    assert torch.equal(
        from_prefix(encoder, adapters, prefix, sounds, until),
        enhanced_features(encoder, adapters, images, sounds),
    )


def test_gradients_reach_all_adapters_and_nothing_else(encoder):
    images, sounds = images_and_sounds(encoder)
    adapters = open_gates(AdapterSet(encoder, "first", 3))
    enhanced_features(encoder, adapters, images, sounds).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in adapters.parameters())
    assert all(weight.grad is None for weight in encoder.parameters())


def test_a_prefix_behind_an_adapter_is_refused(encoder):
    images, sounds = images_and_sounds(encoder)
    with pytest.raises(UsageError, match="first adapter stands at block 2"):
        from_prefix(encoder, AdapterSet(encoder, count=2), image_prefix(encoder, images, 3), sounds, 3)


def test_an_unknown_space_is_refused(encoder):
    images, sounds = images_and_sounds(encoder)
    with pytest.raises(UsageError, match="joint, trunk"):
        enhanced_features(encoder, None, images, sounds, "pixel")


def test_checkpointed_blocks_give_the_same_gradients_and_keep_less(encoder):
    """The same bits, since the same operations run again; going backwards waits on far fewer tensors."""

    def gradients(checkpoint):
        adapters = open_gates(AdapterSet(encoder, count=2, generator=torch.Generator().manual_seed(0)))
        state = image_prefix(encoder, images, adapters.first_block)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
            fused = from_prefix(encoder, adapters, state, sounds, adapters.first_block, checkpoint=checkpoint)
        fused.square().sum().backward()
        return [weight.grad for weight in adapters.parameters()], sum(kept)

    images, sounds = images_and_sounds(encoder)
    (found, less), (expected, more) = gradients(True), gradients(False)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert any(one.abs().max() > 0 for one in expected)
    assert less < more / 2
