import logging
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.tiny_imagebind import write_tiny_imagebind
from helpers.tiny_training import TinyData, TinyEncoder
from moca_avs.encoders import build_encoder
from moca_avs.hub.huggingface import ModelSources
from moca_avs.training.features import CachedFeatures, FeatureExtractor, PrecomputedFeatures, open_features

ROWS = torch.tensor([5, 0, 5, 11])
SITES = ((0, "attention"), (1, "mlp"))
PLENTY = 10**9


def extractor(data: TinyData | None = None, **changes: object) -> FeatureExtractor:
    values = {"encoder": TinyEncoder(), "data": data or TinyData(12), "until_block": 2, "hook_points": SITES}
    return FeatureExtractor(**(values | changes))  # type: ignore[arg-type]


def assert_equal(found: PrecomputedFeatures, expected: PrecomputedFeatures) -> None:
    assert len(found) == len(expected)
    assert torch.equal(found.images(ROWS), expected.images(ROWS))
    assert torch.equal(found.features(), expected.features())
    heard, truth = found.sounds(ROWS), expected.sounds(ROWS)
    assert torch.equal(heard.embedding, truth.embedding)
    assert heard.tokens.keys() == truth.tokens.keys() == set(SITES)
    assert all(torch.equal(heard.tokens[site], truth.tokens[site]) for site in SITES)


def test_states_are_what_the_encoder_says() -> None:
    encoder, data = TinyEncoder(), TinyData(12)
    states = extractor(data)
    images = encoder.prepare_images(np.stack([data.frame(row) for row in ROWS]))
    state = encoder.image_block(1, encoder.image_block(0, encoder.image_stem(images)))
    sounds = encoder.encode_audio(torch.stack([encoder.prepare_audio(*data.sound(row)) for row in ROWS]))
    torch.testing.assert_close(states.images(ROWS), state)
    torch.testing.assert_close(states.features()[ROWS], encoder.image_feature(images))
    torch.testing.assert_close(states.sounds(ROWS).embedding, sounds.embedding)
    for site in SITES:
        torch.testing.assert_close(states.sounds(ROWS).tokens[site], sounds.tokens[site])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_cached_equals_computed_bit_for_bit(tmp_path, dtype: str) -> None:
    states = extractor(dtype=dtype)
    cached = open_features(states, tmp_path, PLENTY)
    assert isinstance(cached, CachedFeatures)
    assert_equal(cached, states)
    assert cached.images(ROWS).dtype == torch.float32


def test_float16_is_close_and_takes_half_the_room(tmp_path) -> None:
    exact = open_features(extractor(), tmp_path / "exact", PLENTY)
    half = open_features(extractor(dtype="float16"), tmp_path / "half", PLENTY)
    torch.testing.assert_close(half.images(ROWS), exact.images(ROWS), atol=2e-3, rtol=1e-3)
    assert not torch.equal(half.images(ROWS), exact.images(ROWS))
    full_size, half_size = (next(tmp_path.glob(f"{n}/*/image.bin")).stat().st_size for n in ("exact", "half"))
    assert half_size * 2 == full_size


def test_float16_rounds_by_no_more_than_the_docstring_says(tmp_path) -> None:
    """2^-11 of a value's size, 3e-8 near zero, and nothing becomes infinite."""

    class Wide(TinyEncoder):
        def image_stem(self, images):
            sizes = torch.logspace(-9, 9, self.stem.shape[0])  # far below and far above what float16 holds
            return super().image_stem(images) * sizes

    exact, half = (extractor(encoder=Wide(), until_block=0, dtype=dtype) for dtype in ("float32", "float16"))
    found, expected = half.images(ROWS), exact.images(ROWS)
    assert expected.abs().max() > 65504
    assert found.isfinite().all()
    expected = expected.clamp(-65504, 65504)
    assert ((found - expected).abs() <= expected.abs() * 2**-11 + 2**-25).all()
    assert torch.equal(open_features(half, tmp_path, PLENTY).images(ROWS), found)


class Counting(TinyEncoder):
    """Counts what it is asked to compute, and can end a pass that another began."""

    def __init__(self) -> None:
        super().__init__()
        self.stems = self.sounds = self.features = 0

    def image_stem(self, images):
        self.stems += 1
        return super().image_stem(images)

    def encode_audio(self, sounds):
        self.sounds += 1
        return super().encode_audio(sounds)

    def image_feature(self, images):
        state = self.image_stem(images)
        for index in range(self.image_blocks):
            state = self.image_block(index, state)
        return self.last_feature(state)

    def last_feature(self, state):
        self.features += 1
        return state.mean(1)


