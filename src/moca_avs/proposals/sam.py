"""SAM (Kirillov et al. 2023): masks from boxes, and masks of everything from a grid of points.

A frame goes through the image encoder once, however many prompts there are; prompts go through the small
decoder in chunks. Weights and processor are those of transformers, see `moca_avs.hub.huggingface`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from moca_avs.errors import UsageError
from moca_avs.hub.huggingface import ModelSources, origin, pretrained
from moca_avs.proposals.masks import NMS_IOU, mask_nms
from moca_avs.utils.frame_cache import FrameCache

POINTS_PER_SIDE = 32
PREDICTED_IOU = 0.88
STABILITY = 0.95
STABILITY_OFFSET = 1.0
"""Of the public mask generator, as the two above."""
MIN_AREA = 0.0005
"""Share of the image: 17 x 17 pixels of 1024 x 576."""
CHUNK = 64
PIXELS = 2**26
"""Pixels of upsampled masks that are in memory at once, as float32."""


ENCODED = 4
"""Frames whose embeddings are kept, 4 MB each."""


@dataclass(frozen=True)
class EncodedFrame:
    """A frame as SAM's decoder sees it.

    Attributes:
        embedding: float32 [1, C, h, w].
        size: (height, width) of the frame.
        inner: (height, width) of its resized copy inside the padded square input.
    """

    embedding: Tensor
    size: tuple[int, int]
    inner: tuple[int, int]


class Sam:
    """The model and its front end; `SamSegmenter` and `SamPointGrid` ask it.

    Args:
        sources: where the weights come from.
        device: to compute on.
        chunk: prompts that go through the decoder at once.

    Raises:
        WeightsError: if they are missing, damaged, or no SAM.
    """

    def __init__(self, sources: ModelSources | None = None, device: str = "cpu", chunk: int = CHUNK) -> None:
        from transformers import SamImageProcessorPil, SamModel

        sources = sources or ModelSources()
        self.device = device
        self.chunk = chunk
        self._model = pretrained(SamModel, "sam", sources).to(device)
        self._processor = pretrained(SamImageProcessorPil, "sam", sources)
        self.side = int(self._model.config.vision_config.image_size)
        self.settings: dict[str, Any] = origin("sam", sources)
        self._encoded: FrameCache[EncodedFrame] = FrameCache(ENCODED)

    def encode(self, frame: np.ndarray) -> EncodedFrame:
        """uint8 [H, W, 3] -> its embedding; the last frames' are remembered."""
        return self._encoded(frame, lambda: self._encode(frame))

    @torch.no_grad()
    def _encode(self, frame: np.ndarray) -> EncodedFrame:
        inputs = self._processor(frame, return_tensors="pt", input_data_format="channels_last")
        embedding = self._model.get_image_embeddings(inputs["pixel_values"].to(self.device))
        height, width = inputs["reshaped_input_sizes"][0].tolist()
        return EncodedFrame(embedding, (frame.shape[0], frame.shape[1]), (height, width))

    @torch.no_grad()
    def decode(
        self, frame: EncodedFrame, boxes: Tensor | None = None, points: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Prompts of one kind -> logits float32 [P, M, h, w] over the padded square, predicted IoU [P, M].

        Args:
            frame: encoded.
            boxes: float [P, 4] in pixels of the frame; M = 1, as the authors advise for boxes.
            points: float [P, 2] in pixels of the frame, one per mask; M = 3 (whole, part, sub-part).
        """
        scale = torch.tensor([frame.inner[1] / frame.size[1], frame.inner[0] / frame.size[0]])
        prompt: dict[str, Tensor] = {}
        if boxes is not None:
            prompt["input_boxes"] = (boxes * scale.repeat(2))[None].float().to(self.device)
        if points is not None:
            prompt["input_points"] = (points * scale)[None, :, None].float().to(self.device)
        found = self._model(image_embeddings=frame.embedding, multimask_output=points is not None, **prompt)
        return found.pred_masks[0], found.iou_scores[0]

    def upsample(self, frame: EncodedFrame, logits: Tensor) -> Tensor:
        """Logits [P, h, w] over the padded square -> [P, H, W] over the frame (bilinear, twice, as SAM)."""
        square = F.interpolate(logits[:, None], (self.side, self.side), mode="bilinear", align_corners=False)
        inner = square[..., : frame.inner[0], : frame.inner[1]]
        return F.interpolate(inner, frame.size, mode="bilinear", align_corners=False)[:, 0]

    def portions(self, frame: EncodedFrame, logits: Tensor) -> tuple[Tensor, ...]:
        """Logits [P, h, w] in portions (one empty one, if P is 0) that `upsample` makes 256 MB of at most."""
        pixels = max(self.side**2, frame.size[0] * frame.size[1])
        return logits.split(max(1, PIXELS // pixels))

    def unpadded(self, frame: EncodedFrame, logits: Tensor) -> Tensor:
        """The part of the decoder's logits [P, h, w] that lies on the image."""
        rows, columns = (math.ceil(length * logits.shape[-1] / self.side) for length in frame.inner)
        return logits[..., :rows, :columns]

    def masks(self, frame: EncodedFrame, logits: Tensor) -> np.ndarray:
        """Logits [P, h, w] -> bool [P, H, W] at the frame's size."""
        found = [self.upsample(frame, part) > 0 for part in self.portions(frame, logits)]
        return torch.cat(found).numpy(force=True)


class SamSegmenter:
    """Boxes -> masks (a `BoxSegmenter`).

    Args:
        sources: where the weights come from.
        device: to compute on.
        chunk: boxes that go through the decoder at once.
    """

    def __init__(self, sources: ModelSources | None = None, device: str = "cpu", chunk: int = CHUNK) -> None:
        self._sam = Sam(sources, device, chunk)
        self.settings: dict[str, Any] = {"name": "sam-boxes", "weights": self._sam.settings}

    def __call__(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] and float32 [P, 4] (x0, y0, x1, y1) -> bool [P, H, W], in the order of the boxes.

        Raises:
            UsageError: if the boxes are not [P, 4] finite numbers.
        """
        boxes = np.asarray(boxes, np.float32)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
            raise UsageError(f"expected boxes [P, 4] of finite numbers, found {list(boxes.shape)}")
        if not len(boxes):
            return np.zeros((0, *frame.shape[:2]), bool)
        encoded = self._sam.encode(frame)
        parts = torch.from_numpy(boxes).split(self._sam.chunk)
        masks = [self._sam.masks(encoded, self._sam.decode(encoded, boxes=part)[0][:, 0]) for part in parts]
        return np.concatenate(masks)


class SamPointGrid:
    """Masks of everything (a `Proposer`): a grid of single points, filtered by quality, without doubles.

    The filters are the public mask generator's; the paper suppresses by mask IoU 0.5, where that generator
    uses boxes at 0.7. Overlaps are taken between the decoder's own masks, a quarter of SAM's input in size,
    so that memory does not grow with the frame.

    Args:
        sources: where the weights come from.
        device: to compute on.
        points_per_side: n of the n x n grid.
        predicted_iou: masks that the decoder itself gives at most this IoU go.
        stability: masks whose area changes more than this between two thresholds go: IoU of the masks at
            logits +`stability_offset` and -`stability_offset`.
        stability_offset: in logits.
        nms_iou: of two masks that overlap more, the one with the lower predicted IoU goes.
        min_area: smaller ones go; share of the image.
        chunk: points that go through the decoder at once.
    """

    def __init__(
        self,
        sources: ModelSources | None = None,
        device: str = "cpu",
        *,
        points_per_side: int = POINTS_PER_SIDE,
        predicted_iou: float = PREDICTED_IOU,
        stability: float = STABILITY,
        stability_offset: float = STABILITY_OFFSET,
        nms_iou: float = NMS_IOU,
        min_area: float = MIN_AREA,
        chunk: int = CHUNK,
    ) -> None:
        if points_per_side < 1:
            raise UsageError(f"points_per_side must be at least 1, found {points_per_side}")
        self._sam = Sam(sources, device, chunk)
        self._choices: dict[str, Any] = {
            "points_per_side": points_per_side,
            "predicted_iou": predicted_iou,
            "stability": stability,
            "stability_offset": stability_offset,
            "nms_iou": nms_iou,
            "min_area": min_area,
        }
        self.settings: dict[str, Any] = {"name": "sam-grid", **self._choices, "weights": self._sam.settings}

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> bool [P, H, W], highest predicted IoU first."""
        encoded = self._sam.encode(frame)
        points = grid_points(self._choices["points_per_side"], encoded.size)
        found = [self._good(encoded, part) for part in points.split(self._sam.chunk)]
        logits, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
        kept = mask_nms(self._sam.unpadded(encoded, logits) > 0, scores, self._choices["nms_iou"])
        masks = self._sam.masks(encoded, logits[kept])
        return masks[masks.any(axis=(1, 2))]  # the smallest may fall between the pixels of a small frame

    def _good(self, frame: EncodedFrame, points: Tensor) -> tuple[Tensor, Tensor]:
        """Masks of these points that pass the filters: logits [P, h, w] and predicted IoU [P]."""
        logits, scores = self._sam.decode(frame, points=points)
        likely = scores > self._choices["predicted_iou"]
        logits, scores = logits[likely], scores[likely]
        portions = self._sam.portions(frame, logits)
        kept = torch.cat([self._passes(self._sam.upsample(frame, part)) for part in portions])
        return logits[kept], scores[kept]

    def _passes(self, logits: Tensor) -> Tensor:
        """Stable and large enough: logits [P, H, W] -> bool [P]."""
        steady = stability_score(logits, self._choices["stability_offset"]) > self._choices["stability"]
        return steady & ((logits > 0).flatten(1).float().mean(1) >= self._choices["min_area"])


def grid_points(per_side: int, size: tuple[int, int]) -> Tensor:
    """Centers of a grid of per_side x per_side cells over (height, width): float32 [n * n, 2] as (x, y)."""
    steps = (torch.arange(per_side) + 0.5) / per_side
    y, x = torch.meshgrid(steps * size[0], steps * size[1], indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def stability_score(logits: Tensor, offset: float = STABILITY_OFFSET) -> Tensor:
    """IoU of a mask cut above and below its threshold: logits [P, H, W] -> float32 [P]; 0 where empty."""
    inner = (logits > offset).flatten(1).sum(1)
    outer = (logits > -offset).flatten(1).sum(1)
    return inner / outer.clamp(min=1)
