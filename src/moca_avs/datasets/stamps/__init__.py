"""The offline benchmark "stamps": composites of real cut-outs on real photos with real sounds."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moca_avs.datasets.stamps.build import build_stamps as build_stamps
    from moca_avs.datasets.stamps.catalogue import Catalogue as Catalogue
    from moca_avs.datasets.stamps.scenes import Pool as Pool
    from moca_avs.datasets.stamps.scenes import Scene as Scene
    from moca_avs.datasets.stamps.scenes import sample_scene as sample_scene
    from moca_avs.datasets.stamps.sounds import compose_sound as compose_sound

_PUBLIC = {
    "Catalogue": "catalogue",
    "Pool": "scenes",
    "Scene": "scenes",
    "build_stamps": "build",
    "compose_sound": "sounds",
    "sample_scene": "scenes",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"moca_avs.datasets.stamps.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'moca_avs.datasets.stamps' has no attribute {name!r}")
