"""What a table is run on and with: data, preset, size, and where runs are kept.

Trains what a table needs, once: a finished run is found again by the hash of all that decides it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import moca_avs
from moca_avs.errors import DataError, UsageError, did_you_mean
from moca_avs.hub.cache import cache_dir, lock
from moca_avs.hub.huggingface import ModelSources
from moca_avs.proposals.base import CachedProposer, Proposer, is_parallel
from moca_avs.utils.files import atomic_write
from moca_avs_bench.tables.spec import IMAGE_SIZE, Comparator, System, TrainedMoca

if TYPE_CHECKING:
    from moca_avs.data.base import EvaluationSet, TrainingSet
    from moca_avs.encoders.base import AudioVisualEncoder

STAMPS = "stamps"


class DiskCachedProposer:
    """A proposer whose answers lie on disk, packed to one bit a pixel, one file per image.

    Args:
        proposer: asked where an image is new.
        folder: one folder per proposer and settings is made inside.
    """

    def __init__(self, proposer: Proposer, folder: Path) -> None:
        self.proposer, self.settings = proposer, proposer.settings
        self.parallel = is_parallel(proposer)
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()
        self.folder = folder / digest[:16]

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> bool [P, H, W]."""
        key = hashlib.sha256(str(frame.shape).encode() + frame.tobytes()).hexdigest()
        file = self.folder / f"{key}.npz"
        if file.is_file():
            with np.load(file, allow_pickle=False) as saved:
                shape = tuple(saved["shape"])
                return np.unpackbits(saved["bits"], count=int(np.prod(shape))).reshape(shape).astype(bool)
        masks = self.proposer(frame)
        with atomic_write(file) as partial, partial.open("wb") as target:
            np.savez_compressed(target, bits=np.packbits(masks), shape=np.array(masks.shape))
        return masks


@dataclass(frozen=True)
class BenchmarkSize:
    """How much of everything; two sizes differ in nothing else.

    Attributes:
        name: as printed.
        steps: of each training run.
        clips: of a dataset of clips (five frames at least); None: all.
        images: of a localization test; None: all.
        frames: to train on; None: all.
        comparator_batch: clips per step of a comparator; None: its own (128).
    """

    name: str
    steps: int
    clips: int | None = None
    images: int | None = None
    frames: int | None = None
    comparator_batch: int | None = None


FULL = BenchmarkSize("full", 10_000)
QUICK = BenchmarkSize("quick", 100, clips=13, images=64, frames=256, comparator_batch=4)


@dataclass(frozen=True)
class RunContext:
    """Everything around a table; heavy parts are made when first asked for.

    Attributes:
        root: where the datasets lie; "stamps": the offline benchmark, built where it is missing.
        preset: "lite", "imagebind", "languagebind" or "lite-soundnet".
        size: how much.
        device: to compute on.
        sources: where foundation models come from.
        runs: folder of trained runs, evaluated cells, cached states and proposals; None: in the cache.
        data: what is trained on: a dataset's name or a folder of videos; None: VGGSound where `root` holds
            it (the paper), else S4's training split.
        data_root: where that dataset lies; None: `root`.
        seed: of training, of the wrong-sound draw and of the bootstrap.
        progress: whether bars are shown.
        image_size: pixels per side, of what is trained and of what is asked at the paper's size.
    """

    root: str = STAMPS
    preset: str = "lite"
    size: BenchmarkSize = FULL
    device: str = "cpu"
    sources: ModelSources = field(default_factory=ModelSources)
    runs: Path | None = None
    data: str | None = None
    data_root: str | None = None
    seed: int = 0
    progress: bool = True
    image_size: int = IMAGE_SIZE

    def __post_init__(self) -> None:
        from moca_avs.encoders import ENCODERS

        if self.preset not in ENCODERS:
            raise UsageError(
                f"a table's preset is one of {', '.join(ENCODERS)}, found {self.preset!r}"
                f"{did_you_mean(self.preset, ENCODERS)}"
            )

    @cached_property
    def folder(self) -> Path:
        """Where runs are kept."""
        return cache_dir() / "tables" if self.runs is None else self.runs

    @cached_property
    def place(self) -> str:
        """The folder that `root` means."""
        if self.root != STAMPS:
            return str(Path(self.root).resolve())
        from moca_avs_bench.stamps.build import build_stamps

        return str(build_stamps())

    def dataset(self, name: str) -> EvaluationSet:
        """A test split, or the part of it that the size takes.

        Raises:
            DataError: where it is missing.
        """
        from moca_avs.data.base import subset
        from moca_avs_bench.data import open_evaluation_set

        whole = open_evaluation_set(name, self.place)
        single = getattr(whole, "kind", "region") == "localization"
        return subset(whole, self.size.images if single else self.size.clips)

    @cached_property
    def training(self) -> tuple[str, TrainingSet]:
        """What is trained on, and its name.

        Raises:
            DataError: where there is nothing to train on.
        """
        from moca_avs.data.base import training_subset
        from moca_avs_bench.data import open_training_set

        root = self.place if self.data_root is None else self.data_root
        if self.data is None:
            try:
                name, whole = "vggsound", open_training_set("vggsound", root)
            except DataError:
                name, whole = "s4", open_training_set("s4", root)
        elif Path(self.data).is_dir():
            name, whole = Path(self.data).name, open_training_set(self.data)
        else:
            name, whole = self.data, open_training_set(self.data, root)
        return name, training_subset(whole, self.size.frames)

    @cached_property
    def encoder(self) -> AudioVisualEncoder:
        """The frozen encoder that adapters are trained on."""
        from moca_avs.encoders import build_encoder

        return build_encoder(self.preset, self.device, self.sources, image_size=self.image_size)

    def keep(self, proposer: Proposer) -> Proposer:
        """The proposer, its answers kept in `folder`: no image is searched twice, whoever asks."""
        return DiskCachedProposer(proposer, self.folder / "proposals")

    def proposer(self, name: str) -> Proposer:
        """Mask proposals by name, kept."""
        from moca_avs.proposals import build_proposer

        return CachedProposer(build_proposer(name, self.sources, self.device, self.keep))

    @cached_property
    def foreground(self) -> Proposer:
        """The audio-blind baseline: what is salient."""
        return self.proposer("saliency")

    def metadata(self) -> dict[str, Any]:
        """What a result says of the run: all that decides the numbers, no path."""
        name, data = self.training
        return {
            "root": self.root if self.root == STAMPS else Path(self.place).name,
            "preset": self.preset,
            "size": self.size.name,
            "steps": self.size.steps,
            "seed": self.seed,
            "image_size": self.image_size,
            "trained_on": f"{name}, {len(data)} frames",
        }


