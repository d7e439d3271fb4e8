"""Sound source localization tests in their official layouts: VGG-SS, VGGSound-Single, Flickr-SoundNet.

One image belongs to the middle of its sound. Images are squashed to 224 x 224 (LVS crops them though its
boxes refer to the whole image); those of the offline benchmark "stamps" keep their size. Flickr-SoundNet's
``Annotations/<id>.xml`` holds in each ``<bbox>`` an annotator's name and then xmin, ymin, xmax, ymax in 1/256
of the image's sides.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from moca_avs.clip import Clip
from moca_avs.data.base import Sample
from moca_avs.errors import DataError, UsageError
from moca_avs.io.audio import read_audio
from moca_avs.io.image import read_image
from moca_avs_bench.data.avsbench import TableSet
from moca_avs_bench.data.avss import SIDE, resize_square
from moca_avs_bench.metrics.localization import boxes_map, consensus_map, nearest


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
