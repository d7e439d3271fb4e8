"""What a folder holds of a result, so that a finished one is known and an interrupted one goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moca_avs.io.results import HEADER, HEATMAPS, OUTPUTS, PARTIAL, RESULT, heat_shape, is_complete
from moca_avs.utils.files import parse_json


@dataclass(frozen=True, eq=False)
class KeptResult:
    """What a folder holds of a result: whole, interrupted, or left by a killed process.

    Attributes:
        settings: what it was made with.
        complete: it was written to its end.
        times: of the frames that are kept, in seconds; not read where it is complete.
        reasons: of these.
    """

    settings: dict[str, Any]
    complete: bool
    times: tuple[float, ...] = ()
    reasons: tuple[str, ...] = ()


def read_kept(folder: str | Path) -> KeptResult | None:
    """What of a result a folder holds; None where there is none that can be used."""
    folder = Path(folder)
    partial = folder / (RESULT + PARTIAL)
    interrupted = partial.exists()
    whole = not interrupted and is_complete(folder)
    times, reasons = [], []
    try:
        with (partial if interrupted else folder / RESULT).open("rb") as file:
            settings = parse_settings_line(file.readline())
            if whole:
                return KeptResult(settings, complete=True)
            file.readline()
            for line in file:
                frame = parse_json(line.rstrip(b",\n"))
                time, reason, _ = float(frame["time"]), str(frame["reason"]), frame["rle"]["counts"]
                times.append(time)
                reasons.append(reason)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):  # the line behind the last frame, or half a line
        if not times:
            return None
    count = len(times)
    if "heatmaps" in settings.get("input", {}).get("outputs", OUTPUTS):
        count = min(count, _heat_frames(folder))
    return KeptResult(settings, False, tuple(times[:count]), tuple(reasons[:count]))


def parse_settings_line(line: bytes) -> dict[str, Any]:
    """The settings by the first line of a ``result.json``; ValueError or KeyError where it is none."""
    settings = parse_json(line.rstrip().rstrip(b",") + b"}")["settings"]
    if not (isinstance(settings, dict) and isinstance(settings.get("input", {}), dict)):
        raise ValueError("settings and their input must be objects")
    return settings


def _heat_frames(folder: Path) -> int:
    """How many frames of heat are there, counted by bytes: a killed process may not have noted the last."""
    for path in (folder / (HEATMAPS + PARTIAL), folder / HEATMAPS):
        if path.exists():
            try:
                _, height, width = heat_shape(path)
            except (ValueError, KeyError, TypeError):
                return 0
            size = 2 * height * width
            return (path.stat().st_size - HEADER) // size if size else 0
    return 0
