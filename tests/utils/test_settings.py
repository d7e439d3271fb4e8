"""Settings check themselves by their annotations."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from moca_avs.errors import UsageError
from moca_avs.utils.settings import Count, Range, Settings


@dataclass(frozen=True)
class Example(Settings):
    count: Count = 1
    ratio: Annotated[float, Range(-1, 2)] = 0.5
    level: float = -60.0
    rate: Annotated[float, Range(0.5)] | None = None
    kind: Literal["one", "two"] = "one"
    name: str | None = None
    on: bool = True


def test_what_the_annotations_allow_is_kept():
    allowed = {"count": 3, "ratio": 2, "level": 0, "rate": 0.5, "kind": "two", "name": "x", "on": False}
    assert Example(**allowed).to_dict() == allowed
    assert Example.from_dict(allowed) == Example(**allowed)
    assert Example.from_dict({"rate": None}) == Example()


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("count", 0, "a whole number of at least 1, found 0"),
        ("count", 1.0, "a whole number of at least 1, found 1.0"),
        ("count", True, "a whole number of at least 1, found True"),
        ("ratio", 2.5, r"a finite number in -1\.\.2, found 2\.5"),
        ("ratio", math.nan, "a finite number in"),
        ("level", -math.inf, "a finite number, found -inf"),
        ("level", math.nan, "a finite number, found nan"),
        ("level", "loud", "a finite number, found 'loud'"),
        ("rate", math.inf, "a finite number of at least 0.5, found inf"),
        ("kind", "three", "one of one, two, found 'three'"),
        ("kind", ["one"], "one of one, two"),
        ("name", "", "a text that is not empty, found ''"),
        ("name", 3, "a text"),
        ("on", 1, "true or false, found 1"),
        ("on", None, "true or false, found None"),
    ],
)
def test_anything_else_is_refused(field, value, expected):
    with pytest.raises(UsageError, match=f"^{field} must be {expected}"):
        Example(**{field: value})


def test_unknown_names_are_told_with_what_there_is():
    with pytest.raises(UsageError, match=r"^unknown settings size, typ; there are: count, kind, level, name"):
        Example.from_dict({"typ": 1, "size": 2})
