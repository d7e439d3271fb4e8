"""What a table is run on and with: data, preset, size, and where runs are kept.

Trains what a table needs, once: a finished run is found again by the hash of all that decides it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import moca_avs
from moca_avs.errors import DataError, UsageError
from moca_avs.hub.cache import cache_dir, lock
from moca_avs.hub.huggingface import ModelSources
from moca_avs_bench.tables.spec import IMAGE_SIZE, Comparator, TrainedMoca

if TYPE_CHECKING:
    from moca_avs.data.base import EvaluationSet, TrainingSet
    from moca_avs.encoders.base import AudioVisualEncoder
    from moca_avs.proposals.base import Proposer

STAMPS = "stamps"


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
        preset: "lite", "imagebind" or "languagebind".
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
            raise UsageError(f"a table's preset is one of {', '.join(ENCODERS)}, found {self.preset!r}")

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
            name, whole = _default_training(root)
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

    @cached_property
    def foreground(self) -> Proposer:
        """The audio-blind baseline: what is salient."""
        from moca_avs.proposals import build_proposer
        from moca_avs.proposals.base import CachedProposer

        return CachedProposer(build_proposer("saliency"))

    def told(self) -> dict[str, Any]:
        """What a result says of it: all that decides the numbers, no path."""
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


def _default_training(root: str) -> tuple[str, TrainingSet]:
    from moca_avs_bench.data import open_training_set

    try:
        return "vggsound", open_training_set("vggsound", root)
    except DataError:
        return "s4", open_training_set("s4", root)


DIGITS = 16


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


def trained_adapters(system: TrainedMoca, context: RunContext) -> TrainedRun:
    """The run of a MoCA row.

    Raises:
        MocaError: as `training.train`.
    """
    from moca_avs.model.adapter import ADAPTERS
    from moca_avs.training.config import TrainConfig
    from moca_avs.training.pairs import with_pairing
    from moca_avs.training.trainer import train

    encoder, data = context.encoder, context.training[1]
    wanted = TrainConfig(
        **{"steps": context.size.steps, "seed": context.seed, "image_size": context.image_size}
        | dict(system.training)
    )
    config = with_pairing(wanted, encoder.name)
    made_from = {
        "moca_avs": moca_avs.__version__,
        "training": config.to_dict(),
        "encoder": [encoder.name, encoder.weights_hash()],
        "data": data.fingerprint(),
    }
    key = settings_digest(made_from)
    folder = context.folder / "trained" / f"moca-{key}"
    with lock(f"table-run-{key}"):
        reused = (folder / ADAPTERS).is_file()
        train(
            encoder,
            data,
            config,
            folder,
            resume=True,
            progress=context.progress and not reused,
            device=context.device,
            sources=context.sources,
            cache=context.folder / "states",
        )
    return TrainedRun(key, folder, reused, config.to_dict())


def trained_comparator(system: Comparator, context: RunContext) -> TrainedRun:
    """The run of a comparator's row; the same for all its settings of inference.

    Raises:
        UsageError: for a name that doesn't exist.
        MocaError: as `comparators.train_comparator`.
    """
    from moca_avs_bench.ssl import COMPARATORS
    from moca_avs_bench.ssl.config import ComparatorConfig
    from moca_avs_bench.ssl.method import WEIGHTS
    from moca_avs_bench.ssl.train import train_comparator

    if system.name not in COMPARATORS:
        raise UsageError(f"comparators are {', '.join(COMPARATORS)}, found {system.name!r}")
    data = context.training[1]
    config = ComparatorConfig(
        steps=context.size.steps,
        batch=context.size.comparator_batch,
        image_size=context.image_size,
        seed=context.seed,
    )
    made_from = {
        "moca_avs": moca_avs.__version__,
        "system": system.name,
        "training": config.to_dict(),
        "data": data.fingerprint(),
    }
    key = settings_digest(made_from)
    folder = context.folder / "trained" / f"{system.name}-{key}"
    with lock(f"table-run-{key}"):
        reused = (folder / WEIGHTS).is_file()
        train_comparator(
            system.name,
            data,
            folder,
            config,
            resume=True,
            device=context.device,
            progress=context.progress and not reused,
        )
    return TrainedRun(key, folder, reused, config.to_dict())


def settings_digest(content: Any) -> str:
    """The first digits of the SHA-256 of JSON-able content."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
