"""Segmentations on disk: written as they come, whole again when read.

A folder holds

- ``result.json``: ``settings``; ``frames``: for each its time (s), score, reason and mask (COCO RLE, ASCII
  counts), where classes were named ``classes``: class index -> its pixels (RLE), and where it was not looked
  at itself ``carried_from``: the time (s) of the frame whose mask was carried to it; ``size`` [H, W];
  ``complete``: false where writing was interrupted. The settings are the first line, each frame is a line;
- ``heatmaps.safetensors``: ``heatmaps`` float16 [T, h, w];
- ``masks/000000.png`` (0 or 255) and ``heatmaps/000000.png`` (0..255 for heat 0..1), at source size; where
  classes were named also ``labels/000000.png`` (class indices).

Only ``result.json`` is always there; the others may have been left out.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from moca_avs.errors import MediaError
from moca_avs.io.image import overlay, resized
from moca_avs.utils.files import parse_json, unwritable_error
from moca_avs.utils.profiler import record

if TYPE_CHECKING:
    from moca_avs.clip import Segmentation

RESULT, HEATMAPS, OVERLAY = "result.json", "heatmaps.safetensors", "overlay.mp4"
OUTPUTS = ("overlay", "masks", "heatmaps", "json")
"""What a result folder can hold: overlay.mp4; masks/ (and labels/); heatmaps/ and heatmaps.safetensors;
result.json, which is always written, since it says which run the folder is of and whether it is finished."""
PARTIAL = ".partial"
_LABELS = "labels"
_IMAGES = ("masks", "heatmaps", _LABELS)
# The header's room at the front of heatmaps.safetensors: its length (8 bytes) and JSON padded with spaces.
HEADER = 256
_QUICK = 1  # zlib level: ten times as fast as the usual 6, a fifth larger


class SegmentationWriter:
    """Writes a result chunk by chunk; nothing grows with its length.

    Use it as a context manager. Left normally, ``result.json`` says ``"complete": true``; left by an error or
    Ctrl-C it says false and holds the frames that were finished. Both big files grow under another name and
    are valid after every chunk; they get their own name at the end. Results that were in the folder before
    are replaced.

    Args:
        folder: made if missing.
        settings: everything needed to run it again; JSON-serializable (tuples come back as lists).
        outputs: which of `OUTPUTS` are written; "overlay" is no concern of this writer.
        keep: frames of an interrupted result in the folder (`read_kept`) that stay; `append` goes on behind
            them. The settings stay those of that result.

    Raises:
        MediaError: a folder that can't be written or holds masks of another origin, a full disk (it says how
            many frames were kept), frames of another size than the first, scores or settings JSON can't hold.
    """

    def __init__(
        self,
        folder: str | Path,
        settings: dict[str, Any],
        outputs: Collection[str] = OUTPUTS,
        keep: int = 0,
    ) -> None:
        self.folder = Path(folder)
        self.frames = keep
        self._settings = settings
        self._images = [part for part in ("masks", "heatmaps") if part in outputs]
        self._size: tuple[int, int] | None = None
        self._heat_size = (0, 0)
        self._end = 0  # of the JSON up to the last finished frame, in bytes

    def __enter__(self) -> SegmentationWriter:
        head = f'{{"settings": {_json(self._settings, "settings")},\n"frames": ['
        heat, text = (self.folder / (name + PARTIAL) for name in (HEATMAPS, RESULT))
        self._heat: Any = None
        try:
            if self.frames:
                self._go_on(heat, text)
            else:
                self._clear(text)
                self._json = text.open("wb", buffering=0)
                if "heatmaps" in self._images:
                    self._heat = heat.open("wb", buffering=0)
                self._end = _write_at(self._json, 0, head.encode())
            self._settle(complete=False)
        except OSError as error:
            raise unwritable_error(self.folder, error) from error
        return self

    def _clear(self, text: Path) -> None:
        """Make the folders; remove an earlier result, but never images that are not ours."""
        found = [image for part in _IMAGES for image in (self.folder / part).glob("*")]
        ours = any((self.folder / name).exists() for name in (RESULT, RESULT + PARTIAL))
        if found and not ours:
            raise MediaError(f"{found[0].parent} holds files of another origin; choose another folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        text.write_bytes(b"")  # first: killed from here on, what is left says neither "whole" nor "not ours"
        for name in (RESULT, HEATMAPS, HEATMAPS + PARTIAL, *([OVERLAY] if ours else [])):
            (self.folder / name).unlink(missing_ok=True)
        for image in found:
            if image.suffix == ".png" and image.stem.isdecimal():
                image.unlink()
        for part in _IMAGES:
            if part in self._images:
                (self.folder / part).mkdir(exist_ok=True)
            else:
                with suppress(OSError):  # there is none, or it holds what is not ours
                    (self.folder / part).rmdir()

    def _go_on(self, heat: Path, text: Path) -> None:
        """Open both files behind the frames that are kept."""
        for path in (heat, text):
            final = path.with_name(path.name.removesuffix(PARTIAL))
            if not path.exists() and final.exists():
                os.replace(final, path)  # noqa: PTH105
        (self.folder / OVERLAY).unlink(missing_ok=True)
        self._json = text.open("r+b", buffering=0)
        line = b""
        with text.open("rb") as file:
            for line in itertools.islice(file, 2 + self.frames):
                self._end += len(line)
        last = line.rstrip(b",\n")
        self._end += len(last) - len(line)
        height, width = parse_json(last)["rle"]["size"]
        self._size = height, width
        if "heatmaps" in self._images:
            self._heat = heat.open("r+b", buffering=0)
            _, *(height, width) = heat_shape(heat)
            self._heat_size = height, width

    def kept(self) -> Iterator[tuple[float, np.ndarray]]:
        """Time and mask bool [H, W] of each frame that was kept; to be walked before the first `append`."""
        with (self.folder / (RESULT + PARTIAL)).open("rb") as file:
            for line in itertools.islice(file, 2, 2 + self.frames):
                try:
                    frame = parse_json(line.rstrip(b",\n"))
                    time, mask = float(frame["time"]), decode_rle(frame["rle"], self._size or ())
                except (KeyError, TypeError, ValueError, OverflowError) as error:
                    raise MediaError(
                        f"the interrupted result in {self.folder} is damaged ({error!r}); begin anew with "
                        "--overwrite"
                    ) from error
                yield time, mask

    def append(self, result: Segmentation) -> None:
        """Write the frames of a chunk (its settings are not looked at)."""
        masks, heat = result.masks.shape[1:], result.heatmaps.shape[1:]
        if self._heat is None:
            heat = (0, 0)
        if self._size is None:
            self._size, self._heat_size = masks, heat
        if (masks, heat) != (self._size, self._heat_size):
            raise MediaError(
                f"all frames must have masks {list(self._size)} and heat maps {list(self._heat_size)}, "
                f"found {list(masks)} and {list(heat)}"
            )
        try:
            with record("masks"):
                for index in range(len(result)):
                    self._append(result, index)
                self._settle(complete=False)
        except OSError as error:
            raise self._stopped(error) from error

    def _append(self, result: Segmentation, index: int) -> None:
        """One frame: its images, its heat, and last its line of JSON, which makes it count."""
        entry = {
            "time": float(result.times[index]),
            "score": float(result.scores[index]),
            "reason": result.reasons[index],
            "rle": encode_rle(result.masks[index]),
        }
        if result.labels is not None:
            entry["classes"] = _class_rles(result.labels[index])
        if result.carried_from is not None and not np.isnan(result.carried_from[index]):
            entry["carried_from"] = float(result.carried_from[index])
        line = (",\n" if self.frames else "\n") + _json(entry, f"frame {self.frames}")
        name = f"{self.frames:06d}.png"
        pictures: dict[str, np.ndarray] = {}
        if "masks" in self._images:
            pictures["masks"] = result.masks[index].view(np.uint8) * np.uint8(255)
            if result.labels is not None:
                (self.folder / _LABELS).mkdir(exist_ok=True)
                pictures[_LABELS] = result.labels[index]
        if self._heat is not None:
            pictures["heatmaps"] = heat_image(result.heatmaps[index], *result.masks.shape[1:])
            values = result.heatmaps[index].astype("<f2").tobytes()
            _write_at(self._heat, HEADER + self.frames * len(values), values)
        for part, picture in pictures.items():
            Image.fromarray(picture).save(self.folder / part / name, compress_level=_QUICK)
        # With its tail, so that a frame which is counted can always be closed behind.
        _write_at(self._json, self._end, line.encode() + self._tail(complete=False))
        self.frames, self._end = self.frames + 1, self._end + len(line.encode())

    def _settle(self, complete: bool) -> None:
        """Make both files valid as they are, without needing room beyond what their frames took."""
        if self._heat is not None:
            shape = (self.frames, *self._heat_size)
            nbytes = 2 * shape[0] * shape[1] * shape[2]
            header = {"heatmaps": {"dtype": "F16", "shape": shape, "data_offsets": [0, nbytes]}}
            text = json.dumps(header).encode().ljust(HEADER - 8)
            _write_at(self._heat, 0, (HEADER - 8).to_bytes(8, "little") + text)
            self._heat.truncate(HEADER + nbytes)
        self._json.truncate(_write_at(self._json, self._end, self._tail(complete)))

    def _tail(self, complete: bool) -> bytes:
        tail = {"size": self._size or (0, 0), "complete": complete}
        return f"\n],\n{json.dumps(tail)[1:]}\n".encode()

    def _stopped(self, error: OSError) -> MediaError:
        cause = unwritable_error(self.folder, error)
        return MediaError(f"{cause}. The {self.frames} frames finished before are kept in {self.folder}")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._settle(complete=kind is None)
        except OSError as error:
            raise self._stopped(error) from error
        finally:
            for file in filter(None, (self._heat, self._json)):
                file.close()
        for part in _IMAGES:  # of a frame that was not finished
            (self.folder / part / f"{self.frames:06d}.png").unlink(missing_ok=True)
        for name in (HEATMAPS, RESULT) if self._heat is not None else (RESULT,):
            os.replace(self.folder / (name + PARTIAL), self.folder / name)  # noqa: PTH105


def _write_at(file: Any, place: int, data: bytes) -> int:
    """Write to an unbuffered file, so that a full disk is met here and not later; returns the new end."""
    file.seek(place)
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
    return place + len(data)


def _json(value: Any, what: str) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise MediaError(f"{what} can't be written as JSON ({error}); use finite numbers and text") from error


def heat_image(heat: np.ndarray, height: int, width: int) -> np.ndarray:
    """Heat [h, w] in [0, 1] as gray uint8 [height, width], 255 for 1."""
    return np.round(np.clip(resized(heat, height, width), 0, 1) * 255).astype(np.uint8)


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """Bool [H, W] -> COCO run-length encoding: ``{"size": [H, W], "counts": text}``."""
    from pycocotools import mask as coco

    rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode_rle(rle: dict[str, Any], size: Sequence[int]) -> np.ndarray:
    """COCO run-length encoding -> bool [H, W].

    Raises:
        ValueError: where it is not of that size, or none at all; KeyError or TypeError where parts lack.
    """
    from pycocotools import mask as coco

    if list(rle["size"]) != list(size):
        raise ValueError(f"a mask of {rle['size']} among masks of {list(size)}")
    return coco.decode({"size": rle["size"], "counts": rle["counts"].encode("ascii")}).astype(bool)


def _class_rles(labels: np.ndarray) -> dict[str, dict[str, Any]]:
    """Class indices uint8 [H, W] -> index -> RLE of its pixels, the background left out."""
    return {str(index): encode_rle(labels == index) for index in np.unique(labels) if index}


def _read_labels(frames: list[dict[str, Any]], size: list[int]) -> np.ndarray | None:
    """Class indices uint8 [T, H, W]; None where no frame had its classes named."""
    if not any("classes" in frame for frame in frames):
        return None
    labels = np.zeros((len(frames), *size), np.uint8)
    for label, frame in zip(labels, frames, strict=True):
        for index, rle in frame["classes"].items():
            label[decode_rle(rle, size)] = int(index)
    return labels


def _read_origins(frames: list[dict[str, Any]]) -> np.ndarray | None:
    """float64 [T], NaN for frames that were looked at; None where all were."""
    if not any("carried_from" in frame for frame in frames):
        return None
    return np.array([frame.get("carried_from", np.nan) for frame in frames], np.float64)


def save_segmentation(
    result: Segmentation,
    folder: Path,
    frames: np.ndarray | None = None,
    sound: np.ndarray | None = None,
    sample_rate: int | None = None,
) -> Path:
    """Write a result (and ``overlay.mp4``, given its frames); see `Segmentation.save`."""
    from moca_avs.io.write_video import write_video

    if frames is not None and frames.shape != (*result.masks.shape, 3):
        raise MediaError(f"frames must be [T, H, W, 3] like the masks {list(result.masks.shape)}")
    with SegmentationWriter(folder, result.settings) as writer:
        writer.append(result)
    if frames is not None and len(result):
        drawn = (overlay(frame, mask) for frame, mask in zip(frames, result.masks, strict=True))
        write_video(folder / OVERLAY, drawn, result.times, sound, sample_rate)
    return folder


def _read(folder: Path) -> tuple[dict[str, Any], np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        result = parse_json((folder / RESULT).read_text("utf-8"))
        outputs = result["settings"].get("input", {}).get("outputs", OUTPUTS)
        heatmaps = np.zeros((len(result["frames"]), 0, 0), np.float16)
        if "heatmaps" in outputs:
            heatmaps = load_file(folder / HEATMAPS)["heatmaps"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MediaError(f"{folder} holds no result: {error.filename} is missing") from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError, SafetensorError) as error:
        raise MediaError(f"the result in {folder} is damaged ({error}); make it again") from error
    return result, heatmaps


def load_segmentation(folder: str | Path, kind: type[Segmentation]) -> Segmentation:
    """Read what `SegmentationWriter` wrote, an interrupted result too, as a `Segmentation`.

    Raises:
        MediaError: where files are missing or damaged.
    """
    folder = Path(folder)
    result, heatmaps = _read(folder)
    try:
        frames = result["frames"]
        masks = np.zeros((len(frames), *result["size"]), bool)
        for mask, frame in zip(masks, frames, strict=True):
            mask[:] = decode_rle(frame["rle"], result["size"])
        return kind(
            masks=masks,
            heatmaps=heatmaps,
            scores=np.array([frame["score"] for frame in frames], np.float32),
            reasons=tuple(frame["reason"] for frame in frames),
            times=np.array([frame["time"] for frame in frames], np.float64),
            settings=result["settings"],
            labels=_read_labels(frames, result["size"]),
            carried_from=_read_origins(frames),
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise MediaError(f"{folder / RESULT} is damaged ({error!r}); make it again") from error


def heat_shape(path: Path) -> tuple[int, int, int]:
    """Frames, height and width by the header of our own heatmaps.safetensors."""
    with path.open("rb") as file:
        frames, height, width = parse_json(file.read(HEADER)[8:])["heatmaps"]["shape"]
    return int(frames), int(height), int(width)


def is_complete(folder: str | Path) -> bool:
    """Whether the folder holds a result that was written to its end; quick however long it is."""
    try:
        with (Path(folder) / RESULT).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - 64, 0))
            return file.read().rstrip().endswith(b'"complete": true}')
    except (FileNotFoundError, NotADirectoryError):
        return False