@dataclass(frozen=True)
class TrainedRun:
    """A finished training run.

    Attributes:
        key: hash of config, data and encoder, which names its folder.
        folder: of the run.
        reused: whether it was finished before.
        config: every setting.
    """

    key: str
    folder: Path
    reused: bool
    config: Mapping[str, Any]


def trained(system: System, context: RunContext) -> TrainedRun | None:
    """The run that a row rests on, trained where it is missing; None where nothing is trained.

    A comparator's run is the same for all its settings of inference.

    Raises:
        UsageError: for a comparator that doesn't exist.
        MocaError: as `moca_avs.training.trainer.train` and `moca_avs_bench.ssl.train.train_comparator`.
    """
    if isinstance(system, TrainedMoca):
        from moca_avs.model.adapter_file import ADAPTERS
        from moca_avs.training.config import TrainConfig
        from moca_avs.training.pairs import with_pairing
        from moca_avs.training.trainer import train

        encoder, size = context.encoder, context.size
        asked = {"steps": size.steps, "seed": context.seed, "image_size": context.image_size}
        config = with_pairing(TrainConfig(**asked | dict(system.training)), encoder.name)
        made_from = {"encoder": [encoder.name, encoder.weights_hash()]}
        with _run_folder("moca", config.to_dict(), made_from, ADAPTERS, context) as run:
            train(
                encoder,
                context.training[1],
                config,
                run.folder,
                resume=True,
                progress=context.progress and not run.reused,
                device=context.device,
                sources=context.sources,
                cache=context.folder / "states",
            )
        return run
    if isinstance(system, Comparator):
        from moca_avs_bench.ssl import COMPARATORS, ComparatorConfig
        from moca_avs_bench.ssl.comparators import REVISION
        from moca_avs_bench.ssl.method import WEIGHTS
        from moca_avs_bench.ssl.train import train_comparator

        name, size = system.name, context.size
        if name not in COMPARATORS:
            raise UsageError(f"comparators are {', '.join(COMPARATORS)}, found {name!r}")
        settings = ComparatorConfig(
            size.steps, size.comparator_batch, image_size=context.image_size, seed=context.seed
        )
        decided = {"system": name, "revision": REVISION}
        with _run_folder(name, settings.to_dict(), decided, WEIGHTS, context) as run:
            train_comparator(
                name,
                context.training[1],
                run.folder,
                settings,
                resume=True,
                device=context.device,
                progress=context.progress and not run.reused,
            )
        return run
    return None


@contextmanager
def _run_folder(
    name: str, config: dict[str, Any], made_from: dict[str, Any], weights: str, context: RunContext
) -> Iterator[TrainedRun]:
    """A run's folder, named by the hash of all that decides it and locked; finished where it has weights."""
    content = {"moca_avs": moca_avs.__version__, "training": config, **made_from}
    key = settings_digest(content | {"data": context.training[1].fingerprint()})
    folder = context.folder / "trained" / f"{name}-{key}"
    with lock(f"table-run-{key}"):
        yield TrainedRun(key, folder, (folder / weights).is_file(), config)


def settings_digest(content: Any) -> str:
    """The first 16 digits of the SHA-256 of JSON-able content."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
