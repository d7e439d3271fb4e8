"""AT-GDINO-SAM (paper section 4.1, I): name the sound, find what is named, cut it out. Nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from moca_avs.encoders.audio_tagging import Tagger
from moca_avs.methods.base import ClipFrame, FrameMethod, FramePrediction, MaskClassifier, versions
from moca_avs.methods.bind import empty_prediction, paint_heatmap, union_prediction
from moca_avs.methods.config import BaselineConfig
from moca_avs.proposals.base import BoxSegmenter
from moca_avs.proposals.boxes import box_masks
from moca_avs.proposals.grounding_dino import Grounder
from moca_avs.proposals.masks import downscale
from moca_avs.utils.profiler import record


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
