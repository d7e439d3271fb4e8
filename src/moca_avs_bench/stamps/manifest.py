"""What the offline benchmark "stamps" tells beside the official files: objects, tiers, swapped sounds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from moca_avs.clip import Clip
from moca_avs.data.base import SceneObject
from moca_avs.errors import DataError

Line = dict[str, Any]


def read_manifest(base: Path, split: str) -> dict[str, Line]:
    """Clip -> line of the offline benchmark's manifest; empty where there is none (the real data)."""
    path = base / "manifest" / f"{split}.jsonl"
    if not path.is_file():
        return {}
    lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {line["id"]: line for line in lines}


def heard_classes(line: Line) -> str:
    """Class(es) heard in a clip, joined by "+"; "" where nothing is."""
    return "+".join(dict.fromkeys(o["category"] for o in line["objects"] if any(o["sounding"])))


def scene_objects(line: Line, count: int, read: Callable[[str], np.ndarray]) -> tuple[SceneObject, ...]:
    """Every object of a clip's first `count` frames.

    Args:
        line: of the manifest.
        count: T, number of frames wanted.
        read: path in the manifest -> image, uint8 [H, W, 3].

    Raises:
        DataError: where the clip has no object masks (training clips have none).
    """
    return tuple(_object(item, count, read, line["id"]) for item in line["objects"])


def swapped(
    line: Line, clip: Callable[[str], Clip], objects: tuple[SceneObject, ...]
) -> tuple[Clip, np.ndarray] | None:
    """The clip with a silent object's sound, and its masks, bool [T, H, W]; None where none is silent.

    Args:
        line: of the manifest.
        clip: path of a sound in the manifest -> the clip's frames with it.
        objects: of `scene_objects`.
    """
    swap = line["swap"]
    if swap is None:
        return None
    mask = objects[swap["object"]].mask
    heard = np.array(swap["sounding"][: len(mask)], bool)
    return clip(swap["audio"]), mask & heard[:, None, None]


def _object(item: Line, count: int, read: Callable[[str], np.ndarray], clip: str) -> SceneObject:
    sounding = np.array(item["sounding"][:count], bool)
    if "masks" not in item:
        raise DataError(f"the manifest has no object masks for {clip}; only val and test clips have them")
    stacked = read(item["masks"])[..., 0] > 127
    masks = stacked.reshape(len(item["sounding"]), -1, stacked.shape[1])[:count]
    heard = item["sound_group"] if sounding.any() else ""
    return SceneObject(masks, sounding, item["category"], item["cutout"], heard)
