"""A contact sheet of the benchmark: frame, outlines of heard and silent objects, names, sound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

SAMPLES = 40
_CELL, _WAVE, _COLUMNS = 224, 40, 8
_HEARD, _SILENT = (60, 230, 90), (255, 80, 60)


def write_sheet(out: Path) -> Path:
    """``contact_sheet.png`` of 40 samples, spread evenly over the splits of S4 and MS3."""
    lines = [
        (out / root, json.loads(line))
        for root in ("Single-source", "Multi-sources")
        for split in ("val", "test", "train")
        for line in (out / root / "manifest" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    chosen = [lines[i] for i in np.linspace(0, len(lines) - 1, min(SAMPLES, len(lines))).astype(int)]
    height = _CELL + _WAVE + 28
    sheet = Image.new("RGB", (_COLUMNS * (_CELL + 4), -(-len(chosen) // _COLUMNS) * (height + 4)), "white")
    for i, (base, line) in enumerate(chosen):
        cell = _cell(base, line, height)
        sheet.paste(cell, (i % _COLUMNS * (_CELL + 4), i // _COLUMNS * (height + 4)))
    path = out / "contact_sheet.png"
    sheet.save(path)
    return path


def _cell(base: Path, line: dict[str, Any], height: int) -> Image.Image:
    """One sample: the middle frame (green outlines are heard in it, red ones not), and the whole sound."""
    from moca_avs.media import read_image, read_sound

    moment = len(line["frames"]) // 2
    frame = read_image(base / line["frames"][moment])
    for item in line["objects"]:
        if "masks" in item:
            stacked = read_image(base / item["masks"])[..., 0] > 127
            mask = stacked.reshape(len(line["frames"]), -1, stacked.shape[1])[moment]
            frame[outline(mask)] = _HEARD if item["sounding"][moment] else _SILENT
    cell = Image.new("RGB", (_CELL, height), "black")
    cell.paste(Image.fromarray(frame).resize((_CELL, _CELL), Image.Resampling.LANCZOS), (0, 0))
    sound, rate = read_sound(base / line["audio"])
    cell.paste(_waveform(sound, len(sound) // rate), (0, _CELL))
    draw = ImageDraw.Draw(cell)
    draw.text((2, _CELL + _WAVE), f"{line['split']} {line['tier']} {line['id']}", fill="white")
    for k, item in enumerate(line["objects"]):
        colour = _HEARD if any(item["sounding"]) else _SILENT
        draw.text((2 + k * 75, _CELL + _WAVE + 13), item["category"][:12], fill=colour)
    return cell


def outline(mask: np.ndarray, width: int = 2) -> np.ndarray:
    """Pixels of the mask within `width` of its border: bool [H, W]."""
    inner = mask
    for _ in range(width):
        padded = np.pad(inner, 1)
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _waveform(sound: np.ndarray, seconds: int) -> Image.Image:
    """The sound's envelope, a tick at each second."""
    picture = Image.new("RGB", (_CELL, _WAVE), (25, 25, 35))
    draw = ImageDraw.Draw(picture)
    for second in range(1, seconds):
        draw.line([(second * _CELL // seconds, 0), (second * _CELL // seconds, _WAVE)], fill=(70, 70, 80))
    for x, part in enumerate(np.array_split(sound, _CELL)):
        reach = min(float(np.abs(part).max()), 1.0) * _WAVE / 2
        draw.line([(x, _WAVE / 2 - reach), (x, _WAVE / 2 + reach)], fill=(120, 190, 255))
    return picture
