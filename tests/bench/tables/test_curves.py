"""Training curves: where the lines lie."""

import numpy as np

from moca_avs_bench.tables.figures import COLORS, line_chart


def heights(image, color, rows):
    """Mean row of a color's pixels in the left and the right half of the plot."""
    found = (image[rows] == color).all(-1)
    middle = found.shape[1] // 2
    return [np.nonzero(half)[0].mean() for half in (found[:, :middle], found[:, middle:])]


def test_a_falling_line_falls_and_a_constant_one_stays():
    image = line_chart({"falling": np.linspace(1, 0, 200), "constant": np.full(200, 0.5)}, "title")
    plot = slice(0, 430)
    left, right = heights(image, COLORS[0], plot)
    assert right - left > 100  # rows count downwards
    left, right = heights(image, COLORS[1], plot)
    assert abs(right - left) < 2


def test_what_is_no_number_is_left_out():
    values = np.full(50, 0.5)
    values[10:20] = np.nan
    assert (line_chart({"a": values}, "t") == COLORS[0]).all(-1).sum() > 300


def test_a_longer_run_reaches_further():
    image = line_chart({"short": np.ones(50), "long": np.full(100, 0.5)}, "t")[:430]
    ends = [np.nonzero((image == COLORS[i]).all(-1))[1].max() for i in (0, 1)]
    assert ends[0] < 0.65 * ends[1]
