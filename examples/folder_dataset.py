"""A data set of one's own: a folder per clip with frames, masks and a WAV file.

ROOT/test/CLIP/frames/000.jpg ...   one image per second
ROOT/test/CLIP/masks/000.png ...    0 or 255, of the same size: the pixels of what is heard
ROOT/test/CLIP/audio.wav

MOCA_AVS_PLUGINS=examples/folder_dataset.py moca eval --dataset my-folder --root ROOT --out report.json
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moca_avs import Clip, register_dataset
from moca_avs.data.base import Sample
from moca_avs.errors import DataError
from moca_avs.io.audio import read_audio
from moca_avs.io.image import read_image


class FolderSet:
    """A split: a folder of clip folders. It knows its ids cheaply and loads a sample only when asked.

    Args:
        root: the data set's folder.
        split: name of the folder inside.

    Raises:
        DataError: where there is no clip.
    """

    name, kind = "my-folder", "region"

    def __init__(self, root: Path, split: str) -> None:
        self.split, self.folder = split, root / split
        self.ids = sorted(path.parent.name for path in self.folder.glob("*/audio.wav"))
        if not self.ids:
            raise DataError(
                f"{self.folder} holds no clip; expected CLIP/frames, CLIP/masks and CLIP/audio.wav"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def categories(self) -> dict[str, str]:
        """No class is known: the wrong-sound control takes any other clip."""
        return dict.fromkeys(self.ids, "")

    def load(self, sample_id: str) -> Sample:
        """Read one clip and its truth."""
        home = self.folder / sample_id
        images, masks = sorted(home.glob("frames/*")), sorted(home.glob("masks/*.png"))
        if not images or len(images) != len(masks):
            raise DataError(
                f"{home} should hold as many masks as frames, found {len(masks)} and {len(images)}"
            )
        sound, rate = read_audio(home / "audio.wav")
        times = np.arange(len(images)) + 0.5
        clip = Clip([read_image(path) for path in images], times, sound, rate, source=str(home))
        truth = np.stack([read_image(path).mean(2) > 127 for path in masks])
        return Sample(sample_id, clip, truth, category="", cluster=sample_id)


register_dataset(
    "my-folder",
    lambda root, split, tier: FolderSet(root, split),
    description="folders of frames, masks and audio",
    replace=True,
)
