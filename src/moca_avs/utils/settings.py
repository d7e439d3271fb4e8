"""The base of every group of settings: a frozen dataclass whose annotations say what its fields may hold."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from moca_avs.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Range:
    """Bounds of a number, both allowed; in an annotation: ``Annotated[float, Range(0, 600)]``."""

    low: float = -math.inf
    high: float = math.inf


Count = Annotated[int, Range(1)]
Share = Annotated[float, Range(0, 1)]
NonNegative = Annotated[float, Range(0)]
Seed = Annotated[int, Range(0)]


@dataclass(frozen=True)
class Settings:
    """Base of frozen dataclasses of settings; values that their annotations do not allow are refused.

    A field is a bool, an int, a float (an int will do, NaN and infinity will not), a str (not empty) or a
    Literal of names, any of them with ``| None``; numbers may have a `Range`.

    Raises:
        UsageError: on a value outside its range, of another type, or that does not exist.
    """

    group: ClassVar[str] = "settings"  # what an error calls them

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for name in (field.name for field in fields(self)):
            value, hint, bounds = getattr(self, name), hints[name], Range()
            if type(None) in get_args(hint):
                if value is None:
                    continue
                (hint,) = (part for part in get_args(hint) if part is not type(None))
            if get_origin(hint) is Annotated:
                hint, bounds = get_args(hint)
            if get_origin(hint) is Literal:
                allowed = value in get_args(hint)
                expected = f"one of {', '.join(get_args(hint))}"
            elif hint is bool:
                allowed, expected = isinstance(value, bool), "true or false"
            elif hint is str:
                allowed, expected = isinstance(value, str) and value != "", "a text that is not empty"
            else:
                number = isinstance(value, int if hint is int else int | float) and not isinstance(
                    value, bool
                )
                allowed = number and abs(value) < math.inf and bounds.low <= value <= bounds.high
                expected = "a whole number" if hint is int else "a finite number"
                if bounds.high < math.inf:
                    expected += f" in {bounds.low}..{bounds.high}"
                elif bounds.low > -math.inf:
                    expected += f" of at least {bounds.low}"
            if not allowed:
                names = get_args(hint) if get_origin(hint) is Literal else ()
                raise UsageError(
                    f"{name} must be {expected}, found {value!r}{did_you_mean(str(value), names)}"
                )

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`; missing fields take their defaults.

        Raises:
            UsageError: on a name that is no field; the message lists what there is.
        """
        known = sorted(field.name for field in fields(cls))
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise UsageError(
                f"unknown {cls.group} {', '.join(unknown)}; there are: {', '.join(known)}"
                f"{did_you_mean(unknown[0], known)}"
            )
        return cls(**values)
