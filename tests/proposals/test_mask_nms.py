"""Suppression against a slow reference that goes one mask at a time."""

import numpy as np
import pytest
import torch

from moca_avs.proposals.boxes import box_iou, box_nms, inside_frame
from moca_avs.proposals.masks import first_of_overlapping, mask_iou, mask_nms


def slow_nms(iou, scores, max_iou):
    """Take the best that is left, drop what overlaps it, go on."""
    left = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best, *left = left
        kept.append(best)
        left = [i for i in left if iou(best, i) <= max_iou]
    return kept


def slow_mask_iou(first, second):
    union = np.logical_or(first, second).sum()
    return np.logical_and(first, second).sum() / union if union else 0.0


def slow_box_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area - width * height)


def random_boxes(count, rng):
    low = rng.uniform(0, 30, (count, 2))
    return np.concatenate([low, low + rng.uniform(3, 25, (count, 2))], 1).astype(np.float32)


def random_masks(count, rng):
    """Rectangles on 40 x 48, some empty."""
    masks = np.zeros((count, 40, 48), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, random_boxes(count, rng).astype(int), strict=True):
        mask[y0:y1, x0:x1] = True
    masks[::17] = False
    masks[1::2][: count // 8] = masks[::2][: count // 8]  # twins
    return masks


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("max_iou", [0.1, 0.5, 0.9])
def test_masks_as_the_slow_way(seed, max_iou):
    rng = np.random.default_rng(seed)
    masks = random_masks(60, rng)
    scores = rng.integers(0, 20, 60) / 20  # with ties
    expected = slow_nms(lambda i, j: slow_mask_iou(masks[i], masks[j]), scores, max_iou)
    found = mask_nms(torch.from_numpy(masks), torch.from_numpy(scores), max_iou).tolist()
    assert found == expected
    assert 0 < len(found) < 60


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("max_iou", [0.1, 0.5, 0.9])
def test_boxes_as_the_slow_way(seed, max_iou):
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(80, rng), (rng.integers(0, 20, 80) / 20).astype(np.float32)
    expected = slow_nms(lambda i, j: slow_box_iou(boxes[i], boxes[j]), scores, max_iou)
    assert box_nms(boxes, scores, max_iou).tolist() == expected


def test_mask_iou_as_the_slow_way():
    masks = random_masks(20, np.random.default_rng(0))
    slow = [[slow_mask_iou(a, b) for b in masks] for a in masks]
    torch.testing.assert_close(mask_iou(torch.from_numpy(masks)), torch.tensor(slow, dtype=torch.float32))


def test_a_long_chain_is_settled_from_its_head():
    chain = torch.diag(torch.ones(100, dtype=torch.bool), diagonal=1)  # each overlaps only the next
    assert first_of_overlapping(chain).tolist() == [i % 2 == 0 for i in range(101)]


def test_an_overlap_of_just_the_limit_is_kept():
    masks = torch.zeros(2, 1, 3, dtype=torch.bool)
    masks[0, 0, :2] = masks[1, 0, 1] = True  # IoU 1/2
    assert mask_nms(masks, torch.tensor([1.0, 0.5]), 0.5).tolist() == [0, 1]
    assert mask_nms(masks, torch.tensor([1.0, 0.5]), 0.49).tolist() == [0]


def test_nothing_in_nothing_out():
    assert mask_nms(torch.zeros(0, 4, 5, dtype=torch.bool), torch.zeros(0)).shape == (0,)
    assert box_nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)).shape == (0,)
    boxes, scores = inside_frame(np.zeros((0, 4)), np.zeros(0), (4, 5))
    assert (boxes.shape, boxes.dtype, scores.shape) == ((0, 4), np.float32, (0,))


def test_empty_boxes_overlap_nothing():
    boxes = np.array([[1.0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 2, 2]])
    assert box_iou(boxes, boxes).tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_boxes_are_cut_to_the_frame_and_sorted():
    boxes = np.array([[-5, -5, 3, 4], [2, 2, 99, 99], [50, 0, 60, 5], [1, 1, 2, 2]], np.float32)
    cut, scores = inside_frame(boxes, np.array([0.1, 0.9, 0.8, 0.9], np.float32), (10, 20))
    assert cut.tolist() == [[2, 2, 20, 10], [1, 1, 2, 2], [0, 0, 3, 4]]
    assert scores.tolist() == pytest.approx([0.9, 0.9, 0.1])
