"""Salient objects by U2-Netp: connected parts of its map at several thresholds."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from moca_avs.errors import WeightsError
from moca_avs.hub.cache import file_sha256
from moca_avs.hub.pypi import package_file
from moca_avs.proposals.masks import drop_duplicates, propose_downscaled
from moca_avs.utils.frame_cache import FrameCache
from moca_avs.utils.prefetch import available_threads

INPUT_SIDE = 320
THRESHOLDS = (0.15, 0.4, 0.7)
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)


class SaliencyProposer:
    """Connected parts of the salient-object map, and their unions, at each threshold.

    Args:
        weights: the ONNX file; None fetches the pinned one.
        thresholds: of the map, scaled to 0..1 over the image.
        min_share: smallest part kept, as a share of the image.
        threads: of onnxruntime; None: as many as torch uses, fewer where several frames are looked at side by
            side (`moca_avs.utils.prefetch.available_threads`).

    Raises:
        WeightsError: if the weights can't be had or read.
    """

    parallel = True

    def __init__(
        self,
        weights: Path | None = None,
        thresholds: tuple[float, ...] = THRESHOLDS,
        min_share: float = 0.002,
        threads: int | None = None,
    ) -> None:
        path = package_file("u2netp") if weights is None else weights
        self.thresholds = thresholds
        self.min_share = min_share
        self._path, self._threads = path, threads
        self._maps: FrameCache[np.ndarray] = FrameCache()
        self._session()  # a broken file shows at once
        self.settings: dict[str, Any] = {
            "name": "saliency",
            "weights": file_sha256(path),
            "thresholds": list(thresholds),
            "min_share": min_share,
        }

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> bool [P, H, W], largest first."""
        return propose_downscaled(frame, self._propose)

    def saliency(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> float32 [320, 320] in 0..1 over the image; all 0 where nothing stands out.

        The last frames' maps are kept: proposals and the cue of objectness ask for the same ones.
        """
        return self._maps(frame, lambda: self._look(frame))

    def _look(self, frame: np.ndarray) -> np.ndarray:
        size = (INPUT_SIDE, INPUT_SIDE)
        small = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS), np.float32)
        scaled = (small / max(float(small.max()), 1.0) - _MEAN) / _STD
        session = self._session()
        name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
        salient = session.run([output], {name: scaled.transpose(2, 0, 1)[None]})[0][0, 0]
        low, high = float(salient.min()), float(salient.max())
        return (salient - low) / (high - low) if high > low else np.zeros_like(salient)

    def _session(self) -> Any:
        return _session(self._path, self._threads or available_threads())

    def _propose(self, frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        image = Image.fromarray(self.saliency(frame)).resize((width, height), Image.Resampling.BILINEAR)
        return components(np.asarray(image), self.thresholds, self.min_share)


@cache
def shipped_saliency() -> SaliencyProposer:
    """The one with the pinned weights, made once: whoever asks shares its maps."""
    return SaliencyProposer()


def components(salient: np.ndarray, thresholds: tuple[float, ...], min_share: float) -> np.ndarray:
    """Connected parts (8 neighbours) of a map above each threshold, and all parts of a threshold together.

    Args:
        salient: float [H, W].
        thresholds: strictly above counts.
        min_share: smallest part kept, as a share of the image.

    Returns:
        bool [P, H, W], distinct, largest first.
    """
    masks = []
    for threshold in thresholds:
        labels, count = ndimage.label(salient > threshold, np.ones((3, 3)))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        large = [part for part in range(1, count + 1) if sizes[part] >= max(1, min_share * salient.size)]
        masks += [labels == part for part in large]
        if len(large) > 1:
            masks.append(np.isin(labels, large))
    masks.sort(key=lambda mask: -int(mask.sum()))
    return drop_duplicates(np.array(masks, bool).reshape(-1, *salient.shape))


@lru_cache(maxsize=4)
def _session(path: Path, threads: int) -> Any:
    """An onnxruntime session on the CPU, which several threads may run."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, NoSuchFile

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin while they wait take a core from whatever else goes on.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidGraph, InvalidProtobuf, NoSuchFile) as error:
        raise WeightsError(f"{path} is not a readable ONNX network: {error}") from error
