"""moca-avs: find the pixels that make the sound.

Unsupervised audio-visual segmentation after MoCA (arXiv 2403.14203). The public names below are imported
on first use, so that ``import moca_avs`` (and ``moca --help``) stays quick and does not import torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

# onnxruntime >= 1.31 reports to its maker, and writes into the home folder, from its import on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# GNU's OpenMP threads (torch's) spin for milliseconds after each piece of work and so take the cores from
# decoding, proposals and writing beside them; a fraction of a millisecond serves the work itself as well.
# Read when torch is first imported.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

if TYPE_CHECKING:
    from moca_avs.clip import Clip as Clip
    from moca_avs.clip import Segmentation as Segmentation
    from moca_avs.data import register_dataset as register_dataset
    from moca_avs.encoders import list_presets as list_presets
    from moca_avs.encoders import register_encoder as register_encoder
    from moca_avs.inference.segment import segment as segment
    from moca_avs.io.video import read_clip as read_clip
    from moca_avs.io.video import stream_clips as stream_clips
    from moca_avs.methods import list_methods as list_methods
    from moca_avs.methods import load as load
    from moca_avs.methods import register_method as register_method
    from moca_avs.training.config import TrainConfig as TrainConfig
    from moca_avs.training.trainer import train as train
    from moca_avs_bench.evaluation.evaluate import evaluate as evaluate

_PUBLIC = {
    "Clip": "moca_avs.clip",
    "Segmentation": "moca_avs.clip",
    "TrainConfig": "moca_avs.training.config",
    "evaluate": "moca_avs_bench.evaluation.evaluate",
    "list_methods": "moca_avs.methods",
    "list_presets": "moca_avs.encoders",
    "load": "moca_avs.methods",
    "read_clip": "moca_avs.io.video",
    "register_dataset": "moca_avs.data",
    "register_encoder": "moca_avs.encoders",
    "register_method": "moca_avs.methods",
    "segment": "moca_avs.inference.segment",
    "stream_clips": "moca_avs.io.video",
    "train": "moca_avs.training.trainer",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'moca_avs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
