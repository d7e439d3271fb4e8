"""The training-free baselines (paper section 4.1): AT-GDINO-SAM (I), OWOD-BIND (II) and SAM-BIND (III).

AT-GDINO-SAM names the sound, finds what is named, cuts it out. The other two cut out a frame's regions (boxes
around anything, or masks of anything), embed them in the joint space and keep those whose cosine with the
sound is high.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from moca_avs.encoders.audio_tagging import Tagger
from moca_avs.encoders.base import AudioVisualEncoder
from moca_avs.methods.base import (
    ClipFrame,
    FrameMethod,
    FramePrediction,
    MaskClassifier,
    encode_windows,
    encoder_settings,
    versions,
)
from moca_avs.methods.config import BaselineConfig
from moca_avs.proposals.base import BoxDetector, BoxSegmenter, Proposer, cached_proposer
from moca_avs.proposals.boxes import bounding_boxes, box_masks, whole_boxes
from moca_avs.proposals.detectors import Grounder
from moca_avs.proposals.masks import downscale
from moca_avs.utils.frame_cache import FrameCache
from moca_avs.utils.profiler import record


def embed_crops(encoder: AudioVisualEncoder, crops: Iterable[np.ndarray], batch: int) -> Tensor:
    """Unit vectors of images in the joint space.

    Args:
        encoder: squashes each crop to its own input size.
        crops: uint8 [h, w, 3] each, of any sizes.
        batch: crops that go through the networks at once.

    Returns:
        float32 [P, E] on the encoder's device.
    """
    with record("image encoder"):
        prepared = [encoder.prepare_images(crop[None]) for crop in crops]
        batches = [torch.cat(prepared[i : i + batch]) for i in range(0, len(prepared), batch)]
        found = [F.normalize(encoder.embed_images(images).float(), dim=1) for images in batches]
    return torch.cat(found) if found else torch.zeros(0, encoder.joint_dim)


def cosine_similarities(regions: Tensor, sound: Tensor) -> np.ndarray:
    """Cosine of each region (unit vectors [P, E]) with a sound (embedding [E]): float32 [P]."""
    return (regions @ F.normalize(sound.float(), dim=0)).clamp(-1, 1).cpu().numpy()


def above_threshold(cosine: np.ndarray, config: BaselineConfig) -> np.ndarray:
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


def mask_crops(frame: np.ndarray, masks: np.ndarray) -> Iterator[np.ndarray]:
    """Each mask's (bool [P, H, W], not empty) bounding box, all else in it painted in the crop's mean color.

    The mean is over the masked pixels, so that the ground adds no color of its own.
    """
    for mask, (left, top, right, bottom) in zip(masks, bounding_boxes(masks).astype(int), strict=True):
        crop, inside = frame[top:bottom, left:right], mask[top:bottom, left:right]
        mean = crop[inside].mean(0).round().astype(np.uint8)
        yield np.where(inside[..., None], crop, mean)


def paint_heatmap(regions: np.ndarray, values: np.ndarray, grid: int) -> np.ndarray:
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


def empty_prediction(frame: np.ndarray, heat: np.ndarray | int, reason: str) -> FramePrediction:
    """An empty answer; `heat` is a map, or the side of one that is all 0."""
    if isinstance(heat, int):
        heat = np.zeros((heat, heat), np.float16)
    return FramePrediction(np.zeros(frame.shape[:2], bool), heat, 0.0, reason)


def union_prediction(parts: np.ndarray, heat: np.ndarray, score: float) -> FramePrediction:
    """The union of masks bool [P, H, W] as an answer; "no mask" where all are empty."""
    mask: np.ndarray = np.any(parts, axis=0)
    return (
        FramePrediction(mask, heat, score, "", parts)
        if mask.any()
        else FramePrediction(mask, heat, 0.0, "no mask")
    )


class _Bind(FrameMethod):
    """What both share: the sound of each frame, its regions, and those of them that match."""

    config: BaselineConfig
    encoder: AudioVisualEncoder

    def predict_frames(self, frames: list[ClipFrame]) -> Iterator[FramePrediction]:
        """See `FrameMethod`."""
        windows = [frame.window(self.config.window) for frame in frames]
        embeddings = encode_windows(self.encoder, windows).embedding
        for frame, embedding in zip(frames, embeddings, strict=True):
            yield self._predict(downscale(frame.image, self.config.working_side), embedding)

    def _predict(self, image: np.ndarray, sound: Tensor) -> FramePrediction:
        raise NotImplementedError

    def _embed(self, crops: Iterator[np.ndarray]) -> Tensor:
        return embed_crops(self.encoder, crops, self.config.crop_batch)


class OwodBind(_Bind):
    """Class-agnostic boxes -> those whose crops match the sound -> masks -> their union.

    Its `scores` are the highest cosine of a box with the sound. Heat at a pixel is (1 + cosine) / 2 of the
    best box that covers it, 0 where none does. `reasons`: "", "silent", "no sound", "no box" (nothing looks
    like an object), "below threshold", "no mask".

    Args:
        encoder: frozen; holds crops and sounds in one space.
        detector: finds boxes and how much each looks like an object.
        segmenter: boxes to masks.
        config: ``objectness`` (the paper's tau_BB), ``bind_threshold`` (tau_BIND) and ``score``.
        classifier: says what the masks are; None: `Segmentation.labels` stays None.
    """

    def __init__(
        self,
        encoder: AudioVisualEncoder,
        detector: BoxDetector,
        segmenter: BoxSegmenter,
        config: BaselineConfig | None = None,
        classifier: MaskClassifier | None = None,
    ) -> None:
        self.config = config or BaselineConfig()
        self.encoder, self.grid, self.classifier = encoder, encoder.grid, classifier
        self.detector, self.segmenter = detector, segmenter
        self._regions: FrameCache[tuple[np.ndarray, Tensor]] = FrameCache()
        self.settings = {
            "method": "owod-bind",
            **self.config.to_dict(),
            "encoder": encoder_settings(encoder),
            "detector": detector.settings,
            "segmenter": segmenter.settings,
            "labels": None if classifier is None else classifier.settings,
            "versions": versions(),
        }

    def _predict(self, image: np.ndarray, sound: Tensor) -> FramePrediction:
        boxes, regions = self._regions(image, lambda: self._detect(image))
        if not len(boxes):
            return empty_prediction(image, self.grid, "no box")
        cosine = cosine_similarities(regions, sound)
        heat = paint_heatmap(box_masks(boxes, image.shape[:2]), (1 + cosine) / 2, self.grid)
        matching = above_threshold(cosine, self.config)
        if not matching.any():
            return empty_prediction(image, heat, "below threshold")
        with record("proposals"):
            masks = self.segmenter(image, boxes[matching])
        return union_prediction(masks, heat, float(cosine[matching].max()))

    def _detect(self, image: np.ndarray) -> tuple[np.ndarray, Tensor]:
        """Boxes that look like objects, float32 [P, 4], and the embeddings of what they show, [P, E]."""
        with record("proposals"):
            boxes, scores = self.detector(image)
        boxes = boxes[scores > self.config.objectness]
        return boxes, self._embed(box_crops(image, boxes))


class SamBind(_Bind):
    """Mask proposals -> those whose masked crops match the sound -> their union.

    Its `scores` are the highest cosine of a proposal with the sound. Heat at a pixel is (1 + cosine) / 2 of
    the best proposal that covers it, 0 where none does. `reasons`: "", "silent", "no sound", "no proposal",
    "below threshold".

    Args:
        encoder: frozen; holds crops and sounds in one space.
        proposer: finds masks (SAM under a grid of points, filtered by quality and overlap).
        config: ``bind_threshold`` and ``score``; the paper names no threshold of its own for this baseline.
        classifier: says what the masks are; None: `Segmentation.labels` stays None.
    """

    def __init__(
        self,
        encoder: AudioVisualEncoder,
        proposer: Proposer,
        config: BaselineConfig | None = None,
        classifier: MaskClassifier | None = None,
    ) -> None:
        self.config = config or BaselineConfig()
        self.encoder, self.grid, self.classifier = encoder, encoder.grid, classifier
        self.proposer = cached_proposer(proposer)
        self._regions: FrameCache[Tensor] = FrameCache()
        self.settings = {
            "method": "sam-bind",
            **self.config.to_dict(),
            "encoder": encoder_settings(encoder),
            "proposer": proposer.settings,
            "labels": None if classifier is None else classifier.settings,
            "versions": versions(),
        }

    def _predict(self, image: np.ndarray, sound: Tensor) -> FramePrediction:
        masks = self.proposer(image)
        masks = masks[masks.any((1, 2))]
        if not len(masks):
            return empty_prediction(image, self.grid, "no proposal")
        regions = self._regions(image, lambda: self._embed(mask_crops(image, masks)))
        cosine = cosine_similarities(regions, sound)
        heat = paint_heatmap(masks, (1 + cosine) / 2, self.grid)
        matching = above_threshold(cosine, self.config)
        if not matching.any():
            return empty_prediction(image, heat, "below threshold")
        return union_prediction(masks[matching], heat, float(cosine[matching].max()))


class AtGdinoSam(FrameMethod):
    """Tags of a frame's window of sound -> boxes of what they name -> masks -> their union.

    Its `scores` are the highest tag score times box score. Heat at a pixel is the highest such product of a
    box that covers it. `reasons`: "", "silent", "no sound", "no tag" (none above the threshold), "no box"
    (nothing in the frame goes by such a name), "no mask".

    Args:
        tagger: names the sound.
        grounder: finds boxes; asked tag by tag, so that each box is known by its tag.
        segmenter: boxes to masks.
        config: ``tag_threshold`` (the paper's tau_AT) and ``tag_score``.
        grid: positions per side of the heat maps.
        classifier: says what the masks are; None: `Segmentation.labels` stays None.
    """

    def __init__(
        self,
        tagger: Tagger,
        grounder: Grounder,
        segmenter: BoxSegmenter,
        config: BaselineConfig | None = None,
        grid: int = 16,
        classifier: MaskClassifier | None = None,
    ) -> None:
        self.config: BaselineConfig = config or BaselineConfig()
        self.tagger, self.grounder, self.segmenter = tagger, grounder, segmenter
        self.grid, self.classifier = grid, classifier
        self.settings = {
            "method": "at-gdino-sam",
            **self.config.to_dict(),
            "tagger": tagger.settings,
            "grounder": grounder.settings,
            "segmenter": segmenter.settings,
            "grid": grid,
            "labels": None if classifier is None else classifier.settings,
            "versions": versions(),
        }

    def predict_frames(self, frames: list[ClipFrame]) -> Iterator[FramePrediction]:
        """See `FrameMethod`."""
        for frame in frames:
            image = downscale(frame.image, self.config.working_side)
            tags = self._tags(*frame.window(self.config.window))
            if not tags:
                yield empty_prediction(image, self.grid, "no tag")
                continue
            with record("proposals"):
                found = [self.grounder(image, [tag]) for tag in tags]
            boxes = np.concatenate([boxes for boxes, _ in found])
            if not len(boxes):
                yield empty_prediction(image, self.grid, "no box")
                continue
            weighted = zip(found, tags.values(), strict=True)
            scores = np.concatenate([tag * scores for (_, scores), tag in weighted])
            heat = paint_heatmap(box_masks(boxes, image.shape[:2]), scores, self.grid)
            with record("proposals"):
                masks = self.segmenter(image, boxes)
            yield union_prediction(masks, heat, float(scores.max()))

    def _tags(self, sound: np.ndarray, sample_rate: int) -> dict[str, float]:
        """Tags above the threshold with their scores, the likeliest first."""
        with record("audio encoder"):
            scores = self.tagger(sound, sample_rate)
        if self.config.tag_score == "rescaled":
            scores = scores / max(float(scores.max()), 1e-12)
        order = np.argsort(-scores, kind="stable")
        return {
            self.tagger.labels[i]: float(scores[i]) for i in order if scores[i] > self.config.tag_threshold
        }
