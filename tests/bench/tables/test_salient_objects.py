"""The saliency row: what stands out, whatever is heard."""

import numpy as np
import pytest

from moca_avs.clip import Clip
from moca_avs.errors import UsageError
from moca_avs_bench.tables.systems import Saliency


class Network:
    """As U2-Netp answers: 320 x 320, here high on the right half, .4 below on the left."""

    settings = {"weights": "hash"}  # noqa: RUF012

    def __init__(self):
        self.asked = 0

    def saliency(self, frame):
        self.asked += 1
        salient = np.full((320, 320), 0.0, np.float32)
        salient[160:, :160] = 0.4
        salient[:, 160:] = frame.max() / 255
        return salient


def clip(*values, sound=0.0):
    frames = np.stack([np.full((20, 30, 3), value, np.uint8) for value in values])
    return Clip(frames, np.arange(float(len(values))), np.full(800, sound, np.float32), 400)


def test_the_mask_is_the_map_above_one_half_and_sound_does_not_matter():
    network = Network()
    said = Saliency(network)(clip(255, 10, 255))
    right = np.zeros((20, 30), bool)
    right[:, 15:] = True
    assert np.array_equal(said.masks[0], right)
    assert not said.masks[1].any()
    assert said.reasons == ("", "nothing salient", "")
    assert said.scores == pytest.approx([1, 0, 1], abs=0.05)
    assert said.heatmaps.shape == (3, 80, 80)
    assert said.heatmaps[0, :, 40:].min() == 1
    assert network.asked == 2  # a frame seen before is remembered
    loud = Saliency(Network())(clip(255, 10, 255, sound=0.5))
    assert np.array_equal(loud.masks, said.masks)
    lower = Saliency(Network(), threshold=0.3)(clip(255))
    assert lower.masks[0, 15, 5]


def test_a_threshold_outside_of_its_range_is_refused():
    with pytest.raises(UsageError, match=r"0\.\.1"):
        Saliency(Network(), threshold=1.5)


@pytest.mark.weights
def test_a_bright_disk_stands_out():
    yy, xx = np.mgrid[:120, :160]
    disk = (yy - 60) ** 2 + (xx - 80) ** 2 < 35**2
    frame = np.where(disk[..., None], (230, 60, 40), (40, 60, 50)).astype(np.uint8)
    said = Saliency()(Clip(frame[None], np.zeros(1), np.zeros(0, np.float32), 16_000))
    assert (said.masks[0] & disk).sum() / (said.masks[0] | disk).sum() > 0.8
    assert len(said.settings["weights"]) == 64
