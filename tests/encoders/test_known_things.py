"""The two networks name images and sounds that everybody knows (ImageNet's and Places' class indices)."""

import numpy as np
import pytest
import torch
from PIL import Image

from moca_avs.encoders.lite import LiteEncoder
from moca_avs.hub.debian import unpacked
from moca_avs.hub.pypi import package_file
from moca_avs.io.audio import read_audio

ANIMALS = "usr/share/tuxpaint/stamps/animals"
IMAGES = {
    f"{ANIMALS}/mammals/equines/zebra.png": 340,
    f"{ANIMALS}/mammals/cats/lion.png": 291,
    f"{ANIMALS}/mammals/cats/tiger.png": 292,
    f"{ANIMALS}/mammals/elephant.png": 386,
    f"{ANIMALS}/birds/penguin.png": 145,
    f"{ANIMALS}/birds/gander.png": 99,
    "usr/share/tuxpaint/stamps/hobbies/music/string/violin.png": 889,
}
pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def lite():
    return LiteEncoder(image_size=224, binding=None, trunk="soundnet")


def on_gray(path):
    """A cut-out in the middle of a gray square."""
    cutout = Image.open(path).convert("RGBA")
    side = round(max(cutout.size) * 1.15)
    ground = Image.new("RGBA", (side, side), (128, 128, 128, 255))
    ground.alpha_composite(cutout, ((side - cutout.width) // 2, (side - cutout.height) // 2))
    return np.asarray(ground.convert("RGB"))


@pytest.mark.stamps
def test_the_classifier_names_known_images(lite):
    root = unpacked("tuxpaint-stamps-default")
    named = {}
    for path, truth in IMAGES.items():
        best = lite.class_logits(lite.prepare_images(on_gray(root / path)[None])).argmax()
        named[path] = int(best) == truth
    assert all(named.values()), named


@pytest.mark.stamps
@torch.no_grad()
def test_the_joint_map_finds_the_zebra(lite):
    """Zebra left of nothing: the zebra logit is higher on its half of the image."""
    path = unpacked("tuxpaint-stamps-default") / f"{ANIMALS}/mammals/equines/zebra.png"
    zebra = on_gray(path)
    scene = np.concatenate([zebra, np.full_like(zebra, 128)], 1)
    state = lite.image_stem(lite.prepare_images(scene[None]))
    for index in range(lite.image_blocks):
        state = lite.image_block(index, state)
    heat = lite.joint_features(state)[0, 340]
    assert heat[:, :3].mean() > heat[:, 4:].mean() + 3


def heard(lite, sound, rate):
    """(three best ImageNet classes, three best Places classes)."""
    _, objects, sources = lite.trunk.network(lite.prepare_audio(sound, rate)[None])
    return [logits[0, :, 0].topk(3).indices.tolist() for logits in (objects, sources)]


def test_soundnet_hears_a_stage_and_a_music_studio_in_a_bands_video(lite):
    sound, rate = read_audio(package_file("band-film"))
    for start in (20, 40):
        objects, sources = heard(lite, sound[start * rate : (start + 12) * rate], rate)
        assert objects[0] == 819  # stage
        assert sources[0] == 257  # music studio


@pytest.mark.stamps
@pytest.mark.parametrize(
    ("name", "objects_truth", "place_truth"),
    [
        ("vehicles/ship/cartoon/bathyscape.ogg", 983, 373),  # scuba diver, underwater coral reef
        ("animals/birds/drake.ogg", 975, 291),  # lakeside, pond
    ],
)
def test_soundnet_names_known_sounds(lite, name, objects_truth, place_truth):
    sound, rate = read_audio(unpacked("tuxpaint-stamps-default") / "usr/share/tuxpaint/stamps" / name)
    objects, sources = heard(lite, sound, rate)
    assert objects_truth in objects
    assert place_truth in sources
