"""A SoundFont written here, whose only sample is a sine wave: pitch, loop and release can be known."""

import struct

import numpy as np
import pytest

from helpers.archive_files import LOOPED, PERIOD, PERIODS, chunk, write_font
from moca_avs.errors import DataError
from moca_avs_bench.stamps.soundfont import FONT_RATE, PHRASE_SECONDS, SoundFont, phrase


def hertz(tone):
    """Frequency of a sine, from its zero crossings."""
    crossings = np.flatnonzero((tone[:-1] < 0) & (tone[1:] >= 0))
    return (len(crossings) - 1) / (crossings[-1] - crossings[0]) * FONT_RATE


@pytest.mark.parametrize("key", [57, 69, 70, 81])
def test_a_key_has_its_pitch_however_long_it_is_held(tmp_path, key):
    font = SoundFont(write_font(tmp_path / "a.sf2"))
    tone = font.note(0, 24, key, 127, 1.0)
    assert tone.size >= FONT_RATE  # the sample has 45 ms: it was looped
    assert hertz(tone[2000:FONT_RATE]) == pytest.approx(441 * 2 ** ((key - 69) / 12), rel=2e-3)
    assert np.abs(tone).max() == pytest.approx(20000 / 32768, rel=0.02)


def test_without_a_loop_the_sample_ends(tmp_path):
    font = SoundFont(write_font(tmp_path / "a.sf2", generators=()))
    assert font.note(0, 24, 69, 127, 1.0).size == pytest.approx(PERIOD * PERIODS, abs=2)


def test_a_soft_key_is_softer_and_an_attenuated_zone_by_its_decibels(tmp_path):
    font = SoundFont(write_font(tmp_path / "a.sf2"))
    loud, soft = (np.abs(font.note(0, 24, 69, v, 0.5)).max() for v in (127, 64))
    assert soft / loud == pytest.approx((64 / 127) ** 2, rel=0.01)
    damped = SoundFont(
        write_font(tmp_path / "b.sf2", generators=(LOOPED, (48, struct.pack("<h", 500))))
    )  # 50 dB by the letter; 20 dB by the .4 that every synthesizer applies
    ratio = np.abs(damped.note(0, 24, 69, 127, 0.5)).max() / loud
    assert 20 * np.log10(ratio) == pytest.approx(-20, abs=0.3)


def test_a_tone_dies_away_after_its_release(tmp_path):
    release = (38, struct.pack("<h", round(1200 * np.log2(0.5))))  # 100 dB in half a second
    tone = SoundFont(write_font(tmp_path / "a.sf2", generators=(LOOPED, release))).note(0, 24, 69, 127, 0.5)
    before, after = (np.abs(tone[i : i + 441]).max() for i in (FONT_RATE // 2 - 450, FONT_RATE * 3 // 4))
    assert 20 * np.log10(after / before) == pytest.approx(-50, abs=2)


def test_keys_play_the_zones_they_lie_in(tmp_path):
    font = SoundFont(write_font(tmp_path / "a.sf2", ranges=((0, 60), (61, 80))))
    assert font.note(0, 24, 61, 100, 0.1).any()
    with pytest.raises(DataError, match="key 90"):
        font.note(0, 24, 90, 100, 0.1)
    with pytest.raises(DataError, match="no preset 25"):
        font.note(0, 25, 60, 100, 0.1)


def test_phrases_are_drawn_from_their_names(tmp_path):
    font = write_font(tmp_path / "a.sf2")
    first, again, other = (phrase(font, name) for name in ("24/0", "24/0", "24/1"))
    assert first.size == round(PHRASE_SECONDS * FONT_RATE)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.abs(first[: FONT_RATE * 8].reshape(8, -1)).max(axis=1).min() > 0.01  # it plays all the time
    drums = write_font(tmp_path / "d.sf2", bank=128, preset=0)
    assert phrase(drums, "drum-38/0").any()
    assert phrase(drums, "kit-0/0").any()


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "a.sf2"
    path.write_bytes(chunk(b"RIFF", b"WAVE" + chunk(b"data", bytes(100))))
    with pytest.raises(DataError, match="SoundFont"):
        SoundFont(path)
