"""`moca train`: teach adapters from unlabelled clips."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from tyro.conf import arg

from moca_avs.training.config import TrainConfig


@dataclass(frozen=True)
class Train:
    """Teach adapters from unlabelled videos. The defaults are the paper's.

    Example: moca train --data films --out run --steps 500
    """

    data: Annotated[
        str, arg(metavar="FOLDER", help="A folder of videos, or a folder that `moca data stamps` made.")
    ]
    out: Annotated[str, arg(metavar="RUN", help="The run folder: config.json, log.jsonl, steps/.")]
    preset: Annotated[str, arg(help="The frozen encoder.")] = "lite"
    device: Annotated[str, arg(help="auto, cpu, cuda, cuda:1, mps.")] = "auto"
    resume: Annotated[bool, arg(help="Go on from the run's newest checkpoint, bit for bit.")] = False
    config: Annotated[TrainConfig, arg(name="")] = field(default_factory=TrainConfig)

    def run(self) -> int:
        """Train, then print where the adapters lie."""
        raise NotImplementedError
