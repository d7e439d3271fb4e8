import math
from dataclasses import replace

import pytest
import torch

from helpers.tiny_training import TinyData, TinyEncoder, config
from moca_avs.errors import UsageError
from moca_avs.model.adapter import AdapterSet
from moca_avs.model.fusion import enhanced_features
from moca_avs.model.matching import audio_weights, matching_cost, pool_cost
from moca_avs.training.config import TrainConfig
from moca_avs.training.features import FeatureExtractor
from moca_avs.training.objectives import OBJECTIVES, Batch, training_loss

ANCHORS, POSITIVES, NEGATIVES = torch.tensor([[3, 0, 8], [5, 7, 9], [9, 3, 1]])


@pytest.fixture
def adapters() -> AdapterSet:
    generator = torch.Generator().manual_seed(3)
    adapters = AdapterSet(TinyEncoder(), count=2, generator=generator)
    for name, weight in adapters.named_parameters():
        if name.endswith("gate"):
            torch.nn.init.constant_(weight, 0.3)
    return adapters


def make_batch(adapters: AdapterSet, settings: TrainConfig) -> Batch:
    encoder = TinyEncoder()
    hook_points = tuple((layer, site) for layer in range(2) for site in encoder.hook_points)
    states = FeatureExtractor(encoder, TinyData(12), adapters.first_block, hook_points)
    generator = torch.Generator().manual_seed(0)
    return Batch(
        encoder, adapters, states, settings, ANCHORS, POSITIVES, NEGATIVES, generator, moving=moving()
    )


def moving() -> torch.Tensor:
    """Two positions of the first anchor move, one of the second, none of the third."""
    weights = torch.zeros(3, 4, 4)
    weights[0, 1, 2] = weights[0, 3, 0] = 0.5
    weights[1, 2, 2] = 1
    return weights


def alone(adapters: AdapterSet, image: int, sound: int, space: str = "joint") -> torch.Tensor:
    """One image with one sound, from the files up, nothing shared."""
    encoder, data = TinyEncoder(), TinyData(12)
    heard = encoder.encode_audio(encoder.prepare_audio(*data.sound(sound))[None])
    return enhanced_features(encoder, adapters, encoder.prepare_images(data.frame(image)[None]), heard, space)


def test_fuse_pairs_each_image_with_its_sound(adapters) -> None:
    images, sounds = torch.tensor([4, 1, 4, 4]), torch.tensor([2, 2, 6, 2])
    for space in ("joint", "trunk"):
        fused = make_batch(adapters, config(feature_space=space)).enhanced_features(images, sounds)
        one_by_one = [alone(adapters, int(p), int(s), space) for p, s in zip(images, sounds, strict=True)]
        torch.testing.assert_close(fused, torch.cat(one_by_one), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(fused[0], fused[2], atol=1e-3)  # the sound changes the image's features


@torch.no_grad()
def by_hand(adapters: AdapterSet, objective: str, margin: float) -> tuple[float, float, float]:
    losses, costs = [], []
    for a, p, n in zip(ANCHORS.tolist(), POSITIVES.tolist(), NEGATIVES.tolist(), strict=True):
        anchor = alone(adapters, a, a)
        negative = alone(adapters, n, a) if objective == "triplet" else alone(adapters, a, n)
        near = float(matching_cost(anchor, alone(adapters, p, a)))
        far = float(matching_cost(anchor, negative))
        costs.append((near, far))
        losses.append(max(0.0, near - far + margin))
    near, far = (sum(column) / 3 for column in zip(*costs, strict=True))
    return sum(losses) / 3, near, far


@pytest.mark.parametrize("margin", [0.3, 1.5])
@pytest.mark.parametrize("objective", ["triplet", "audio_swap_triplet"])
def test_triplet_equals_one_made_by_hand(adapters, objective: str, margin: float) -> None:
    loss, stats = training_loss(make_batch(adapters, config(objective=objective, margin=margin)))
    expected, near, far = by_hand(adapters, objective, margin)
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-5)
    assert stats["positive"] == pytest.approx(near, abs=1e-5)
    assert stats["negative"] == pytest.approx(far, abs=1e-5)
    assert 0 <= stats["active"] <= 1


@torch.no_grad()
def test_mismatched_gives_adapters_the_negatives_sound(adapters) -> None:
    """The loss that the log compares with: images, costs and questions stay."""
    settings, swaps = config(), dict(zip(ANCHORS.tolist(), NEGATIVES.tolist(), strict=True))
    found, _ = training_loss(replace(make_batch(adapters, settings), mismatched=True))
    losses = []
    for a, p, n in zip(ANCHORS.tolist(), POSITIVES.tolist(), NEGATIVES.tolist(), strict=True):
        anchor, positive, negative = (alone(adapters, image, swaps[a]) for image in (a, p, n))
        near, far = matching_cost(anchor, positive), matching_cost(anchor, negative)
        losses.append(max(0.0, float(near - far) + settings.margin))
    assert float(found) == pytest.approx(sum(losses) / 3, abs=1e-5)
    batch = make_batch(adapters, config(objective="audio_swap_triplet"))
    (own, _), (other, _) = training_loss(batch), training_loss(replace(batch, mismatched=True))
    assert float(own) != pytest.approx(float(other), abs=1e-4)