class Still(TinyData):
    """Clips of two equal frames; each third row repeats the sound before it."""

    def frame(self, index: int) -> np.ndarray:
        return super().frame(index // 2 * 2)

    def sound(self, index: int) -> tuple[np.ndarray, int]:
        return super().sound(index - (index % 3 == 1))


def test_equal_frames_and_sounds_are_encoded_once_in_one_pass(tmp_path) -> None:
    encoder = Counting()
    states = extractor(Still(12), encoder=encoder)
    cached = open_features(states, tmp_path, PLENTY)
    assert (encoder.stems, encoder.features, encoder.sounds) == (6, 6, 8)
    assert_equal(cached, states)


def test_the_feature_from_the_cached_pass_is_image_feature(tmp_path) -> None:
    write_tiny_imagebind(tmp_path / "imagebind")
    encoder = build_encoder("imagebind", sources=ModelSources(tmp_path), image_size=56)
    states = extractor(encoder=encoder, hook_points=((5, "mlp"),), until_block=3)
    for row in (0, 5):
        model_input = encoder.prepare_images(states.data.frame(row)[None])
        assert torch.equal(
            torch.from_numpy(states.row(row)["feature"]), encoder.image_feature(model_input)[0]
        )


def test_the_size_is_told_before_it_is_filled(tmp_path, capsys) -> None:
    open_features(extractor(progress=True), tmp_path, 3 * 10**9)
    said = "".join(capsys.readouterr())
    assert "state cache: 0.000 GB for 12 frames in float32; it may take 3.0 GB (the limit)" in said


def test_a_cache_is_made_once_and_never_for_something_else(tmp_path) -> None:
    data = TinyData(12)
    open_features(extractor(data), tmp_path, PLENTY)
    reads = data.reads
    assert reads == 12
    open_features(extractor(data), tmp_path, PLENTY).images(ROWS)
    assert data.reads == reads
    others = [
        extractor(TinyData(12, seed=1)),
        extractor(encoder=TinyEncoder(seed=1)),
        extractor(until_block=1),
        extractor(dtype="float16"),
        extractor(TinyData(14)),
    ]
    for other in others:
        assert_equal(open_features(other, tmp_path, PLENTY), other)
    assert len(list(tmp_path.iterdir())) == 1 + len(others)


def test_features_nobody_asks_for_are_not_computed(tmp_path) -> None:
    encoder = Counting()
    without = open_features(extractor(encoder=encoder, keep_features=False), tmp_path, PLENTY)
    assert encoder.features == 0
    assert torch.equal(without.images(ROWS), extractor().images(ROWS))
    with_features = open_features(extractor(), tmp_path, PLENTY)  # not the same cache
    assert torch.equal(with_features.features(), extractor().features())


def test_a_partly_written_cache_is_never_used(tmp_path) -> None:
    class Killed(TinyData):
        def frame(self, index: int) -> np.ndarray:
            if index == 7:
                raise KeyboardInterrupt
            return super().frame(index)

    with pytest.raises(KeyboardInterrupt):
        open_features(extractor(Killed(12)), tmp_path, PLENTY)
    assert list(tmp_path.iterdir()) == []
    whole = open_features(extractor(), tmp_path, PLENTY)
    assert_equal(whole, extractor())


def test_what_a_killed_process_left_is_removed(tmp_path) -> None:
    open_features(extractor(), tmp_path, PLENTY)
    (target,) = tmp_path.iterdir()
    left = target.with_name(f"{target.name}.partial-{2**22 + 1}")  # above the largest process id Linux gives
    target.rename(left)
    assert_equal(open_features(extractor(), tmp_path, PLENTY), extractor())
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["image.bin", "sound.1.mlp.bin", "index.json"])
@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-5]), Path.unlink])
def test_a_damaged_cache_is_made_again(tmp_path, name: str, damage) -> None:
    open_features(extractor(), tmp_path, PLENTY)
    (target,) = tmp_path.iterdir()
    damage(target / name)
    assert_equal(open_features(extractor(), tmp_path, PLENTY), extractor())


def test_beyond_the_limit_states_are_computed(tmp_path, caplog) -> None:
    states = extractor()
    size = sum(array.nbytes for array in states.row(0).values()) * len(states)
    with caplog.at_level(logging.WARNING):
        assert open_features(states, tmp_path, size - 1) is states
    assert "float16" in caplog.text
    assert open_features(states, tmp_path, 0) is states
    assert isinstance(open_features(states, tmp_path, size), CachedFeatures)


def test_a_full_disk_costs_time_only(tmp_path, caplog) -> None:
    states = extractor()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert open_features(states, tmp_path, PLENTY) is states
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "could not be written" in caplog.text
    assert list(tmp_path.iterdir()) == []
