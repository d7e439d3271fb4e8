"""Open-world detectors and the cascade to masks; by name too."""

import numpy as np
import pytest
import torch
import transformers

from helpers.tiny_pretrained import write_tiny_weights
from moca_avs.errors import UsageError, WeightsError
from moca_avs.hub.huggingface import ModelSources
from moca_avs.proposals import PROPOSERS, build_proposer, check_proposer
from moca_avs.proposals.boxes import box_iou
from moca_avs.proposals.detectors import QUERIES, BoxProposals, OpenWorldText, OwlObjectness

FOUND = {
    "all objects": [([0, 0, 10, 10], 0.6), ([20, 0, 30, 10], 0.4)],
    "all entities": [([0, 0, 10, 9], 0.9)],
    "all visible entities and objects": [],
    "all obscure entities and objects": [([0, 20, 5, 30], 0.3), ([40, 20, 50, 30], 0.7)],
}


class Lists:
    """A grounder that answers from FOUND and notes what it was asked."""

    settings = {"name": "lists"}  # noqa: RUF012

    def __init__(self):
        self.asked = []

    def __call__(self, frame, phrases):
        self.asked.append(list(phrases))
        found = [item for phrase in phrases for item in FOUND[phrase]]
        boxes = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
        return boxes, np.array([score for _, score in found], np.float32)


class Rectangles:
    """A segmenter whose masks are the boxes."""

    settings = {"name": "rectangles"}  # noqa: RUF012

    def __call__(self, frame, boxes):
        masks = np.zeros((len(boxes), *frame.shape[:2]), bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int), strict=True):
            mask[y0:y1, x0:x1] = True
        return masks


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return ModelSources(
        write_tiny_weights(tmp_path_factory.mktemp("weights"), "sam", "grounding-dino", "owlv2")
    )


@pytest.fixture
def frame():
    return np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)


def test_every_query_is_asked_by_itself_and_doubles_go(frame):
    grounder = Lists()
    boxes, scores = OpenWorldText(grounder)(frame)
    assert grounder.asked == [[query] for query in QUERIES]
    assert scores.tolist() == pytest.approx([0.9, 0.7, 0.4, 0.3])
    assert boxes[0].tolist() == [0, 0, 10, 9]  # 0.6's box overlaps it by 0.9


def test_the_cascade_keeps_scores_above_one_half_best_first(frame):
    proposals = BoxProposals(OpenWorldText(Lists()), Rectangles())
    masks = proposals(frame)
    assert masks.sum((1, 2)).tolist() == [90, 100]
    assert proposals.settings["min_score"] == 0.5
    assert BoxProposals(OpenWorldText(Lists()), Rectangles(), 0.95)(frame).shape == (0, 48, 80)


def test_masks_with_nothing_in_them_are_left_out(frame):
    class Nothing(Rectangles):
        def __call__(self, frame, boxes):
            masks = super().__call__(frame, boxes)
            masks[0] = False
            return masks

    assert len(BoxProposals(OpenWorldText(Lists()), Nothing())(frame)) == 1


@pytest.mark.parametrize("shape", [(48, 80, 3), (80, 48, 3), (50, 50, 3)])
def test_owl_boxes_are_those_of_its_own_forward(sources, shape):
    """Boxes and objectness of a whole forward pass (with any text), scaled by transformers."""
    frame = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    folder = sources.source("owlv2")
    model = transformers.Owlv2ForObjectDetection.from_pretrained(folder)
    processor = transformers.Owlv2ImageProcessorPil.from_pretrained(folder)
    pixels = processor(frame, return_tensors="pt")["pixel_values"].float()
    with torch.no_grad():
        output = model(input_ids=torch.tensor([[62, 5, 63]]), pixel_values=pixels)
    output.logits = output.objectness_logits[..., None]
    (expected,) = processor.post_process_object_detection(
        output, threshold=0.0, target_sizes=[frame.shape[:2]]
    )
    boxes, scores = OwlObjectness(sources, nms_iou=1.0)(frame)
    order = expected["scores"].argsort(descending=True)
    height, width = shape[:2]
    cut = expected["boxes"][order].numpy().clip(0, [width, height, width, height])
    visible = np.all(cut[:, 2:] > cut[:, :2], axis=1)
    np.testing.assert_allclose(scores, expected["scores"][order].numpy()[visible], atol=1e-5)
    np.testing.assert_allclose(boxes, cut[visible], atol=1e-3)
    assert len(boxes) > 5


def test_owl_suppresses_doubles(sources, frame):
    every, _ = OwlObjectness(sources, nms_iou=1.0)(frame)
    boxes, scores = OwlObjectness(sources)(frame)
    assert 1 < len(boxes) < len(every)
    assert np.triu(box_iou(boxes, boxes), 1).max() <= 0.5
    assert np.all(np.diff(scores) <= 0)


@pytest.mark.parametrize("name", ["openworld-sam", "owl-sam"])
def test_cascades_by_name_are_deterministic_masks(sources, frame, name):
    proposer = build_proposer(name, sources)
    masks = proposer(frame)
    assert (masks.dtype, masks.shape[1:]) == (bool, (48, 80))
    assert len(masks) > 0
    assert masks.any((1, 2)).all()
    assert np.array_equal(masks, proposer(frame))


def test_the_grid_by_name_joined_with_a_cascade(sources, frame):
    joined = build_proposer("owl-sam+sam-grid", sources)
    assert len(joined(frame)) > 0
    assert joined.settings["proposers"][1]["points_per_side"] == 32


def test_names_are_checked_without_building_anything():
    assert check_proposer("saliency+superpixels") == ["saliency", "superpixels"]
    assert set(PROPOSERS) == {"saliency", "superpixels", "regions", "openworld-sam", "owl-sam", "sam-grid"}
    for wrong in ("", "sma", "saliency+", "saliency+saliency", "openworld+sam"):
        with pytest.raises(
            UsageError, match="proposals must be one of saliency, superpixels, regions, openworld-sam"
        ):
            check_proposer(wrong)


def test_missing_weights_are_one_clear_error(tmp_path):
    with pytest.raises(WeightsError, match="GroundingDINO base"):
        build_proposer("openworld-sam", ModelSources(models={"grounding-dino": str(tmp_path)}))
