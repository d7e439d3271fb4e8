"""Any folder of videos as a training set: frames with their own sound, no labels.

Videos are decoded once into memory maps in the cache, which `DecodedVideos` reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from moca_avs.clip import MOTION_SECONDS, Clip
from moca_avs.errors import DataError, MocaError
from moca_avs.hub.cache import cache_dir, lock
from moca_avs.utils.files import atomic_write, file_ends, parse_json

Pairs = Iterator[tuple[np.ndarray, np.ndarray, int, np.ndarray]]
"""(uint8 [side, side, 3], int16 [N], Hz, float16 [`GRID`, `GRID`] or empty) of each frame, see `framed`."""

GRID = 16
"""Positions per side of the kept maps of synchrony."""


class DecodedVideos:
    """Frames of videos, each with the sound around it (a `TrainingSet`).

    Frames are kept squashed to a square as uint8, sounds as 16 bit, in memory maps in the cache under the
    fingerprint. A file that can't be used is listed in `skipped` and never replaced.

    Args:
        root: folder that all paths lie in.
        paths: the videos.
        fingerprint: SHA-256 of all that the decoded content depends on.
        side: of the kept frames, in pixels.
        read: path -> its pairs; raises MocaError where the video can't be used.
        progress: whether to show a bar while decoding.

    Attributes:
        skipped: (path, why) of every file that isn't used.

    Raises:
        DataError: where no video can be used.
    """

    def __init__(
        self,
        root: Path,
        paths: Iterable[Path],
        fingerprint: str,
        side: int,
        read: Callable[[Path], Pairs],
        progress: bool,
    ) -> None:
        self.root, self._fingerprint = root, fingerprint
        store = cache_dir() / "folders" / fingerprint[:16]
        with lock(f"folder-{store.name}"):
            if not (store / "index.json").is_file():
                _decode_all(root, paths, store, read, progress)
        index = parse_json((store / "index.json").read_text(encoding="utf-8"))
        self.skipped: tuple[tuple[str, str], ...] = tuple((p, why) for p, why in index["skipped"])
        self._rows: list[dict[str, Any]] = index["frames"]
        if not self._rows:
            reasons = "; ".join(f"{path}: {why}" for path, why in self.skipped[:3]) or "it is empty"
            raise DataError(f"nothing in {self.root} can be trained on (videos with sound are): {reasons}")
        shape = (len(self._rows), side, side, 3)
        self._frames = np.memmap(store / "frames.u8", np.uint8, "r", shape=shape)
        self._sounds = np.memmap(store / "sounds.i16", np.int16, "r")
        self._moving = None
        if (moving := store / "synchrony.f16").is_file() and moving.stat().st_size:
            self._moving = np.memmap(moving, np.float16, "r", shape=(len(self._rows), GRID, GRID))

    def __len__(self) -> int:
        return len(self._rows)

    def frame(self, index: int) -> np.ndarray:
        """Uint8 [side, side, 3]."""
        return np.array(self._frames[index])

    def sound(self, index: int) -> tuple[np.ndarray, int]:
        """(float32 [N], Hz): the window around the frame, shortened at the ends of the recording."""
        row = self._rows[index]
        samples = self._sounds[row["start"] : row["start"] + row["samples"]]
        return samples.astype(np.float32) / 32768, row["rate"]

    def synchrony(self, index: int) -> np.ndarray:
        """Which positions move with the sound (`cues.motion.synchrony`): float32 [`GRID`, `GRID`] in [-2, 2].

        Raises:
            DataError: where it was not asked for when the videos were decoded.
        """
        if self._moving is None:
            raise DataError(
                f"what moves was not kept when the videos in {self.root} were decoded; expected a folder of "
                "videos that is opened with synchrony=True, as `moca train --data FOLDER` does"
            )
        return np.array(self._moving[index], np.float32)

    def clip_id(self, index: int) -> str:
        """Path of the frame's video inside the folder."""
        return str(self._rows[index]["clip"])

    def fingerprint(self) -> str:
        """SHA-256 of all that the frames and sounds depend on."""
        return self._fingerprint


