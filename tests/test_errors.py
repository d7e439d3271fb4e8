"""What an error offers instead of a name that is unknown."""

import pytest

from moca_avs.errors import did_you_mean


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        ("refin", "refine"),
        ("REFINE", "refine"),
        ("match-iou", "match_iou"),
        ("s5", "s4"),
        ("zebra", None),
        ("", None),
    ],
)
def test_the_nearest_name_is_offered_if_one_is_near(name, offered):
    said = did_you_mean(name, ["refine", "match_iou", "s4", "proposals"])
    assert said == ("" if offered is None else f"; did you mean {offered!r}?")
