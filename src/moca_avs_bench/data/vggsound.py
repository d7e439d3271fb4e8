"""VGGSound for training; VGG-SS, VGGSound-Single and Flickr-SoundNet for testing, in their official layouts.

Training takes the middle frame of each clip with its own sound; no label is used.

One image belongs to the middle of its sound. Images are squashed to 224 x 224 (LVS crops them though its
boxes refer to the whole image); those of the offline benchmark "stamps" keep their size. Flickr-SoundNet's
``Annotations/<id>.xml`` holds in each ``<bbox>`` an annotator's name and then xmin, ymin, xmax, ymax in 1/256
of the image's sides.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from moca_avs.clip import Clip
from moca_avs.data.base import Sample
from moca_avs.data.folder import DecodedVideos, Pairs, framed
from moca_avs.errors import DataError, UsageError
from moca_avs.io.audio import read_audio
from moca_avs.io.image import read_image
from moca_avs_bench.data.avsbench import TableSet
from moca_avs_bench.data.avss import SIDE, resize_square
from moca_avs_bench.data.layout import LAYOUTS, clip_files, find_root, read_entries
from moca_avs_bench.metrics.localization import boxes_map, consensus_map, nearest

KEPT_SIDE = 256
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
        self, root: str | Path, side: int = KEPT_SIDE, window: float = 2.0, progress: bool = False
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


class LocalizationSet(TableSet):
    """A localization test (an `EvaluationSet`); each sample is one image with its sound.

    Args:
        name: "vggss", "vggsound-single" or "flickr".
        root: the download, or its folder of this set.
        split: "test", the only one.
        tier: "A", "B" or "C" of the offline benchmark; None takes all.

    Attributes:
        side: pixels per side that images are squashed to; None on the offline benchmark.

    Raises:
        UsageError: for another split.
        DataError: where the boxes are missing or damaged, or there is no image of this tier.
    """

    names, kind = ("vggss", "vggsound-single", "flickr"), "localization"

    def __init__(self, name: str, root: str | Path, split: str = "test", tier: str | None = None) -> None:
        if split != "test":
            raise UsageError(f"{name} is a test and has no split {split!r}; choose test")
        super().__init__(name, root, split, tier)
        self.side = None if self.layout.is_composite(self.base) else SIDE

    def load(self, sample_id: str) -> Sample:
        """Read one image, its sound and its ground-truth map.

        Raises:
            UsageError: for a name that isn't in the set.
            DataError: naming a file that is missing or broken.
        """
        entry = self._entry(sample_id)
        path, line = self.layout.path(self.layout.frame, entry), self.manifest.get(entry.name, {})
        frame = self._read(read_image, path)
        if self.side is not None:
            frame = resize_square(frame, self.side)
        sound, rate = self._read(read_audio, self.layout.path(self.layout.audio, entry))
        if self.name == "flickr":
            truth = consensus_map(read_annotation(self.base / self.layout.table / f"{entry.name}.xml"))
        else:
            truth = boxes_map(np.array(entry.boxes).reshape(-1, 4))
        return Sample(
            sample_id,
            Clip(frame[None], np.array([len(sound) / rate / 2]), sound, rate, str(self.base / path)),
            nearest(truth > 0, *frame.shape[:2])[None],
            entry.category,
            line.get("cluster", sample_id),
            line.get("tier", ""),
            consensus=truth,
        )


def read_annotation(path: Path) -> np.ndarray:
    """Boxes of all annotators of a Flickr-SoundNet image: int64 [P, 4], xyxy in 1/256 of its sides.

    The first child of each ``<bbox>`` is the annotator and is skipped.

    Raises:
        DataError: on a file that is missing, no XML, or has a box without four numbers.
    """
    try:
        tree = ElementTree.parse(path)
        boxes = [[int(float(child.text or "")) for child in list(box)[1:5]] for box in tree.iter("bbox")]
    except (OSError, ElementTree.ParseError, ValueError, OverflowError) as error:
        raise DataError(f"{path} should be an XML file of boxes: {error}; get it again") from error
    if any(len(box) != 4 for box in boxes):
        raise DataError(f"{path} has a box without xmin, ymin, xmax, ymax; get it again")
    return np.array(boxes, np.int64).reshape(-1, 4)