def test_listening_equals_one_made_by_hand(adapters) -> None:
    loss, stats = training_loss(make_batch(adapters, config(objective="infonce")))
    anchors, data, encoder = ANCHORS.tolist(), TinyData(12), TinyEncoder()
    scores = []
    for s in anchors:
        heard = encoder.encode_audio(encoder.prepare_audio(*data.sound(s))[None]).embedding[0]
        row = []
        for p in anchors:
            positions = alone(adapters, p, s)[0].detach().flatten(1).T
            cosines = [float(torch.cosine_similarity(x, heard, dim=0)) for x in positions]
            row.append(0.07 * math.log(sum(math.exp(c / 0.07) for c in cosines) / len(cosines)))
        scores.append(row)

    def surprise(own: float, all_: list[float]) -> float:
        return -math.log(math.exp(own / 0.07) / sum(math.exp(x / 0.07) for x in all_))

    expected = sum(
        surprise(scores[i][i], scores[i]) + surprise(scores[i][i], [row[i] for row in scores])
        for i in range(3)
    )
    assert float(loss.detach()) == pytest.approx(expected / 6, abs=1e-4)
    assert stats["right"] == pytest.approx(sum(max(row) == row[i] for i, row in enumerate(scores)) / 3)


def test_synchrony_equals_one_made_by_hand(adapters) -> None:
    loss, stats = training_loss(make_batch(adapters, config(objective="synchrony")))
    data, encoder = TinyData(12), TinyEncoder()

    def answer(image: int, sound: int, positions: list[tuple[int, int]]) -> float:
        heard = encoder.encode_audio(encoder.prepare_audio(*data.sound(sound))[None]).embedding[0]
        features = alone(adapters, image, sound)[0].detach()
        cosines = [float(torch.cosine_similarity(features[:, y, x], heard, dim=0)) for y, x in positions]
        return sum(cosines) / len(cosines)

    gaps = [
        answer(a, a, where) - answer(a, n, where)
        for a, n, where in zip(
            ANCHORS.tolist(), NEGATIVES.tolist(), [[(1, 2), (3, 0)], [(2, 2)]], strict=False
        )
    ]
    expected = [math.log1p(math.exp(-gap / 0.07)) for gap in gaps] + [math.log(2)]
    assert float(loss.detach()) == pytest.approx(sum(expected) / 3, abs=1e-4)
    assert stats["right"] == pytest.approx(sum(gap > 0 for gap in gaps) / 3)


def test_synchrony_needs_to_know_what_moves(adapters) -> None:
    with pytest.raises(UsageError, match="moving"):
        training_loss(replace(make_batch(adapters, config(objective="synchrony")), moving=None))


def test_active_share_counts_the_triplets_that_teach(adapters) -> None:
    assert training_loss(make_batch(adapters, config(margin=100.0)))[1]["active"] == 1
    loss, stats = training_loss(make_batch(adapters, config(margin=0.0)))
    assert stats["active"] < 1
    assert (float(loss.detach()) > 0) == (stats["active"] > 0)


def test_settings_reach_the_cost(adapters) -> None:
    rows = torch.tensor([0, 1])
    f, g = (torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(i)) for i in (1, 2))

    def cost(**changes: object) -> torch.Tensor:
        return make_batch(adapters, config(**changes)).cost(f, g, rows)

    torch.testing.assert_close(cost(), matching_cost(f, g))
    torch.testing.assert_close(cost(ssd=0), matching_cost(f, g, ssd_weight=0))
    torch.testing.assert_close(cost(ncc=0.5), matching_cost(f, g, ncc_weight=0.5))
    torch.testing.assert_close(cost(ncc_form="literal"), matching_cost(f, g, ncc="literal"))
    torch.testing.assert_close(cost(window=1), matching_cost(f, g, window=1))
    torch.testing.assert_close(cost(max_disparity=1), matching_cost(f, g, max_disparity=1))
    torch.testing.assert_close(cost(aggregation="pool"), pool_cost(f, g))
    torch.testing.assert_close(cost(aggregation="pool", ssd=0.5), pool_cost(f, g, ssd_weight=0.5))
    heard = make_batch(adapters, config()).precomputed.sounds(rows).embedding
    weighted = matching_cost(f, g, weights=audio_weights(f, heard))
    torch.testing.assert_close(cost(weighting="audio"), weighted)
    assert not torch.allclose(weighted, matching_cost(f, g))


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_every_objective_teaches_every_adapter(adapters, objective: str) -> None:
    loss, _ = training_loss(make_batch(adapters, config(objective=objective, margin=10.0)))
    loss.backward()
    silent = [name for name, weight in adapters.named_parameters() if weight.grad is None]
    assert silent == []
    assert all(weight.grad.abs().sum() > 0 for weight in adapters.parameters())


def test_unknown_objective(adapters, monkeypatch) -> None:
    monkeypatch.delitem(OBJECTIVES, "infonce")
    with pytest.raises(UsageError, match="triplet"):
        training_loss(make_batch(adapters, config(objective="infonce")))
