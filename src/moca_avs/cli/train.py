"""`moca train`: teach adapters from unlabeled clips."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass, field
from typing import Annotated

from tyro.conf import arg

from moca_avs.cli.args import Device, Model, Weights, parse_sources
from moca_avs.errors import UsageError
from moca_avs.training.config import CACHE_LIMIT, RuntimeConfig, TrainConfig


@dataclass(frozen=True)
class Train:
    """Teach adapters from unlabeled videos. The defaults are the paper's; Ctrl-C leaves a run to resume.

    Example: moca train --data videos --out run --steps 500
    On several GPUs: torchrun --nproc-per-node 2 -m moca_avs train --data videos --out run
    """

    data: Annotated[
        str,
        arg(metavar="FOLDER|s4|ms3", help="A folder of videos, or a dataset's training split (with --root)."),
    ]
    out: Annotated[str, arg(metavar="RUN", help="The run folder: config.json, log.jsonl, steps/.")]
    root: Annotated[
        str | None,
        arg(metavar="DIR|stamps", help="Where the named dataset lies; stamps: the offline benchmark."),
    ] = None
    preset: Annotated[
        str, arg(metavar="NAME", help="The frozen encoder: lite, imagebind, languagebind or lite-soundnet.")
    ] = "lite"
    weights: Weights = None
    model: Model = ()
    device: Device = "auto"
    resume: Annotated[bool, arg(help="Go on from the run's newest checkpoint, bit for bit.")] = False
    cache: Annotated[
        str | None,
        arg(metavar="DIR", help="Keep what never changes there, for later runs too; else in the run folder."),
    ] = None
    cache_limit: Annotated[
        float,
        arg(metavar="GB", help="Most it may take; beyond it, it is computed at every step. 0: never kept."),
    ] = CACHE_LIMIT / 1e9
    speed: Annotated[RuntimeConfig, arg(name="")] = field(default_factory=RuntimeConfig)
    config: Annotated[TrainConfig, arg(name="")] = field(default_factory=TrainConfig)

    def run(self) -> int:
        """Train, then print where the adapters lie."""
        from moca_avs.encoders import build_encoder
        from moca_avs.training.trainer import train
        from moca_avs.utils.device import choose_device, own_device
        from moca_avs_bench.data import open_training_set

        if not 0 <= self.cache_limit < math.inf:
            raise UsageError(f"--cache-limit must be a number of GB of at least 0, found {self.cache_limit}")
        moving = self.config.objective == "synchrony"
        data = open_training_set(self.data, self.root, synchrony=moving)
        tells = os.environ.get("RANK", "0") == "0"  # under torchrun one process speaks for all
        for path, why in getattr(data, "skipped", ()) if tells else ():
            print(f"moca: note: {path} is left out: {why}", file=sys.stderr)
        device, why = choose_device(self.device)
        device = own_device(device)
        if tells:
            print(f"device: {device} ({why})")
            print(f"data: {len(data)} frames")
            print(f"config: {self.config.to_dict()}")
        options = {} if self.config.image_size is None else {"image_size": self.config.image_size}
        sources = parse_sources(self.weights, self.model)
        encoder = build_encoder(self.preset, device, sources, **options)
        run = train(
            encoder,
            data,
            self.config,
            self.out,
            self.resume,
            device=device,
            sources=sources,
            cache=self.cache,
            cache_limit=round(self.cache_limit * 1e9),
            speed=self.speed,
        )
        if tells:
            print(f"adapters -> {run / 'adapters.safetensors'}")
        return 0
