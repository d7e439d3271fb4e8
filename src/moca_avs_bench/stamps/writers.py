"""Clips on disk, in AVSBench's and VGG-SS's own layouts, with a manifest line for each; a contact sheet."""

from __future__ import annotations

import json
import os
import shutil
import wave
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from moca_avs_bench.data.layout import LAYOUTS, Entry, TableLayout
from moca_avs_bench.stamps.scenes import ClipData
from moca_avs_bench.stamps.sounds import RATE, Mix

SAMPLES = 40
_CELL, _WAVE, _COLUMNS = 224, 40, 8
_HEARD, _SILENT = (60, 230, 90), (255, 80, 60)


def write_sheet(out: Path) -> Path:
    """``contact_sheet.png`` of 40 samples, spread evenly over the splits of S4 and MS3."""
    lines = [
        (out / root, json.loads(line))
        for root in (LAYOUTS["s4"].folder, LAYOUTS["ms3"].folder)
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
    from moca_avs.io.audio import read_audio
    from moca_avs.io.image import read_image

    moment = len(line["frames"]) // 2
    frame = read_image(base / line["frames"][moment])
    for item in line["objects"]:
        if "masks" in item:
            stacked = read_image(base / item["masks"])[..., 0] > 127
            mask = stacked.reshape(len(line["frames"]), -1, stacked.shape[1])[moment]
            frame[outline(mask)] = _HEARD if item["sounding"][moment] else _SILENT
    cell = Image.new("RGB", (_CELL, height), "black")
    cell.paste(Image.fromarray(frame).resize((_CELL, _CELL), Image.Resampling.LANCZOS), (0, 0))
    sound, rate = read_audio(base / line["audio"])
    cell.paste(_waveform(sound, len(sound) // rate), (0, _CELL))
    draw = ImageDraw.Draw(cell)
    draw.text((2, _CELL + _WAVE), f"{line['split']} {line['tier']} {line['id']}", fill="white")
    for k, item in enumerate(line["objects"]):
        color = _HEARD if any(item["sounding"]) else _SILENT
        draw.text((2 + k * 75, _CELL + _WAVE + 13), item["category"][:12], fill=color)
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
    image = Image.new("RGB", (_CELL, _WAVE), (25, 25, 35))
    draw = ImageDraw.Draw(image)
    for second in range(1, seconds):
        draw.line([(second * _CELL // seconds, 0), (second * _CELL // seconds, _WAVE)], fill=(70, 70, 80))
    for x, part in enumerate(np.array_split(sound, _CELL)):
        reach = min(float(np.abs(part).max()), 1.0) * _WAVE / 2
        draw.line([(x, _WAVE / 2 - reach), (x, _WAVE / 2 + reach)], fill=(120, 190, 255))
    return image


_RGB = np.random.default_rng(71).integers(40, 256, (256, 3)).astype(np.uint8) * (np.arange(256)[:, None] > 0)
_V1S_EVERY = 4  # one single-source clip in four is written as AVSS v1s too


def write_clip(clip: ClipData, root: Path, indices: dict[str, int]) -> dict[str, dict[str, Any]]:
    """One clip in every dataset's layout that it belongs to.

    Args:
        clip: what to write.
        root: of the benchmark.
        indices: class -> index of the semantic labels, background 0.

    Returns:
        Dataset ("s4", "ms3", "avss") -> line of its manifest; "vggss" -> entry of ``vggss.json``.
    """
    plan = clip.plan
    if plan.layout == "v2":
        return {"avss": _write_avss(clip, root, "v2", indices, None)}
    line = _write_avsbench(clip, root, plan.layout)
    lines = {plan.layout: line}
    if plan.layout == "ms3":
        lines["avss"] = _write_avss(clip, root, "v1m", indices, line)
        return lines
    if plan.index % _V1S_EVERY == 0:
        lines["avss"] = _write_avss(clip, root, "v1s", indices, line)
    if plan.split == "test" and clip.active[0].all():
        lines["vggss"] = _write_vggss(clip, root, line)
    return lines


def _write_avsbench(clip: ClipData, root: Path, name: str) -> dict[str, Any]:
    """A clip of S4 or MS3; returns its manifest line."""
    layout, entry = LAYOUTS[name], _entry(clip)
    base, truth = root / layout.folder, clip.truth()
    frames = _write_frames(clip, base, layout, entry)
    for i in layout.annotated(entry):
        _save(_image_of(truth[i - layout.first]), base / layout.path(layout.mask, entry, i))
    return _finish(clip, base, frames, layout.path(layout.audio, entry))


def _write_avss(
    clip: ClipData, root: Path, label: str, indices: dict[str, int], line: dict[str, Any] | None
) -> dict[str, Any]:
    """A clip of AVSBench-semantic; `line`: the same clip's in S4 or MS3, whose sounds are shared."""
    layout, entry = LAYOUTS["avss"], _entry(clip, label)
    base = root / layout.folder
    frames = _write_frames(clip, base, layout, entry)
    codes = np.array([indices[c] for c in clip.scene.categories], np.uint8)[:, None, None, None]
    semantic = (clip.scene.masks * clip.active[:, :, None, None] * codes).max(axis=0)
    for i in layout.annotated(entry):
        path = layout.path(layout.mask, entry, i)
        _save(Image.fromarray(semantic[i]), base / path)
        _save(Image.fromarray(_RGB[semantic[i]]), base / path.replace("labels_semantic", "labels_rgb"))
    audio = layout.path(layout.audio, entry)
    if line is None:
        return _finish(clip, base, frames, audio) | {"label": label}
    other = root / LAYOUTS[clip.plan.layout].folder
    _same(other / line["audio"], base / audio)
    swap = [line["swap"]["audio"]] if line["swap"] else []
    for path in [*swap, *(o["masks"] for o in line["objects"] if "masks" in o)]:
        _same(other / path, base / path)
    return line | {"frames": frames, "audio": audio, "label": label}


def _write_vggss(clip: ClipData, root: Path, line: dict[str, Any]) -> dict[str, Any]:
    """First frame and sound of an S4 clip (`line`: its manifest's) as VGG-SS; returns its json entry."""
    layout, entry = LAYOUTS["vggss"], _entry(clip)
    base, side = root / layout.folder, clip.scene.frame.shape[0]
    _save(Image.fromarray(clip.scene.frame), base / layout.path(layout.frame, entry))
    _same(root / LAYOUTS["s4"].folder / line["audio"], base / layout.path(layout.audio, entry))
    rows, columns = np.nonzero(clip.truth()[0])
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return {
        "file": entry.name,
        "class": entry.category,
        "bbox": [[round(float(v) / side, 6) for v in box]],
    }


def _entry(clip: ClipData, label: str = "") -> Entry:
    plan = clip.plan
    return Entry(plan.name, plan.name, plan.split, plan.category, label)


def _write_frames(clip: ClipData, base: Path, layout: TableLayout, entry: Entry) -> list[str]:
    """Returns their paths; equal frames are one file under several names."""
    paths = [layout.path(layout.frame, entry, i) for i in layout.numbers(entry)]
    for i, path in enumerate(paths):
        if i and not clip.moving:
            _same(base / paths[0], base / path)
        else:
            _save(Image.fromarray(clip.scene.frames[i]), base / path)
    return paths


def write_wav(path: Path, sound: np.ndarray) -> None:
    """16-bit mono at 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.rint(np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


def _finish(clip: ClipData, base: Path, frames: list[str], audio: str) -> dict[str, Any]:
    """Write the sounds and, outside of training, each object's masks; returns the manifest line."""
    plan, scene = clip.plan, clip.scene
    write_wav(base / audio, clip.mix.sound)
    line: dict[str, Any] = {
        "id": plan.name,
        "split": plan.split,
        "tier": plan.letter,
        "category": plan.category,
        "cluster": scene.sounds[0].group,
        "frames": frames,
        "audio": audio,
        "background": scene.background,
        "moving": clip.moving,
        "room_dbfs": round(clip.mix.room, 2),
        "objects": [_describe(clip, base, k) for k in range(len(scene.cutouts))],
        "swap": None,
    }
    if clip.swap is not None:
        index, mix = clip.swap
        path = f"audio_swapped/{plan.split}/{plan.name}.wav"
        write_wav(base / path, mix.sound)
        line["swap"] = {
            "object": index,
            "audio": path,
            "sounding": clip.active.any(axis=0).astype(int).tolist(),
            "levels_dbfs": _levels(mix, index),
        }
    return line


def _describe(clip: ClipData, base: Path, index: int) -> dict[str, Any]:
    """One object's part of the manifest; its masks lie in one image, frame below frame."""
    cutout, sound = clip.scene.cutouts[index], clip.scene.sounds[index]
    entry = {
        "category": cutout.category,
        "cutout": cutout.source,
        "sound": sound.source,
        "sound_group": sound.group,
        "sounding": clip.active[index].astype(int).tolist(),
        "levels_dbfs": _levels(clip.mix, index),
    }
    if clip.plan.split != "train":
        path = f"object_masks/{clip.plan.split}/{clip.plan.name}_{index}.png"
        stacked = clip.scene.masks[index].reshape(-1, clip.scene.masks.shape[-1])
        _save(_image_of(stacked), base / path)
        entry["masks"] = path
    return entry


def _levels(mix: Mix, index: int) -> list[float]:
    return [round(float(level), 1) for level in mix.levels[index]]


def _image_of(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255)


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        image.save(path, quality=92)
    else:
        image.save(path, compress_level=2)


def _same(first: Path, path: Path) -> None:
    """The same file under another name: a hard link, or a copy where the file system has none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(first, path)
    except OSError:
        shutil.copyfile(first, path)
