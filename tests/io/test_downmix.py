"""Several channels to one: by BS.775 where positions are known, and nothing that is heard is lost."""

import itertools

import numpy as np
import pytest

from helpers.media_files import gray_steps, make_video, make_wav, noise, tone
from moca_avs.io.audio import AudioWindows, block_levels, level, noise_floor, read_audio, survey
from moca_avs.io.downmix import file_weights, mono, position_weights
from moca_avs.io.video import read_clip, stream_clips

FIVE_ONE = ("FL", "FR", "FC", "LFE", "BL", "BR")


def known(path, planes, layout, rate=22050):
    """A file that tells where its channels are; 16 bits."""
    return make_video(path, None, planes, rate, sound_codec="pcm_s16le", layout=layout, form="mov")


def alone(index, count, wave):
    planes = np.zeros((count, wave.shape[-1]), np.float32)
    planes[index] = wave
    return planes


def chosen(planes, positions=()):
    weights = position_weights(positions)
    found = file_weights(planes.astype(np.float64) @ planes.T / planes.shape[1], weights)
    return None if found is None else found.tolist()


def test_weights_are_those_of_the_recommendation():
    for sides in ("BL", "BR"), ("SL", "SR"):
        found = position_weights((*FIVE_ONE[:4], *sides))
        np.testing.assert_allclose(found, [0.7071, 0.7071, 1, 0, 0.5, 0.5], atol=1e-4)
    np.testing.assert_allclose(
        position_weights(("FL", "FR", "FC", "BC")), [0.7071, 0.7071, 1, 0.7071], atol=1e-4
    )
    assert position_weights(("FL", "FR", "LFE")).tolist() == [0.5, 0.5, 0]
    for plain in (("FC",), ("FL", "FR"), ("NONE",) * 6, ("FL", "FR", "AMBI0")):
        assert position_weights(plain) is None


@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_one_and_two_channels_are_averaged_to_the_bit(tmp_path, layout):
    planes = np.round(noise(0.5, channels=len(("mono", "stereo")[: 1 + (layout == "stereo")])) * 32767)
    path = known(tmp_path / "a.mov", planes / np.float32(32767), layout)
    found, _ = read_audio(path)
    np.testing.assert_array_equal(found, (planes.astype(np.float32) / 32768).mean(0, dtype=np.float32))
    assert survey(path).weights is None


@pytest.mark.parametrize("layout", [None, "5.1", "5.1(side)"])
def test_what_is_only_in_the_center_is_as_loud_as_in_a_mono_file(tmp_path, layout):
    planes = alone(2, 6, tone(1.0)[0] * np.float32(0.1))
    path = (
        make_wav(tmp_path / "a.wav", planes) if layout is None else known(tmp_path / "a.mov", planes, layout)
    )
    found, _ = read_audio(path)
    np.testing.assert_allclose(found, planes[2], atol=1e-4)


@pytest.mark.parametrize("index", range(6))
def test_each_channel_of_five_one_is_heard_alone(tmp_path, index):
    wave = tone(1.0)[0]
    found, _ = read_audio(known(tmp_path / "a.mov", alone(index, 6, wave), "5.1"))
    expected = [0.7071, 0.7071, 1, 1, 0.5, 0.5][index]  # the low-frequency channel where it is all there is
    np.testing.assert_allclose(found, expected * wave, atol=1e-4)


def test_the_low_frequency_channel_is_left_out_beside_others(tmp_path):
    planes = alone(2, 6, tone(1.0)[0]) + alone(3, 6, tone(1.0, hertz=50)[0])
    np.testing.assert_allclose(read_audio(known(tmp_path / "a.mov", planes, "5.1"))[0], planes[2], atol=1e-4)


@pytest.mark.parametrize("layout", ["5.1", "7.1", "quad", "3.1"])
def test_what_all_channels_have_alike_keeps_its_level_and_is_not_clipped(tmp_path, layout):
    count = {"5.1": 6, "7.1": 8, "quad": 4, "3.1": 4}[layout]
    wave = tone(1.0)[0] * np.float32(1.9)
    path = known(tmp_path / "a.mov", np.repeat(wave[None], count, 0), layout)
    np.testing.assert_allclose(read_audio(path)[0], wave, atol=2e-3)
    assert survey(path).loudest == pytest.approx(block_levels(wave, 22050).max(), abs=0.05)


