"""What reads each kind of file: the same functions that commands call, without any model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from moca_avs.clip import Segmentation
from moca_avs.encoders.checkpoints import read_checkpoint
from moca_avs.hub.tensor_bundle import read_tensor_bundle
from moca_avs.hub.weight_files import read_pickled_arrays, read_safetensors
from moca_avs.inference.inputs import find_inputs, plan
from moca_avs.io.audio import AudioWindows, read_audio, survey
from moca_avs.io.frames import probe
from moca_avs.io.image import read_image, read_indices
from moca_avs.io.results import is_complete
from moca_avs.io.video import stream_clips
from moca_avs.methods import METHODS
from moca_avs.methods.source import configure, find_source, given_config
from moca_avs.model.adapter import read_adapter_config
from moca_avs.model.pairing import NeighbourTable
from moca_avs.training.checkpoint import AdapterRun
from moca_avs_bench.data import avsbench, avss, layout, vggsound, video_manifest
from moca_avs_bench.evaluation.records import read_header, read_records
from moca_avs_bench.stamps import archives, soundfont


def video(folder: Path) -> None:
    """A film from beginning to end: its header, its frames, its sound."""
    path = _one(folder)
    probe(path)
    for clip in stream_clips(path, fps=2.0, chunk_frames=8):
        assert clip.frames.ndim == 4
    stream = stream_clips(path, fps="native", start=0.5, end=1.0)
    next(stream, None)


def sound(folder: Path) -> None:
    """A recording whole, in windows, and beside an image."""
    path = _one(folder)
    probe(path)
    samples, rate = read_audio(path)
    assert samples.ndim == 1
    assert rate > 0
    survey(path)
    windows = AudioWindows(path)
    try:
        windows.between(0.5, 1.5)
    finally:
        windows.close()


def image(folder: Path) -> None:
    """A still image."""
    assert read_image(_one(folder)).shape[2] == 3


def indices(folder: Path) -> None:
    """An image of class indices."""
    assert read_indices(_one(folder)).ndim == 2


def result(folder: Path) -> None:
    """A result folder, its images too."""
    is_complete(folder)
    Segmentation.load(folder)
    for path in sorted(folder.rglob("*.png")):
        read_image(path)


def config(folder: Path) -> None:
    """What ``--config`` gives and what a run folder says."""
    path = _one(folder)
    given = given_config(str(path))
    configure(METHODS["frozen"], [{}, given], {})


def run(folder: Path) -> None:
    """A run folder: resumed, and used by its name."""
    identity = json.loads((SEEDS / "run" / "a" / "config.json").read_text())
    opened = AdapterRun(folder, identity)
    opened.open(resume=True)
    restored = opened.restore(_tiny_encoder())
    opened.cut_log(2 if restored is None else restored[0])
    if (folder / "pairs.safetensors").exists():
        NeighbourTable.load(folder / "pairs.safetensors")
    read_adapter_config(folder / "adapters.safetensors")
    find_source(str(folder))


def _tiny_encoder() -> object:
    from helpers.tiny_training import TinyEncoder

    return TinyEncoder()


def inputs(folder: Path) -> None:
    """A list of inputs; no store is asked."""
    files, _ = find_inputs([f"@{_one(folder)}"])
    plan(files, Path("out"))


def world(folder: Path) -> None:
    """The official layouts of AVSBench and VGG-SS, the offline benchmark's manifest beside them."""
    for read in (lambda: avsbench.AVSBenchSet("s4", folder), lambda: avsbench.AVSBenchSet("ms3", folder)):
        found = read()
        found.categories()
        for one in found.ids:
            found.load(one)
    found = vggsound.LocalizationSet("vggss", folder)
    for one in found.ids:
        found.load(one)


def avss_tables(folder: Path) -> None:
    """AVSBench-semantic's tables."""
    avss.read_classes(folder)
    layout.read_entries("avss", folder)


def flickr(folder: Path) -> None:
    """Flickr-SoundNet's boxes."""
    for path in sorted((folder / "Annotations").glob("*.xml")):
        vggsound.read_annotation(path)


def records(folder: Path) -> None:
    """An evaluation's JSONL file."""
    read_header(_one(folder))
    for _ in read_records(_one(folder)):
        pass


def archive(opener: Callable[[Path], object]) -> Callable[[Path], None]:
    """An archive of the offline benchmark, every member unpacked."""

    def read(folder: Path) -> None:
        members = opener.__wrapped__(_one(folder))  # past the cache of opened archives
        for member in members.values():
            member()

    return read


def font(folder: Path) -> None:
    """A SoundFont, three notes played."""
    opened = soundfont.SoundFont(_one(folder))
    for key in (30, 60, 90):
        opened.note(0, 24, key, 100, 0.2)


def _one(folder: Path) -> Path:
    (path,) = (one for one in folder.iterdir() if one.is_file())
    return path


SEEDS = Path()
"""Where the whole files are; set by whoever runs cases."""

TARGETS: dict[str, tuple[int, Callable[[Path], object]]] = {
    "video": (36, video),
    "sound": (10, sound),
    "image": (8, image),
    "indices": (1, indices),
    "result": (6, result),
    "safetensors": (2, lambda folder: read_safetensors(_one(folder))),
    "checkpoint": (3, lambda folder: read_checkpoint(_one(folder))),
    "pickle": (3, lambda folder: read_pickled_arrays(_one(folder))),
    "bundle": (
        3,
        lambda f: read_tensor_bundle(f / "variables.index", f / "variables.data-00000-of-00001"),
    ),
    "config": (3, config),
    "list": (1, inputs),
    "video-manifest": (3, video_manifest.read_manifest),
    "vggsound": (1, lambda folder: layout.read_entries("vggsound", folder)),
    "world": (4, world),
    "avss": (2, avss_tables),
    "flickr": (1, flickr),
    "records": (2, records),
    "run": (4, run),
    "rcc": (2, archive(archives.open_rcc)),
    "cat": (1, archive(archives.open_cat)),
    "zip": (1, archive(archives.open_zip)),
    "tar": (1, archive(archives.open_tar)),
    "soundfont": (2, font),
}
"""Kind -> (share of the cases in percent, reader of a folder of that kind)."""


def copy_seed(seed: Path, place: Path) -> list[Path]:
    """Copy one whole folder; returns its files, sorted."""
    shutil.copytree(seed, place)
    return sorted(path for path in place.rglob("*") if path.is_file())
