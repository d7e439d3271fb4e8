"""lite's stand-ins: boxes from proposals, masks for boxes, class maps instead of text."""

import numpy as np
import pytest

from moca_avs.cues.tags import tag_heat
from moca_avs.encoders.audioset import audioset_labels, table_hash
from moca_avs.encoders.lite import LiteEncoder
from moca_avs.errors import UsageError
from moca_avs.hub.debian import unpacked
from moca_avs.io.image import read_image
from moca_avs.proposals.boxes import bounding_boxes, box_iou, box_masks
from moca_avs.proposals.offline import AudiosetMapGrounder, ClassMapGrounder, ProposalBoxes, ProposalSegmenter

FRAME = np.zeros((20, 30, 3), np.uint8)


def random_boxes(rng, count):
    corners = np.sort(rng.integers(0, 20, (count, 2, 2)), axis=1)
    return np.concatenate([corners[:, 0], corners[:, 1] + 1], 1).astype(np.float32)


class Things:
    """Given masks, whatever the frame."""

    def __init__(self, masks):
        self.masks = masks
        self.settings = {"name": "things"}

    def __call__(self, frame):
        return self.masks


def test_boxes_and_masks_turn_into_each_other():
    boxes = random_boxes(np.random.default_rng(0), 30)
    masks = box_masks(boxes, (21, 21))
    for box, mask in zip(boxes.astype(int), masks, strict=True):
        slow = [(x, y) for y in range(21) for x in range(21) if mask[y, x]]
        assert (min(slow), max(slow)) == ((box[0], box[1]), (box[2] - 1, box[3] - 1))
        assert mask.sum() == (box[2] - box[0]) * (box[3] - box[1])
    assert np.array_equal(bounding_boxes(masks), boxes)
    assert np.array_equal(bounding_boxes(np.zeros((1, 4, 4), bool)), np.zeros((1, 4)))


def test_overlap_of_boxes_is_that_of_their_pixels():
    rng = np.random.default_rng(1)
    first, second = random_boxes(rng, 12), random_boxes(rng, 9)
    a, b = box_masks(first, (21, 21)), box_masks(second, (21, 21))
    slow = [[(p & q).sum() / (p | q).sum() for q in b] for p in a]
    np.testing.assert_allclose(box_iou(first, second), slow, atol=1e-12)
    assert box_iou(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0.0]]


def test_what_stands_out_looks_like_an_object():
    masks = np.zeros((4, 20, 30), bool)
    masks[0, 2:8, 2:9], masks[1, 10:18, 4:20], masks[2, 2:8, 2:9] = True, True, True
    masks[2, 7, 8] = False  # nearly the same box again
    salient = np.zeros((20, 30), np.float32)
    salient[10:18, 4:12] = 1.0
    salient[2:8, 2:9] = 0.75
    boxes, scores = ProposalBoxes(Things(masks), lambda frame: salient)(FRAME)
    assert boxes.dtype == scores.dtype == np.float32
    assert boxes.tolist() == [[2, 2, 9, 8], [4, 10, 20, 18]]
    assert scores.tolist() == pytest.approx([0.75, 0.5])
    none, nothing = ProposalBoxes(Things(masks[:0]), lambda frame: salient)(FRAME)
    assert (none.shape, nothing.shape) == ((0, 4), (0,))


def test_a_box_gets_the_proposal_that_fits_it():
    masks = np.zeros((3, 20, 30), bool)
    masks[0, 2:8, 2:9], masks[1, 10:18, 4:20] = True, True
    masks[1, 10:14, 4:12] = False
    boxes = np.array([[4, 11, 20, 18], [2, 2, 9, 8], [24, 1, 29, 6]], np.float32)
    found = ProposalSegmenter(Things(masks))(FRAME, boxes)
    assert np.array_equal(found[:2], masks[[1, 0]])
    assert np.array_equal(found[2], box_masks(boxes[2:], (20, 30))[0])  # nothing fits: the box itself
    assert np.array_equal(ProposalSegmenter(Things(masks[:0]))(FRAME, boxes), box_masks(boxes, (20, 30)))
    assert ProposalSegmenter(Things(masks))(FRAME, boxes[:0]).shape == (0, 20, 30)


