"""The shared block against torch's own attention; placements; precision; random weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from moca_avs.encoders.transformer import Attention, Block, placed, precision, randomize
from moca_avs.errors import UsageError


def random_block(**options):
    block = Block(12, 3, 20, **options)
    randomize(block.state_dict().items(), seed=0)
    return block


@pytest.mark.parametrize("extra_key", [False, True])
def test_attention_is_torchs(extra_key):
    ours = Attention(12, 3, extra_key)
    randomize(ours.state_dict().items(), seed=1)
    theirs = nn.MultiheadAttention(12, 3, add_bias_kv=extra_key, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    tokens = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(0))
    expected, _ = theirs(tokens, tokens, tokens, need_weights=False)
    torch.testing.assert_close(ours(tokens), expected, atol=1e-5, rtol=1e-5)


def test_a_block_is_its_equation_and_the_sites_read_what_enters_them():
    block = random_block(eps=1e-3)
    tokens = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(0))
    read = {}

    def site(name, value):
        def add(entering):
            read[name] = entering
            return torch.full_like(entering, value)

        return add

    found = block(tokens, {"attention": site("attention", 0.5), "mlp": site("mlp", -2.0)})
    middle = tokens + block.attn(F.layer_norm(tokens, (12,), *block.norm_1.parameters(), 1e-3)) + 0.5
    normed = F.layer_norm(middle, (12,), *block.norm_2.parameters(), 1e-3)
    hidden = F.linear(normed, block.mlp.fc1.weight, block.mlp.fc1.bias)
    activated = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    expected = middle + F.linear(activated, block.mlp.fc2.weight, block.mlp.fc2.bias) - 2
    torch.testing.assert_close(found, expected)
    assert torch.equal(read["attention"], tokens)
    torch.testing.assert_close(read["mlp"], middle)
    assert torch.equal(block(tokens, {"mlp": torch.zeros_like}), block(tokens))


def test_half_precision_keeps_the_stream_and_the_norms():
    block = random_block()
    tokens = torch.randn(1, 3, 12)
    block.set_precision(precision("bfloat16"))
    assert block(tokens).dtype == block.norm_1.weight.dtype == torch.float32
    assert block.attn.in_proj_weight.dtype == block.mlp.fc2.weight.dtype == torch.bfloat16
    with pytest.raises(UsageError, match="found 'half'"):
        precision("half")


@pytest.mark.parametrize(
    ("placement", "count", "expected"),
    [
        ("last", 3, [(29, 9), (30, 10), (31, 11)]),
        ("first", 2, [(0, 0), (1, 1)]),
        ("interleaved", 3, [(27, 7), (29, 9), (31, 11)]),
        ("interleaved", 6, [(21, 1), (23, 3), (25, 5), (27, 7), (29, 9), (31, 11)]),
        ("last", 12, [(20 + i, i) for i in range(12)]),
    ],
)
def test_placements(placement, count, expected):
    assert placed(placement, count, 32, 12) == expected


@pytest.mark.parametrize(
    ("placement", "count", "says"),
    [
        ("middle", 2, "placement must be one of last, first, interleaved"),
        ("last", 13, r"1\.\.12"),
        ("last", 0, r"1\.\.12"),
        ("interleaved", 7, r"1\.\.6"),
    ],
)
def test_impossible_placements_are_refused(placement, count, says):
    with pytest.raises(UsageError, match=says):
        placed(placement, count, 32, 12)


def test_random_weights_are_seeded_and_alive():
    first, again, other = (Block(12, 3, 20) for _ in range(3))
    for block, seed in ((first, 3), (again, 3), (other, 4)):
        randomize(block.state_dict().items(), seed)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
        assert not torch.equal(weight, other.state_dict()[name])
    out = first(torch.randn(1, 50, 12, generator=torch.Generator().manual_seed(0)))
    assert 0.5 < float(out.detach().std()) < 5
