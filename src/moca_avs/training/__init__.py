"""Training of the adapters: config, state cache, objectives, run folder, loop. See docs/architecture.md."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from moca_avs.training.config import TrainConfig

if TYPE_CHECKING:
    from moca_avs.training.loop import train as train

__all__ = ["TrainConfig", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":  # on first use: the loop imports torch, and the command line's help must not
        return importlib.import_module("moca_avs.training.loop").train
    raise AttributeError(f"module 'moca_avs.training' has no attribute {name!r}")