def test_channels_that_peak_together_are_not_clipped(tmp_path):
    planes = alone(2, 6, tone(1.0)[0])
    planes[:, 15000] = 0.9  # one moment at which they add up to three times full scale
    found, _ = read_audio(known(tmp_path / "a.mov", planes, "5.1"))
    together = 0.9 * (2 + 2 * 0.5**0.5)
    assert found[15000] == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(found[:15000], planes[2, :15000] / together, atol=1e-4)


@pytest.mark.parametrize("layout", [None, "stereo"])
def test_anti_phase_gives_the_one_channel_exactly(tmp_path, layout):
    wave = tone(1.0)[0]
    planes = np.stack([wave, -wave])
    path = (
        make_wav(tmp_path / "a.wav", planes) if layout is None else known(tmp_path / "a.mov", planes, layout)
    )
    found, _ = read_audio(path)
    np.testing.assert_allclose(found, wave, atol=4e-5)
    assert survey(path).noise_floor == pytest.approx(noise_floor(block_levels(found, 22050)), abs=1e-6)


def test_a_clip_and_its_chunks_hear_what_is_read_whole(tmp_path):
    wave = noise(6.0)[0]
    path = make_video(
        tmp_path / "a.mkv",
        gray_steps(60),
        np.stack([wave, -0.8 * wave]),
        sound_codec="pcm_f32le",
        layout="stereo",
    )
    whole, rate = read_audio(path)
    np.testing.assert_allclose(whole, 0.9 * wave, atol=1e-6)
    np.testing.assert_array_equal(read_clip(path).sound, whole)
    for clip in stream_clips(path, chunk_frames=1, margin=0.5):
        start = round(clip.sound_start * rate)
        np.testing.assert_array_equal(clip.sound, whole[start : start + len(clip.sound)])
    windows = AudioWindows(path)
    np.testing.assert_array_equal(windows.between(1.0, 2.0)[0], whole[rate : 2 * rate])
    windows.close()


def test_nothing_common_is_averaged_and_nothing_is_lost():
    """Against the definition: at most 6 dB below the mean power, and as given where that costs nothing."""
    for count in (2, 3, 6, 8):
        assert chosen(noise(1.0, channels=count)) is None
    wave = tone(1.0)[0]
    assert chosen(np.stack([wave, 0 * wave])) is None  # one of two: 3 dB
    for count, index in itertools.product((4, 6, 8), (0, 3)):
        assert chosen(alone(index, count, wave)) == np.eye(count)[index].tolist()
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = rng.integers(2, 9)
        mixing = rng.normal(size=(count, rng.integers(1, 3))) * rng.uniform(0, 1, (count, 1)) ** 3
        planes = mixing @ rng.normal(size=(mixing.shape[1], 500))
        weights = chosen(planes)
        mixed = planes.mean(0) if weights is None else np.array(weights) @ planes
        sounding = (planes**2).mean(1)
        assert (mixed**2).mean() >= 10**-1.2 * sounding.max() * (1 - 1e-9)


def test_two_of_eight_microphones_are_averaged():
    planes = np.zeros((8, 22050), np.float32)
    planes[[1, 6]] = noise(1.0, channels=2)
    assert chosen(planes) == [0, 0.5, 0, 0, 0, 0, 0.5, 0]


def test_three_phases_do_not_cancel():
    angles = np.arange(22050) / 50
    planes = np.stack([np.cos(angles + k * 2 * np.pi / 3) for k in range(3)]).astype(np.float32)
    mixed = mono(planes, np.array(chosen(planes)))
    assert level(mixed) > level(planes[0]) - 6


def test_silence_stays_silence():
    assert chosen(np.zeros((6, 100), np.float32), FIVE_ONE) == position_weights(FIVE_ONE).tolist()


def joined(path, *sounds):
    """AAC whose channels change on the way."""
    parts = [
        make_video(path.with_name(f"{index}.aac"), None, sound, layout=layout, form="adts").read_bytes()
        for index, (sound, layout) in enumerate(sounds)
    ]
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("count", [1, 2])
def test_channels_that_change_on_the_way_keep_their_level(tmp_path, count):
    wave = tone(2.0)[0]
    stereo_or_mono = np.repeat(wave[None], count, 0)
    path = joined(
        tmp_path / "a.aac", (alone(2, 6, wave), "5.1"), (stereo_or_mono, {1: "mono", 2: "stereo"}[count])
    )
    sound, rate = read_audio(path)
    assert len(sound) / rate == pytest.approx(4.0, abs=0.2)
    assert level(sound[rate // 2 : rate]) == pytest.approx(level(wave), abs=0.2)
    assert level(sound[-rate : -rate // 2]) == pytest.approx(level(wave), abs=0.2)
