"""`lite` with its real weights: the same heat and masks whatever the batch, the chunks, the file."""

import numpy as np
import pytest
from PIL import Image

import moca_avs
from helpers.media_files import bark, images, make_video, make_wav, smooth
from helpers.raw_videos import make_raw_video
from moca_avs.clip import Segmentation
from moca_avs.io.video import clip_from_pair, read_clip, stream_clips, stream_pair

pytestmark = pytest.mark.weights

RATE = 16000
FIELDS = ("masks", "heatmaps", "scores", "times")


def joined(parts):
    return Segmentation(
        *(np.concatenate([getattr(part, field) for part in parts]) for field in FIELDS[:3]),
        sum((part.reasons for part in parts), ()),
        np.concatenate([part.times for part in parts]),
    )


def lite(batch=8):
    return moca_avs.load("lite", device="cpu", batch=batch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("same")


@pytest.mark.parametrize(("batch", "chunk"), [(1, 1), (2, 3), (3, 16)])
def test_masks_depend_neither_on_the_batch_nor_on_the_chunks(folder, batch, chunk):
    path = folder / "moving.mkv"
    if not path.exists():
        frames = images(50, 60, 80)
        frames[:, 40:] = np.random.default_rng(0).integers(0, 255, (20, 80, 3))
        make_video(path, frames, bark(5, RATE), RATE, fps=10, codec="ffv1", sound_codec="pcm_s16le")
    whole = lite()(read_clip(path, 1.0, margin=5.0, phase=0.5))
    method = lite(batch)
    parts = [method(part) for part in stream_clips(path, 1.0, chunk, 5.0, phase=0.5, context=1)]
    found = joined(parts)
    assert found.reasons == whole.reasons
    assert whole.masks.any()
    for field in FIELDS:
        assert np.array_equal(getattr(found, field), getattr(whole, field)), field


@pytest.fixture(scope="module")
def still(folder):
    """A picture as PNG, and its heat beside a sound of three seconds."""
    image = smooth(60, 80)
    image[10:40, 20:50] = np.random.default_rng(0).integers(0, 255, (30, 30, 3))
    Image.fromarray(image).save(folder / "a.png")
    make_wav(folder / "a.wav", bark(3, RATE), RATE)
    return image, lite()(clip_from_pair(folder / "a.png", folder / "a.wav"))


@pytest.mark.parametrize("form", ["ffv1", "gbrp10le", "png"])
def test_a_picture_gives_the_same_heat_as_image_and_as_lossless_video(folder, still, form):
    image, expected = still
    if form == "gbrp10le":
        planes = [image[..., channel].astype(np.uint16) * 4 for channel in (1, 2, 0)]
        path = make_raw_video(folder / "a10.mkv", [planes] * 30, form)
    else:
        ending = ".mov" if form == "png" else ".mkv"
        path = make_video(folder / f"{form}{ending}", np.repeat(image[None], 30, 0), codec=form)
    clip = read_clip(path, sound=folder / "a.wav")
    assert (clip.frames == image).all()
    found = lite()(clip)
    assert found.reasons == expected.reasons
    assert found.times.tolist() == expected.times.tolist()
    assert np.abs(found.heatmaps.astype(float) - expected.heatmaps).max() <= 1e-3
    assert (found.masks != expected.masks).mean() < 1e-3


def test_a_still_does_not_depend_on_the_chunks(folder, still):
    _, expected = still
    method = lite()
    parts = stream_pair(folder / "a.png", folder / "a.wav", 1.0, 2, 5.0, context=1)
    found = joined([method(part) for part in parts])
    for field in FIELDS:
        assert np.array_equal(getattr(found, field), getattr(expected, field)), field
