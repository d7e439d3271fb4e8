import pytest
import torch
import torch.nn.functional as F

from moca_avs.encoders.lite import AudioHead
from moca_avs.errors import WeightsError
from moca_avs.hub.weight_files import write_safetensors

FEATURES = 300


@pytest.fixture
def features(generator):
    return torch.randn(6, FEATURES, generator=generator)


@pytest.fixture
def head(generator, features):
    head = AudioHead(FEATURES, members=3, dropout=0.3, joint_dim=20, generator=generator)
    head.set_statistics(5 * features + 2)
    return head.eval()


def test_equals_the_members_one_by_one(head, features):
    outputs = []
    for m in range(3):
        x = (features - head.mean) / head.std
        hidden = F.gelu(x @ head.weight1[m] + head.bias1[m])
        outputs.append(F.normalize(hidden @ head.weight2[m] + head.bias2[m], dim=1))
    torch.testing.assert_close(head.members(features), torch.stack(outputs), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(head(features), torch.stack(outputs).mean(0), atol=1e-5, rtol=1e-4)


def test_statistics_standardize(head, features):
    standard = (5 * features + 2 - head.mean) / head.std
    torch.testing.assert_close(standard.mean(0), torch.zeros(FEATURES), atol=1e-4, rtol=0)
    torch.testing.assert_close(standard.std(0), torch.ones(FEATURES), atol=1e-4, rtol=0)


def test_members_take_batches_of_their_own(head, features):
    own = torch.stack([features, features.flip(0), features * 2])
    together = head.members(own)
    for m in range(3):
        torch.testing.assert_close(together[m], head.members(own[m])[m], atol=1e-5, rtol=1e-4)


def test_dropout_only_while_training(head, features):
    assert torch.equal(head(features), head(features))
    head.train()
    assert not torch.equal(head.members(features), head.members(features))


def test_what_training_sounds_share_is_taken_out(head, features):
    before = head(features)
    head.set_common(features, 0.5)
    torch.testing.assert_close(head(features), before - before.mean(0) / 2, atol=1e-6, rtol=1e-5)
    head.set_common(features, 1.0)
    assert head(features).mean(0).abs().max() < 1e-6


def test_save_and_load_keep_what_it_says(head, features, tmp_path):
    head.set_common(features[:2], 0.5)
    head.save(tmp_path / "head.safetensors", {"heard": ["a.ogg"]})
    loaded = AudioHead.load(tmp_path / "head.safetensors")
    assert not loaded.training
    assert F.cosine_similarity(loaded(features), head(features)).min() > 0.99999


def test_another_file_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="is not there"):
        AudioHead.load(tmp_path / "none.safetensors")
    write_safetensors({"a": torch.ones(1)}, tmp_path / "other.safetensors", {})
    with pytest.raises(WeightsError, match="no sound head"):
        AudioHead.load(tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"abc")
    with pytest.raises(WeightsError, match="no whole safetensors file"):
        AudioHead.load(tmp_path / "broken.safetensors")
