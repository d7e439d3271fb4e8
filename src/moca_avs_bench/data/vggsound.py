"""VGGSound as a training set: the middle frame of each clip with its own sound. No label is used."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from moca_avs.data.folder import DecodedVideos, Pairs, framed
from moca_avs.errors import DataError
from moca_avs_bench.data.layout import LAYOUTS, clip_files, find_root, read_entries

SIDE = 256
"""Pixels per side of the kept frames: 200,000 of them take 39 GB."""

_FORMAT = 1


class VGGSoundTraining(DecodedVideos):
    """The middle frame of every training clip, with the sound around it (a `TrainingSet`).

    Decoded once into the cache, under a hash over the settings and each clip's path and size.

    Args:
        root: folder of ``vggsound.csv``, or the one above it.
        side: of the kept frames, in pixels.
        window: seconds of sound kept around each frame.
        progress: whether to show a bar while decoding.

    Attributes:
        missing: names of the table's training clips that have no file.
        skipped: (path, why) of clips that could not be read, and one entry that counts the missing ones.

    Raises:
        DataError: where the table is missing or damaged, or no training clip can be used.
    """

    def __init__(
        self, root: str | Path, side: int = SIDE, window: float = 2.0, progress: bool = False
    ) -> None:
        from moca_avs.io.frames import probe
        from moca_avs.io.video import read_clip

        base, layout = find_root("vggsound", root), LAYOUTS["vggsound"]
        entries = [entry for entry in read_entries("vggsound", base) if entry.split == "train"]
        names = [layout.path(layout.frame, entry) for entry in entries]
        found = clip_files(base)
        paths = [found[name] for name in names if name in found]
        self.missing = tuple(name for name in names if name not in found)
        if not paths:
            raise DataError(f"none of {len(names)} training clips has a file below {base}, like {names[:1]}")

        digest = hashlib.sha256(json.dumps([_FORMAT, "vggsound", side, window]).encode())
        for path in paths:
            digest.update(f"\0{path.relative_to(base).as_posix()}\0{path.stat().st_size}".encode())

        def read(path: Path) -> Pairs:
            middle = (probe(path).duration or 0.0) / 2
            clip = read_clip(path, fps=1.0, start=middle, end=middle + 0.5, margin=window)
            return framed([clip], side, window)

        super().__init__(base, paths, digest.hexdigest(), side, read, progress)
        if self.missing:
            first = ", ".join(self.missing[:3])
            why = f"{len(self.missing)} of {len(names)} training clips have no file, such as {first}"
            self.skipped = (
                *self.skipped,
                (layout.table, f"{why}; `moca data check vggsound --all` lists them"),
            )
