"""Heat of tags: lift of the classes of what is heard, less that of any sound."""

import numpy as np
import pytest

from moca_avs.cues.tags import tag_heat
from moca_avs.encoders.audioset import audioset_labels, imagenet_table
from moca_avs.errors import UsageError

LABELS = audioset_labels()
RNG = np.random.default_rng(0)


def heard(**tags):
    scores = np.zeros(len(LABELS), np.float32)
    for name, score in tags.items():
        scores[LABELS.index(name)] = score
    return scores


def slow_heat(scores, logits, temperature, prior_share):
    """The same by loops, in words of the docstring."""
    rows = [np.flatnonzero(row) for row in imagenet_table()]
    useful = [tag for tag, row in enumerate(rows) if len(row)]
    total = sum(float(scores[tag]) for tag in useful)
    heat = np.zeros(logits.shape[1:])
    for y, x in np.ndindex(heat.shape):
        likely = np.exp(logits[:, y, x].astype(float) / temperature)
        lift = [likely[rows[tag]].mean() / likely.mean() for tag in useful]
        spread = np.mean(lift) * total
        heat[y, x] = (
            sum(scores[tag] * up for tag, up in zip(useful, lift, strict=True)) - prior_share * spread
        )
    return heat


@pytest.mark.parametrize(("temperature", "prior_share"), [(4.0, 0.5), (1.0, 0.0)])
def test_it_is_lift_less_the_lift_of_any_sound(temperature, prior_share):
    scores, logits = RNG.random(521).astype(np.float32), RNG.normal(0, 3, (1000, 2, 3)).astype(np.float32)
    heat = tag_heat(scores, logits, temperature, prior_share)
    assert (heat.shape, heat.dtype) == ((2, 3), np.float32)
    np.testing.assert_allclose(
        heat, slow_heat(scores, logits, temperature, prior_share), rtol=1e-3, atol=1e-3
    )


def test_each_of_two_things_is_hot_with_its_own_sound():
    logits = np.zeros((1000, 1, 3), np.float32)
    logits[207, 0, 0] = logits[817, 0, 2] = 10  # a retriever left, a sports car right, nothing between
    assert tag_heat(heard(Dog=0.8, Animal=0.9), logits)[0].argmax() == 0
    assert tag_heat(heard(Car=0.4, Vehicle=0.7), logits)[0].argmax() == 2


def test_a_wide_tag_does_not_heat_what_is_not_recognized():
    logits = np.zeros((1000, 1, 2), np.float32)
    logits[817, 0, 0] = 8
    left, right = tag_heat(heard(Vehicle=1.0), logits)[0]
    assert right == pytest.approx(0.5, rel=1e-3)  # lift 1, half of it taken away
    assert left > right


def test_nothing_with_a_place_is_heard():
    logits = RNG.normal(0, 3, (1000, 2, 3))
    assert not tag_heat(heard(Silence=1.0, Echo=0.5), logits).any()


def test_logits_count_up_to_a_constant_and_do_not_overflow():
    scores, logits = heard(Dog=1.0), RNG.normal(0, 3, (1000, 2, 2))
    np.testing.assert_allclose(tag_heat(scores, logits), tag_heat(scores, logits + 5e3), rtol=1e-2)


def test_other_shapes_are_refused():
    with pytest.raises(UsageError, match=r"found \[527\]"):
        tag_heat(np.zeros(527, np.float32), np.zeros((1000, 2, 2), np.float32))
    with pytest.raises(UsageError, match=r"\[2, 2, 1000\]"):
        tag_heat(np.zeros(521, np.float32), np.zeros((2, 2, 1000), np.float32))
