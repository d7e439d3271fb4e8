"""`moca segment --audio-track`: the chosen track decides, and the result says so only where it was given."""

import json

import numpy as np
import pytest

from helpers.media_files import strongest, tone
from helpers.sound_files import RATE, write_stamped
from moca_avs import Segmentation
from moca_avs.io.audio import read_audio
from moca_avs.io.open import collect_warnings

pytestmark = pytest.mark.weights

QUICK = ("--method", "frozen", "--device", "cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    silent, hum = ((tone(2.0, RATE, hertz)[0], lambda time: time) for hertz in (0, 500))
    return write_stamped(tmp_path_factory.mktemp("tracks") / "two.mkv", np.arange(20) / 10, silent, hum)


def test_the_other_track_is_heard(moca, source, tmp_path):
    done = moca("segment", source, "-o", tmp_path / "plain", *QUICK)
    assert done.code == 0
    assert "2 silent" in done.out
    assert "sound track 0 is silent, track 1 is not; --audio-track 1" in done.err
    assert (
        "audio_track" not in json.loads((tmp_path / "plain/two/result.json").read_text())["settings"]["input"]
    )
    done = moca("segment", source, "-o", tmp_path / "other", *QUICK, "--audio-track", "1")
    assert done.code == 0
    assert "silent" not in done.out + done.err
    found = Segmentation.load(tmp_path / "other/two")
    assert found.settings["input"]["audio_track"] == 1
    sound, rate = read_audio(tmp_path / "other/two/overlay.mp4")
    assert strongest(sound, rate) == 500
    with collect_warnings([]):
        found.save(tmp_path / "again", overlay=True)
    sound, rate = read_audio(tmp_path / "again/overlay.mp4")
    assert strongest(sound, rate) == 500


def test_a_track_that_is_not_there_is_told(moca, source, tmp_path):
    done = moca("segment", source, "-o", tmp_path, *QUICK, "--audio-track", "5")
    assert done.code == 1
    assert "two.mkv has no sound track 5; it has 2 (0, 1)" in done.err
