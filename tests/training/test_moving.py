import json

import numpy as np
import pytest

from helpers.tiny_training import TinyData, TinyEncoder, config
from moca_avs.errors import DataError, UsageError
from moca_avs.training.config import TrainConfig
from moca_avs.training.moving import moving_positions
from moca_avs.training.trainer import train


class Moving(TinyData):
    """The left upper part of every other frame moves with the sound."""

    def synchrony(self, index: int) -> np.ndarray | None:
        if index % 2:
            return None
        found = np.full((8, 12), -0.5, np.float32)
        found[:4, :6] = 0.8
        return found


def by_hand(found: np.ndarray, grid: int) -> np.ndarray:
    rows, columns = found.shape[0] // grid, found.shape[1] // grid
    means = [
        [found[y * rows : (y + 1) * rows, x * columns : (x + 1) * columns].mean() for x in range(grid)]
        for y in range(grid)
    ]
    highest = max(max(row) for row in means)
    chosen = np.array([[one >= 0.1 and one >= highest / 2 for one in row] for row in means], float)
    return chosen / max(chosen.sum(), 1)


def test_positions_that_move_with_the_sound() -> None:
    class Drawn(Moving):
        def synchrony(self, index: int) -> np.ndarray:
            scale = (0.05, 0.5, 1)[index % 3]  # of one in three nothing reaches the least
            return np.random.default_rng(index).uniform(-scale, scale, (8, 12)).astype(np.float32)

    data = Drawn(12)
    found = moving_positions(data, 4).numpy()
    expected = np.stack([by_hand(data.synchrony(row), 4) for row in range(12)])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not found[::3].any()
    assert found[1::3].any()


def test_where_nothing_is_known_or_moves() -> None:
    with pytest.raises(DataError, match="TinyData"):
        moving_positions(TinyData(12), 4)
    still = Moving(12)
    still.synchrony = lambda index: None  # type: ignore[method-assign]
    with pytest.raises(DataError, match="nothing moves"):
        moving_positions(still, 4)


def test_a_run_learns_from_what_moves(tmp_path) -> None:
    settings = config(objective="synchrony", steps=100, checkpoint_every=100)
    out = train(TinyEncoder(), Moving(), settings, tmp_path / "run", progress=False)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines]
    assert np.mean(losses[-20:]) < 0.9 * np.mean(losses[:20])
    assert all("mismatched_loss" in line for line in lines if line["step"] % 50 == 0)


def test_it_needs_the_joint_space() -> None:
    with pytest.raises(UsageError, match="joint"):
        TrainConfig(objective="synchrony", feature_space="trunk")