@pytest.fixture(scope="module")
def lite():
    return LiteEncoder(image_size=384, binding=None)


@pytest.fixture(scope="module")
def grounder(lite):
    return ClassMapGrounder(lite)


@pytest.fixture(scope="module")
def by_sound(lite):
    return AudiosetMapGrounder(lite)


@pytest.mark.weights
@pytest.mark.stamps
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_zebra_is_boxed_where_it_stands(grounder, by_sound, side):
    path = unpacked("tuxpaint-stamps-default") / "usr/share/tuxpaint/stamps/animals/mammals/equines/zebra.png"
    zebra = read_image(path)[::4, ::4]
    scene = np.full((zebra.shape[0], 2 * zebra.shape[1], 3), 128, np.uint8)
    half = slice(0, zebra.shape[1]) if side == "left" else slice(zebra.shape[1], None)
    scene[:, half] = zebra
    boxes, scores = grounder(scene, ["imagenet 340"])
    left, _, right, _ = boxes[scores.argmax()]
    assert ((left + right) / 2 < zebra.shape[1]) == (side == "left")
    assert scores.max() > 0.9
    absent, low = grounder(scene, ["imagenet 817"])  # a sports car
    assert len(absent) == 0 or low.max() < scores.max()
    boxes, scores = by_sound(scene, ["Neigh, whinny"])
    left, _, right, _ = boxes[scores.argmax()]
    assert ((left + right) / 2 < zebra.shape[1]) == (side == "left")
    assert scores.max() > 0.9
    assert len(by_sound(scene, ["Violin, fiddle"])[0]) == 0


@pytest.mark.weights
def test_class_maps_take_labels_not_text(grounder):
    with pytest.raises(UsageError, match="not by text: 'dog'"):
        grounder(FRAME, ["dog"])
    boxes, scores = grounder(FRAME, [])
    assert (boxes.shape, scores.shape) == ((0, 4), (0,))


@pytest.mark.weights
def test_a_label_of_audioset_is_boxed_where_its_heat_is(by_sound, lite):
    frame = np.random.default_rng(0).integers(0, 256, (90, 160, 3)).astype(np.uint8)
    labels = audioset_labels()
    state = lite.image_stem(lite.prepare_images(frame[None]))
    for index in range(lite.image_blocks):
        state = lite.image_block(index, state)
    logits = lite.logit_map(state)[0].numpy()
    generous = AudiosetMapGrounder(lite, box_threshold=0.0)
    for tag in range(0, 521, 60):
        heat = tag_heat(np.eye(521, dtype=np.float32)[tag], logits)
        boxes, scores = generous(frame, [labels[tag]])
        assert len(boxes) == len(scores)
        if heat.max() <= 0:
            assert len(boxes) == 0
            continue
        assert scores.max() == pytest.approx(heat.max() / (heat.max() + 3), rel=1e-3)
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        x0, y0, x1, y1 = boxes[scores.argmax()] / ([160 / heat.shape[1], 90 / heat.shape[0]] * 2)
        assert x0 - 0.01 <= x < x1
        assert y0 - 0.01 <= y < y1


@pytest.mark.weights
def test_what_has_no_place_gets_no_box(by_sound):
    boxes, scores = by_sound(FRAME, ["Silence", "Echo"])
    assert (boxes.shape, scores.shape) == ((0, 4), (0,))
    with pytest.raises(UsageError, match="not by text: 'dog'"):
        by_sound(FRAME, ["Bark", "dog"])
    assert by_sound.settings["table"] == table_hash()


@pytest.mark.weights
def test_boxes_lie_inside_the_frame(grounder):
    frame = np.random.default_rng(0).integers(0, 256, (90, 160, 3)).astype(np.uint8)
    boxes, scores = grounder(frame, [f"imagenet {index}" for index in range(0, 1000, 50)])
    assert len(boxes) == len(scores) > 0
    assert (boxes >= 0).all()
    assert (boxes[:, [2, 3]] <= [160, 90]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert ((scores > grounder.box_threshold) & (scores <= 1)).all()