def _decode_all(
    root: Path, paths: Iterable[Path], store: Path, read: Callable[[Path], Pairs], progress: bool
) -> None:
    """Fill `store`: ``frames.u8`` [N, side, side, 3], ``sounds.i16`` (windows end to end), ``index.json``.

    And ``synchrony.f16`` [N, GRID, GRID], empty where `read` says nothing of it.
    """
    from tqdm import tqdm

    rows: list[dict[str, Any]] = []
    skipped: list[tuple[str, str]] = []
    filled = 0
    with atomic_write(store, folder=True) as partial:
        with (
            (partial / "frames.u8").open("wb") as frames,
            (partial / "sounds.i16").open("wb") as sounds,
            (partial / "synchrony.f16").open("wb") as moving,
        ):
            for path in tqdm(list(paths), desc="decoding", unit="file", disable=not progress):
                name = path.relative_to(root).as_posix()
                mark, kept, heard = [file.tell() for file in (frames, sounds, moving)], len(rows), filled
                try:
                    for image, samples, rate, moved in read(path):
                        frames.write(image.tobytes())
                        sounds.write(samples.tobytes())
                        moving.write(moved.tobytes())
                        rows.append({"clip": name, "start": filled, "samples": samples.size, "rate": rate})
                        filled += samples.size
                except MocaError as error:  # what was written of the broken file is taken back
                    skipped.append((name, str(error)))
                    for file, place in zip((frames, sounds, moving), mark, strict=True):
                        file.truncate(file.seek(place))
                    del rows[kept:]
                    filled = heard
        (partial / "index.json").write_text(
            json.dumps({"frames": rows, "skipped": skipped}), encoding="utf-8"
        )


def framed(clips: Iterable[Clip], side: int, window: float, moving: bool = False) -> Pairs:
    """The frames of clips, squashed, with the sound of `window` seconds around each.

    With `moving` also which positions move with the sound, 0 everywhere where nothing can be told.

    Raises:
        DataError: where there is no sound track, or no frame has sound around it.
    """
    found = False
    for clip in clips:
        if not clip.sound.size and not found:
            raise DataError("it has no sound track")
        for index, frame in enumerate(clip.frames):
            samples = clip.window(index, window)
            if samples.size:  # an image that outlasts its sound has no pair
                found = True
                image = Image.fromarray(frame).resize(
                    (side, side), Image.Resampling.BILINEAR, reducing_gap=2.0
                )
                scaled = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
                moved = _moving_with_sound(clip, index) if moving else np.zeros(0, np.float16)
                yield np.asarray(image), scaled, clip.sample_rate, moved
    if not found:
        raise DataError("none of its frames has sound")


def _moving_with_sound(clip: Clip, index: int) -> np.ndarray:
    """`cues.motion.synchrony` as float16 [GRID, GRID]; 0 everywhere where nothing can be told."""
    from moca_avs.cues.motion import synchrony  # here: most data sets need neither torch nor scipy
    from moca_avs.model.evidence import resize

    found = synchrony(clip, index)
    if found is None:
        return np.zeros((GRID, GRID), np.float16)
    return resize(found, (GRID, GRID)).astype(np.float16)


_FORMAT = 1


class VideoFolder(DecodedVideos):
    """Frames of all videos below a folder, each with the sound around it (a `TrainingSet`).

    Decoded once into the cache, under a hash over the settings and each file's path, size, first and last
    64 KiB (see `DecodedVideos`, also for `skipped`).

    Args:
        root: folder; searched below, hidden files are left out.
        fps: frames taken per second.
        side: of the kept frames, in pixels.
        window: seconds of sound kept around each frame.
        progress: whether to show a bar while decoding.
        synchrony: whether to keep what moves with the sound, which the objective of that name learns from.

    Raises:
        DataError: where the folder is missing or nothing in it can be used.
    """

    def __init__(
        self,
        root: str | Path,
        fps: float = 1.0,
        side: int = 384,
        window: float = 2.0,
        progress: bool = False,
        synchrony: bool = False,
    ) -> None:
        folder = Path(root)
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; expected a folder of videos")
        settings = {"fps": fps, "side": side, "window": window} | ({"synchrony": GRID} if synchrony else {})
        margin = max(MOTION_SECONDS if synchrony else 0.0, window / 2)
        digest = hashlib.sha256(json.dumps([_FORMAT, settings], sort_keys=True).encode())
        paths = []
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if not path.is_file() or any(part.startswith(".") for part in name.parts):
                continue
            paths.append(path)
            size = path.stat().st_size
            digest.update(f"\0{name.as_posix()}\0{size}\0".encode())
            try:
                digest.update(file_ends(path)[1])
            except OSError as error:  # it is listed as skipped when decoding fails on it too
                digest.update(str(error).encode())

        def read(path: Path) -> Pairs:
            from moca_avs.io.video import stream_clips

            clips = stream_clips(path, fps=fps, margin=margin)
            return framed(clips, side, window, synchrony)

        super().__init__(folder, paths, digest.hexdigest(), side, read, progress)
