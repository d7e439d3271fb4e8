"""Proposals kept on disk."""

from functools import partial

import numpy as np
import pytest

from moca_avs.proposals import PROPOSERS, build_proposer
from moca_avs_bench.tables.setup import DiskCachedProposer


@pytest.mark.parametrize("count", [0, 3])
def test_a_image_is_searched_once_and_remembered_bit_by_bit(tmp_path, count):
    rng = np.random.default_rng(count)
    asked = []

    class Proposer:
        def __init__(self, **settings):
            self.settings = {"name": "random"} | settings

        def __call__(self, frame):
            asked.append(frame)
            return rng.random((count, *frame.shape[:2])) < 0.5

    frame, other = rng.integers(0, 256, (2, 7, 5, 3)).astype(np.uint8)
    first = DiskCachedProposer(Proposer(), tmp_path)(frame)
    again = DiskCachedProposer(Proposer(), tmp_path)(frame)
    assert first.shape == (count, 7, 5)
    assert again.dtype == bool
    np.testing.assert_array_equal(first, again)
    assert len(asked) == 1
    DiskCachedProposer(Proposer(), tmp_path)(other)
    DiskCachedProposer(Proposer(threshold=0.4), tmp_path)(frame)
    assert len(asked) == 3


def test_wrapped_proposers_are_kept_and_no_registry_is_touched(tmp_path):
    before = dict(PROPOSERS)
    frame = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    proposer = build_proposer("superpixels", wrap=partial(DiskCachedProposer, folder=tmp_path))
    assert before == PROPOSERS
    found = proposer(frame)
    assert isinstance(proposer, DiskCachedProposer)
    assert len(list(tmp_path.glob("*/*.npz"))) == 1
    np.testing.assert_array_equal(found, build_proposer("superpixels")(frame))


def test_of_joined_proposers_each_is_kept(tmp_path):
    joined = build_proposer("saliency+superpixels", wrap=partial(DiskCachedProposer, folder=tmp_path))
    assert [type(proposer) for proposer in joined.proposers] == [DiskCachedProposer] * 2
