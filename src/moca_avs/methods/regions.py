"""Regions of a frame: cut out, embedded, held against the sound, painted as heat. Shared by the baselines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from moca_avs.encoders.base import AudioVisualEncoder
from moca_avs.methods.config import BaselineConfig
from moca_avs.methods.hearing import Answer
from moca_avs.proposals.shapes import bounding_boxes, whole_boxes
from moca_avs.stages import stage


def embedded(encoder: AudioVisualEncoder, crops: Iterable[np.ndarray], batch: int) -> Tensor:
    """Unit vectors of pictures in the joint space.

    Args:
        encoder: squashes each crop to its own input size.
        crops: uint8 [h, w, 3] each, of any sizes.
        batch: crops that go through the networks at once.

    Returns:
        float32 [P, E] on the encoder's device.
    """
    with stage("image encoder"):
        prepared = [encoder.prepare_images(crop[None]) for crop in crops]
        batches = [torch.cat(prepared[i : i + batch]) for i in range(0, len(prepared), batch)]
        found = [F.normalize(encoder.embed_images(images).float(), dim=1) for images in batches]
    return torch.cat(found) if found else torch.zeros(0, encoder.joint_dim)


def cosines(regions: Tensor, sound: Tensor) -> np.ndarray:
    """Cosine of each region (unit vectors [P, E]) with a sound (embedding [E]): float32 [P]."""
    return (regions @ F.normalize(sound.float(), dim=0)).clamp(-1, 1).cpu().numpy()


def passing(cosine: np.ndarray, config: BaselineConfig) -> np.ndarray:
    """Which regions are heard: bool [P].

    ``score="rescaled"`` stretches the frame's cosines to 0..1 first, so that the best region always passes;
    where there is only one, or all are alike, every region is the best one and passes.
    """
    if config.score == "literal" or not len(cosine):
        return cosine > config.bind_threshold
    low, high = float(cosine.min()), float(cosine.max())
    scaled = (cosine - low) / (high - low) if high > low else np.ones_like(cosine)
    return scaled > config.bind_threshold


def box_crops(frame: np.ndarray, boxes: np.ndarray) -> Iterator[np.ndarray]:
    """What each box (xyxy in pixels [P, 4]) shows of a frame, without a margin: uint8 [h, w, 3] each."""
    for left, top, right, bottom in whole_boxes(boxes, frame.shape[:2]):
        yield frame[top:bottom, left:right]


def masked_crops(frame: np.ndarray, masks: np.ndarray) -> Iterator[np.ndarray]:
    """Each mask's (bool [P, H, W], not empty) bounding box, all else in it painted in the crop's mean colour.

    The mean is over the masked pixels, so that the ground adds no colour of its own.
    """
    for mask, (left, top, right, bottom) in zip(masks, bounding_boxes(masks).astype(int), strict=True):
        crop, inside = frame[top:bottom, left:right], mask[top:bottom, left:right]
        mean = crop[inside].mean(0).round().astype(np.uint8)
        yield np.where(inside[..., None], crop, mean)


def painted(regions: np.ndarray, values: np.ndarray, grid: int) -> np.ndarray:
    """Heat: at every pixel the highest value of a region that covers it, 0 where none does.

    Args:
        regions: bool [P, H, W].
        values: float [P] in [0, 1].
        grid: positions per side of the result; pixels are averaged.

    Returns:
        float16 [grid, grid] in [0, 1].
    """
    heat = np.zeros(regions.shape[1:], np.float32)
    for region, value in zip(regions, values, strict=True):
        heat[region] = np.maximum(heat[region], value)
    pooled = F.adaptive_avg_pool2d(torch.from_numpy(heat)[None], grid)[0]
    return pooled.clamp(0, 1).half().numpy()


def nothing(frame: np.ndarray, heat: np.ndarray | int, reason: str) -> Answer:
    """An empty answer; `heat` is a map, or the side of one that is all 0."""
    if isinstance(heat, int):
        heat = np.zeros((heat, heat), np.float16)
    return Answer(np.zeros(frame.shape[:2], bool), heat, 0.0, reason)


def together(parts: np.ndarray, heat: np.ndarray, score: float) -> Answer:
    """The union of masks bool [P, H, W] as an answer; "no mask" where all are empty."""
    mask: np.ndarray = np.any(parts, axis=0)
    return Answer(mask, heat, score, "", parts) if mask.any() else Answer(mask, heat, 0.0, "no mask")
