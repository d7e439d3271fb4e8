"""The oracle."""

import numpy as np
import pytest

from helpers.color_world import COLORS, ColorWorld
from moca_avs.errors import UsageError
from moca_avs_bench.tables.systems import OracleProposals


class Boxes:
    """Every color of the world, and the whole image."""

    settings = {"name": "boxes"}  # noqa: RUF012

    def __call__(self, frame):
        masks = [(frame == color).all(-1) for color in COLORS.values()]
        return np.stack([np.ones_like(masks[0]), *(mask for mask in masks if mask.any())])


def test_the_oracle_picks_the_proposal_nearest_the_truth():
    oracle = OracleProposals(Boxes(), ColorWorld(4))
    for sample_id in oracle.dataset.ids:
        sample = oracle.dataset.load(sample_id)
        np.testing.assert_array_equal(oracle(sample.clip).masks, sample.masks)  # silent frames are empty


def test_it_answers_only_what_it_was_told_last():
    oracle = OracleProposals(Boxes(), ColorWorld(2))
    first = oracle.dataset.load("clip0000")
    oracle.dataset.load("clip0001")
    with pytest.raises(UsageError, match="told last"):
        oracle(first.clip)
