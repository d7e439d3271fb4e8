"""SAM through transformers' real classes, against their own front end and post-processing."""

import numpy as np
import pytest
import torch
import transformers

from helpers.tiny_pretrained import write_tiny_sam
from moca_avs.errors import UsageError, WeightsError
from moca_avs.hub.huggingface import ModelSources
from moca_avs.proposals.masks import mask_iou
from moca_avs.proposals.sam import SamPointGrid, SamSegmenter, grid_points, stability_score

BOXES = np.array([[3, 4, 40, 30], [10, 10, 79, 47], [0, 0, 80, 48], [60.5, 2.25, 70, 9]], np.float32)
EVERYTHING = {"points_per_side": 5, "predicted_iou": -9.0, "stability": -1.0, "min_area": 0.0}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return ModelSources(write_tiny_sam(tmp_path_factory.mktemp("weights") / "sam").parent)


@pytest.fixture
def frame():
    return np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)


def reference(sources, frame, **prompts):
    """Logits at the frame's size and predicted IoU, all by transformers, in one call."""
    folder = sources.source("sam")
    model = transformers.SamModel.from_pretrained(folder)
    processor = transformers.SamProcessor(transformers.SamImageProcessorPil.from_pretrained(folder))
    inputs = processor(frame, return_tensors="pt", **prompts)
    inputs = {key: value.float() if value.is_floating_point() else value for key, value in inputs.items()}
    sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
    with torch.no_grad():
        found = model(**inputs, multimask_output="input_points" in inputs)
    (masks,) = processor.post_process_masks(found.pred_masks, *sizes, binarize=False)
    return masks, found.iou_scores[0], processor


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_boxes_give_the_masks_that_transformers_gives(sources, frame, chunk):
    expected = (reference(sources, frame, input_boxes=[BOXES.tolist()])[0][:, 0] > 0).numpy()
    found = SamSegmenter(sources, chunk=chunk)(frame, BOXES)
    assert found.shape == (4, 48, 80)
    assert found.dtype == bool
    assert np.mean(found != expected) < 2e-4  # a chunk's sums may round another way
    assert 0 < expected.mean() < 1
    assert not np.array_equal(found[0], found[1])


def test_masks_keep_the_order_of_the_boxes(sources, frame):
    segment = SamSegmenter(sources, chunk=2)
    assert np.array_equal(segment(frame, BOXES[[2, 0, 1, 3]])[1], segment(frame, BOXES)[0])


def test_a_frame_is_embedded_once(sources, frame):
    segment = SamSegmenter(sources, chunk=1)
    seen = []
    segment._sam._model.vision_encoder.register_forward_hook(lambda *_: seen.append(1))
    segment(frame, BOXES)
    assert len(seen) == 1
    assert segment(frame, BOXES[:0]).shape == (0, 48, 80)
    assert len(seen) == 1  # no box, no work
    segment(frame.copy(), BOXES[1:])  # the same image under another sound
    assert len(seen) == 1
    segment(frame[::-1].copy(), BOXES)
    assert len(seen) == 2


def test_a_grid_of_many_chunks_embeds_its_frame_once(sources, frame):
    propose = SamPointGrid(sources, chunk=2, **EVERYTHING)
    seen, decoded = [], []
    propose._sam._model.vision_encoder.register_forward_hook(lambda *_: seen.append(1))
    propose._sam._model.mask_decoder.register_forward_hook(lambda *_: decoded.append(1))
    propose(frame)
    assert (len(seen), len(decoded)) == (1, 13)


@pytest.mark.parametrize("boxes", [np.zeros((2, 3)), np.zeros(4), np.full((1, 4), np.nan)])
def test_boxes_that_are_none_are_told(sources, frame, boxes):
    with pytest.raises(UsageError, match=r"expected boxes \[P, 4\] of finite numbers"):
        SamSegmenter(sources)(frame, boxes)


def test_grid_points_are_the_centers_of_cells():
    assert grid_points(2, (10, 40)).tolist() == [[10, 2.5], [30, 2.5], [10, 7.5], [30, 7.5]]


def test_stability_is_the_iou_of_two_thresholds():
    logits = torch.tensor([[[2.0, 2, 0.5, -0.5, -2]], [[5.0, 5, 5, -5, -5]], [[-3.0, -3, -3, -3, -3]]])
    assert stability_score(logits, 1.0).tolist() == [0.5, 1.0, 0.0]


def grid_prompts(frame, n):
    points = [[[x, y]] for x, y in grid_points(n, frame.shape[:2]).tolist()]
    return {"input_points": [points], "input_labels": [[[1]] * len(points)]}


