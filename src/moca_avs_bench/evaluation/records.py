"""The JSONL file of an evaluation: a header, then one line per sample; a shard's file is one of several."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from moca_avs.errors import DataError, UsageError
from moca_avs.utils.files import parse_json

FORMAT = 1
METRICS = 2
"""Raised when equal predictions come to other numbers: records of two revisions are never mixed. 1 (headers
that do not say): heat was enlarged in float32, so ties fell on rounding noise."""
Record = dict[str, Any]
Header = dict[str, Any]
FSource = Literal["mask", "heatmap"]


def read_header(path: Path) -> Header:
    """The first line of a file of records.

    Raises:
        DataError: where the file is missing or begins with something else.
    """
    try:
        with path.open("rb") as lines:
            header = parse_json(lines.readline().decode() or "null")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} should be the JSONL file of an evaluation: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DataError(f"{path} should begin with an evaluation header of format {FORMAT}; make it again")
    return header


def read_records(path: Path) -> Iterator[Record]:
    """Records in the file's order, one at a time; a last line cut off by a kill is not one.

    Raises:
        DataError: on a damaged line.
    """
    with path.open("rb") as lines:
        next(lines, None)  # the header
        for number, line in enumerate(lines, 2):
            if not line.endswith(b"\n"):
                return
            try:
                record = parse_json(line.decode())
                if not isinstance(record["index"], int):
                    raise TypeError(f"index {record['index']!r} is no whole number")
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"line {number} of {path} is damaged: {error!r}; remove the file") from error
            yield record


def read_together(paths: Sequence[Path]) -> tuple[Header, Iterator[Record]]:
    """The records of several shards in the split's order, one at a time, under their one header.

    Raises:
        UsageError: where the files are not of one evaluation.
        DataError: on a missing or damaged file.
    """
    if not paths:
        raise UsageError("no JSONL file was given; name at least one")
    header, *others = [
        {key: value for key, value in read_header(path).items() if key != "shard"} for path in paths
    ]
    for path, other in zip(paths[1:], others, strict=True):
        check_same(header, other, f"{path} is not of the same evaluation as {paths[0]}")
    streams = [read_records(path) for path in paths]
    return header, heapq.merge(*streams, key=lambda record: record["index"])


def check_same(expected: Header, found: Header, complaint: str) -> None:
    """Raises UsageError that names what differs between two headers."""
    differing = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    if differing:
        details = "; ".join(f"{key}: {expected.get(key)!r} against {found.get(key)!r}" for key in differing)
        raise UsageError(f"{complaint}: {details}"[:2000])
