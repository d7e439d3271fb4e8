"""GroundingDINO through transformers' real classes, against their own post-processing."""

import numpy as np
import pytest
import torch
import transformers

from helpers.tiny_pretrained import PHRASES, write_tiny_grounding_dino
from moca_avs.errors import UsageError, WeightsError
from moca_avs.hub.huggingface import ModelSources
from moca_avs.proposals.detectors import GroundingDino, clean


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "grounding-dino"
    return ModelSources(write_tiny_grounding_dino(folder).parent)


@pytest.fixture(scope="module")
def grounder(sources):
    return GroundingDino(sources, box_threshold=0.0, text_threshold=0.0)


@pytest.fixture
def frame():
    return np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)


def reference(sources, frame, text, threshold):
    """Scores and boxes by transformers alone, best first."""
    folder = sources.source("grounding-dino")
    model = transformers.GroundingDinoForObjectDetection.from_pretrained(folder)
    processor = transformers.GroundingDinoProcessor(
        transformers.GroundingDinoImageProcessorPil.from_pretrained(folder),
        transformers.BertTokenizer.from_pretrained(folder),
    )
    inputs = processor(images=frame, text=text, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    (found,) = processor.post_process_grounded_object_detection(
        outputs, inputs["input_ids"], threshold=threshold, target_sizes=[frame.shape[:2]]
    )
    order = found["scores"].argsort(descending=True)
    return found["scores"][order].numpy(), found["boxes"][order].numpy()


def test_boxes_and_scores_are_transformers_own(sources, grounder, frame):
    boxes, scores = grounder(frame, ["Dog", "a cat."])
    expected_scores, expected_boxes = reference(sources, frame, "dog. a cat.", 0.0)
    cut = expected_boxes.clip(0, [80, 48, 80, 48])
    assert (boxes.dtype, scores.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
    np.testing.assert_allclose(boxes, cut, atol=1e-3)
    assert len(scores) > 3
    assert np.all(boxes[:, 2:] > boxes[:, :2])


def test_what_is_asked_changes_what_is_found(grounder, frame):
    assert not np.array_equal(grounder(frame, ["dog"])[1], grounder(frame, ["drum"])[1])


def test_the_box_threshold_cuts(sources, frame):
    _, scores = GroundingDino(sources, box_threshold=0.0, text_threshold=0.0)(frame, ["dog"])
    limit = float(np.median(scores))
    _, above = GroundingDino(sources, box_threshold=limit, text_threshold=0.0)(frame, ["dog"])
    assert np.array_equal(above, scores[scores > limit])
    assert 0 < len(above) < len(scores)


def test_a_box_must_name_a_word_above_the_text_threshold(sources, grounder, frame):
    _, scores = grounder(frame, ["dog", "cat"])
    none, _ = GroundingDino(sources, box_threshold=0.0, text_threshold=1.0)(frame, ["dog", "cat"])
    assert len(scores) > 0
    assert none.shape == (0, 4)


def test_nothing_above_the_threshold_is_no_box(sources, frame):
    boxes, scores = GroundingDino(sources, box_threshold=1.0)(frame, ["dog"])
    assert (boxes.shape, scores.shape) == ((0, 4), (0,))


def test_no_phrase_no_work(grounder, frame):
    for phrases in ([], [""], [" . "]):
        boxes, scores = grounder(frame, phrases)
        assert (boxes.shape, scores.shape) == ((0, 4), (0,))


def test_phrases_are_cleaned():
    assert clean("  Dr.  WHO's Dog. ") == "dr who's dog"
    assert clean("...") == ""


def test_texts_are_lower_case_without_doubles_ended_by_full_stops(grounder):
    assert grounder.texts(["Dog", "a  Cat.", "dog", ""]) == ["dog. a cat."]


def test_long_lists_are_split_and_every_phrase_is_asked(sources, grounder, frame):
    phrases = [f"{word} {number}" for number in "abcdefghij" for word in PHRASES[:10]] * 2
    phrases = [f"{phrase} {'all ' * (i % 5)}".strip() for i, phrase in enumerate(phrases)]
    texts = grounder.texts(phrases)
    tokenizer = transformers.BertTokenizer.from_pretrained(sources.source("grounding-dino"))
    lengths = [len(tokenizer(text)["input_ids"]) for text in texts]
    asked = [phrase.strip() for text in texts for phrase in text.split(".") if phrase.strip()]
    assert asked == list(dict.fromkeys(phrases))
    assert len(texts) > 1
    assert max(lengths) <= 256
    boxes, scores = grounder(frame, phrases)
    apart = [grounder(frame, [part for part in text.split(".") if part.strip()])[1] for text in texts]
    np.testing.assert_allclose(scores, np.sort(np.concatenate(apart))[::-1], atol=1e-6)
    assert len(boxes) == len(scores)


def test_a_phrase_longer_than_a_text_is_told(grounder):
    assert len(grounder.texts(["dog " * 253])) == 1
    with pytest.raises(UsageError, match="a phrase may have 253 word pieces, found 'dog dog"):
        grounder.texts(["dog " * 254])


def test_settings_tell_thresholds_and_hash(sources):
    settings = GroundingDino(sources).settings
    assert (settings["box_threshold"], settings["text_threshold"]) == (0.35, 0.25)
    assert len(settings["weights"]["sha256"]["model.safetensors"]) == 64


def test_a_missing_tokenizer_is_told(tmp_path):
    folder = write_tiny_grounding_dino(tmp_path / "grounding-dino")
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / file).unlink()
    with pytest.raises(WeightsError, match=r"GroundingDINO base: .* holds no vocab\.txt or tokenizer\.json"):
        GroundingDino(ModelSources(tmp_path))


def test_a_missing_front_end_is_told(tmp_path):
    folder = write_tiny_grounding_dino(tmp_path / "grounding-dino")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match="GroundingDINO base"):
        GroundingDino(ModelSources(tmp_path))


@pytest.mark.parametrize("height", [1, 3])
def test_frames_as_high_as_there_are_channels_are_read_row_by_row(grounder, height):
    frame = np.random.default_rng(1).integers(0, 256, (height, 8, 3), dtype=np.uint8)
    boxes, scores = grounder(frame, ["dog"])
    assert len(boxes) == len(scores) > 0
    assert (boxes >= 0).all()
    assert (boxes <= [8, height, 8, height]).all()