@pytest.mark.parametrize("chunk", [7, 64])
def test_the_grid_keeps_what_the_public_filters_keep(sources, frame, chunk):
    """Without suppression and small-area filter: transformers' own `filter_masks` decides."""
    limits = {"predicted_iou": 1.2, "stability": 0.8}
    masks, scores, processor = reference(sources, frame, **grid_prompts(frame, 5))
    expected, kept_scores, _ = processor.image_processor.filter_masks(
        masks, scores, frame.shape[:2], [0, 0, frame.shape[1], frame.shape[0]], *limits.values()
    )
    order = kept_scores.argsort(descending=True, stable=True).tolist()
    grid = SamPointGrid(sources, points_per_side=5, nms_iou=1.0, min_area=0.0, chunk=chunk, **limits)
    assert 3 < len(expected) < 70
    assert [rle_counts(mask) for mask in grid(frame)] == [expected[i]["counts"] for i in order]


def rle_counts(mask):
    """Lengths of runs down the columns, the first of zeros."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return [0, *counts] if flat[0] else counts


def test_doubles_are_suppressed_best_first(sources, frame):
    many = SamPointGrid(sources, nms_iou=1.0, **EVERYTHING)(frame)
    few = SamPointGrid(sources, nms_iou=0.5, **EVERYTHING)(frame)
    assert 1 < len(few) < len(many) == np.count_nonzero(many.any((1, 2)))
    overlap = mask_iou(torch.from_numpy(few)).fill_diagonal_(0)
    assert overlap.max() < 0.55  # suppressed on the decoder's grid, which is not quite the frame's
    assert np.array_equal(few[0], many[0])


def test_small_masks_are_left_out(sources, frame):
    all_sizes = SamPointGrid(sources, nms_iou=1.0, **EVERYTHING)(frame)
    limit = float(np.median(all_sizes.mean((1, 2))))
    large = SamPointGrid(sources, nms_iou=1.0, **(EVERYTHING | {"min_area": limit}))(frame)
    assert 0 < len(large) < len(all_sizes)
    assert np.array_equal(large, all_sizes[all_sizes.mean((1, 2)) >= limit])


def test_nothing_good_enough_is_no_mask(sources, frame):
    found = SamPointGrid(sources, points_per_side=3, predicted_iou=99.0)(frame)
    assert (found.shape, found.dtype) == ((0, 48, 80), bool)


def test_the_grid_repeats_itself_and_tells_its_settings(sources, frame):
    grid = SamPointGrid(sources, points_per_side=4)
    assert np.array_equal(grid(frame), grid(frame))
    assert (grid.settings["predicted_iou"], grid.settings["stability"], grid.settings["nms_iou"]) == (
        0.88,
        0.95,
        0.5,
    )
    assert len(grid.settings["weights"]["sha256"]["model.safetensors"]) == 64
    with pytest.raises(UsageError, match="points_per_side must be at least 1"):
        SamPointGrid(sources, points_per_side=0)


@pytest.mark.parametrize("shape", [(200, 30, 3), (1, 1, 3), (64, 64, 3)])
def test_any_shape_of_frame(sources, shape):
    frame = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    assert SamSegmenter(sources)(frame, BOXES[:1]).shape == (1, *shape[:2])
    assert SamPointGrid(sources, **EVERYTHING)(frame).shape[1:] == shape[:2]


def test_missing_weights_are_one_clear_error(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="SAM ViT-H"):
        SamSegmenter(ModelSources(models={"sam": str(tmp_path)}))


@pytest.mark.parametrize("height", [1, 3])
def test_frames_as_high_as_there_are_channels_are_read_row_by_row(sources, height):
    frame = np.random.default_rng(1).integers(0, 256, (height, 8, 3), dtype=np.uint8)
    segment = SamSegmenter(sources)
    encoded = segment._sam.encode(frame)
    assert encoded.size == (height, 8)
    assert encoded.inner[1] == pytest.approx(encoded.inner[0] * 8 / height, rel=0.1)
    processor = transformers.SamImageProcessorPil.from_pretrained(sources.source("sam"))
    inputs = processor(frame.transpose(2, 0, 1), return_tensors="pt", input_data_format="channels_first")
    model = transformers.SamModel.from_pretrained(sources.source("sam"))
    with torch.no_grad():
        expected = model.get_image_embeddings(inputs["pixel_values"].float())
    torch.testing.assert_close(encoded.embedding, expected, atol=1e-5, rtol=1e-5)
    assert segment(frame, np.array([[0, 0, 8, height]], np.float32)).shape == (1, height, 8)
