import wave
from fractions import Fraction

import av
import numpy as np
import pytest

from helpers.media_files import gray_steps, make_video, make_wav, noise, tone
from moca_avs.errors import MediaError, UsageError
from moca_avs.io.audio import (
    LOWEST,
    AudioTrack,
    AudioWindows,
    block_levels,
    noise_floor,
    read_audio,
    resample,
    survey,
    write_audio,
)
from moca_avs.io.write_video import write_video


@pytest.mark.parametrize("ending", [".wav", ".flac"])
def test_what_is_written_is_read_to_the_bit(tmp_path, ending):
    values = np.concatenate(
        [[-32768, 32767, 0, 1, -1], np.random.default_rng(0).integers(-9999, 9999, 30000)]
    )
    sound = (values / 32768).astype(np.float32)
    found, rate = read_audio(write_audio(tmp_path / f"deep/er/a{ending}", sound, 44100))
    assert rate == 44100
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, sound)


def test_a_wav_is_what_others_read(tmp_path):
    sound = np.array([0.0, 0.5, -0.5, 2.0, -2.0, 0.25], np.float32)
    with wave.open(str(write_audio(tmp_path / "a.wav", sound, 8000))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
        found = np.frombuffer(file.readframes(10), "<i2")
    np.testing.assert_array_equal(found, [0, 16384, -16384, 32767, -32768, 8192])


def test_an_empty_sound_can_be_written(tmp_path):
    assert write_audio(tmp_path / "a.wav", np.zeros(0, np.float32), 8000).stat().st_size > 0


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_every_sample_format_has_full_scale_one(tmp_path, codec):
    square = np.where(np.arange(2000) // 50 % 2, 0.75, -0.75)[None]
    scaled = {
        "pcm_u8": ("u8", np.round(128 + 128 * square).astype(np.uint8)),
        "pcm_s16le": ("s16", np.round(32768 * square).astype(np.int16)),
        "pcm_s24le": ("s32", np.round(2.0**31 * square).astype(np.int32)),
        "pcm_s32le": ("s32", np.round(2.0**31 * square).astype(np.int32)),
        "pcm_f32le": ("flt", square.astype(np.float32)),
        "pcm_f64le": ("dbl", square),
    }
    form, samples = scaled[codec]
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream(codec, rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, form, "mono")
        frame.sample_rate = 8000
        container.mux([*stream.encode(frame), *stream.encode()])
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav")[0], square[0], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_channels_are_averaged(tmp_path, channels):
    planes = noise(0.3, channels=channels)
    found, _ = read_audio(make_wav(tmp_path / "a.wav", planes))
    np.testing.assert_allclose(found, planes.mean(0), atol=1e-6)


def test_eight_planes(tmp_path):
    path = write_video(tmp_path / "a.mp4", gray_steps(10), np.arange(10) / 10, tone(1.0, channels=8), 22050)
    with av.open(str(path)) as container:
        frame = next(container.decode(audio=0))
        assert (frame.format.is_planar, frame.layout.nb_channels) == (True, 8)
    np.testing.assert_allclose(read_audio(path)[0][2000:20000], tone(1.0)[0][2000:20000], atol=0.1)


def test_loud_float_samples_are_clipped(tmp_path):
    found, _ = read_audio(make_wav(tmp_path / "a.wav", [[0.5, 3.0, -2.0]]))
    np.testing.assert_array_equal(found, np.float32([0.5, 1.0, -1.0]))


def test_a_gap_in_the_stamps_is_filled_with_zeros(tmp_path):
    with av.open(str(tmp_path / "gap.mkv"), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=8000, layout="mono")
        for second in (0, 1, 4):
            frame = av.AudioFrame.from_ndarray(noise(1.0, rate=8000, seed=second), "flt", "mono")
            frame.sample_rate, frame.time_base, frame.pts = 8000, Fraction(1, 8000), 8000 * second
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found, _ = read_audio(tmp_path / "gap.mkv")
    expected = np.concatenate([noise(1.0, rate=8000, seed=s)[0] * (s in (0, 1, 4)) for s in range(5)])
    np.testing.assert_array_equal(found, expected)
    with AudioTrack(tmp_path / "gap.mkv") as track:
        assert sum(planes.shape[1] for _, planes in track.blocks()) == 24000


@pytest.mark.parametrize("seconds", [0.01, 0.07, 3.0, 30.51])
def test_the_survey_measures_what_a_whole_look_measures(tmp_path, seconds):
    sound = noise(seconds, channels=2) * np.linspace(0.01, 1, round(seconds * 22050), dtype=np.float32)
    path = make_wav(tmp_path / "a.wav", sound)
    found = survey(path)
    assert found.rate == 22050
    assert found.seconds == pytest.approx(seconds, abs=1e-4)
    assert found.noise_floor == pytest.approx(noise_floor(block_levels(read_audio(path)[0], 22050)), abs=1e-9)


def test_a_rate_and_channels_that_change_on_the_way(tmp_path):
    first = make_video(tmp_path / "a.aac", None, sound=tone(2.0, rate=44100), rate=44100, form="adts")
    second = make_video(tmp_path / "b.aac", None, sound=tone(2.0, channels=2), form="adts")
    joined = tmp_path / "c.aac"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    found, rate = read_audio(joined)
    assert rate == 44100
    assert found.size / rate == pytest.approx(4.0, abs=0.15)
    spectrum = np.abs(np.fft.rfft(found[-44100:] * np.hanning(44100)))
    assert abs(int(spectrum.argmax()) - 440) <= 1


def test_the_survey_sees_that_a_file_has_changed(tmp_path):
    path = make_wav(tmp_path / "a.wav", noise(1.0))
    assert survey(path).noise_floor > -20
    make_wav(path, np.zeros((1, 4000)))
    assert survey(path).noise_floor == LOWEST


def test_windows_are_stretches_of_the_whole(tmp_path):
    path = make_video(tmp_path / "a.mkv", None, sound=noise(5.0), sound_codec="pcm_f32le")
    whole, rate = read_audio(path)
    windows = AudioWindows(path)
    for low, high in [(-1.0, 0.5), (0.25, 2.0), (0.3, 1.0), (3.9, 4.1), (4.5, 9.0), (6.0, 7.0)]:
        sound, start = windows.between(low, high)
        np.testing.assert_array_equal(sound, whole[max(round(low * rate), 0) : round(high * rate)])
        assert start == max(round(low * rate), 0) / rate
    windows.close()


def test_resampling_keeps_a_tone(tmp_path):
    found = resample(tone(1.0, rate=44100, hertz=1000)[0], 44100, 22050)
    expected = tone(1.0, rate=22050, hertz=1000)[0]
    assert found.dtype == np.float32
    assert found.size == expected.size
    np.testing.assert_allclose(found[500:-500], expected[500:-500], atol=1e-4)
    # A tone that the new rate can't hold is gone, not folded back.
    assert np.abs(resample(tone(1.0, rate=44100, hertz=15000)[0], 44100, 22050)[500:-500]).max() < 1e-4


def test_resampling_nothing():
    sound = np.zeros(0, np.float32)
    assert resample(sound, 8000, 16000).size == 0
    assert resample(sound, 8000, 8000) is sound
    with pytest.raises(UsageError, match="positive"):
        resample(sound, 0, 8000)


def test_what_cannot_be_written(tmp_path):
    sound = noise(0.1)[0]
    with pytest.raises(MediaError, match="must end in"):
        write_audio(tmp_path / "a.ogg", sound, 8000)
    with pytest.raises(MediaError, match="finite mono"):
        write_audio(tmp_path / "a.wav", sound[None], 8000)
    with pytest.raises(MediaError, match="finite mono"):
        write_audio(tmp_path / "a.wav", sound * np.float32(np.nan), 8000)
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="can't be written"):
        write_audio(tmp_path / "file/a.wav", sound, 8000)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_video_without_sound(tmp_path):
    with pytest.raises(MediaError, match="has no sound"):
        read_audio(make_video(tmp_path / "mute.mp4", gray_steps(3)))
