"""Ways to segment a clip, all interchangeable: ``Clip -> Segmentation``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moca_avs.methods.base import Method

METHODS = {
    "moca": "the paper's method: trained adapters, clustering, proposal matching",
    "frozen": "the same without adapters: nothing trained",
    "at-gdino-sam": "names the sound, finds what is named, cuts it out",
    "owod-bind": "boxes around anything, kept where they match the sound",
    "sam-bind": "masks of anything, kept where they match the sound",
}
"""Name -> what it is."""


def load(
    name: str = "lite",
    method: str = "moca",
    device: str = "auto",
    weights: str | Path | None = None,
    models: Mapping[str, str] | None = None,
    **settings: Any,
) -> Method:
    """Build a method, ready to be called with a clip.

    Args:
        name: a preset ("lite", "imagebind", "languagebind"), a training run's folder (its newest step is
            taken), a folder with ``adapters.safetensors``, or a Hub id ("owner/name").
        method: a key of `METHODS`: "moca", "frozen", "at-gdino-sam", "owod-bind" or "sam-bind".
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        weights: folder with a sub-folder per foundation model (``imagebind/``, ``sam/``, ...); None takes
            ``$MOCA_AVS_WEIGHTS``, and without it the Hub.
        models: foundation model -> another folder or Hub id, like ``{"sam": "facebook/sam-vit-base"}``.
        settings: fields of the method's config (`MocaConfig` or `BaselineConfig` of
            `moca_avs.methods.config`), and the encoder's ``image_size`` and ``dilate``. What is not given
            comes from the folder's ``config.json``, then the preset's, then the dataclass.

    Returns:
        Callable ``Clip -> Segmentation`` with ``.settings``.

    Raises:
        UsageError: for an unknown name, method, device or setting.
        WeightsError: for weights that are missing, damaged or another encoder's.

    Example:
        >>> import moca_avs
        >>> method = moca_avs.load("lite", method="frozen")  # doctest: +SKIP
        >>> result = method(moca_avs.read_clip("band.mp4", fps=1))  # doctest: +SKIP
    """
    from moca_avs.hub.huggingface import ModelSources
    from moca_avs.methods.factory import load_method

    sources = ModelSources(None if weights is None else Path(weights), dict(models or {}))
    return load_method(name, method, device, settings, sources)
