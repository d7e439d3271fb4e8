"""One of several sound tracks: chosen, noted where another is heard, passed over where it is not known."""

import numpy as np
import pytest

from helpers.media_files import gray_steps, make_image, make_video, quadrants, strongest, tone
from helpers.sound_files import RATE, write_stamped
from moca_avs.errors import MediaError, UsageError
from moca_avs.inference.job import SegmentOptions
from moca_avs.io.audio import AudioWindows, read_audio, survey
from moca_avs.io.open import collect_warnings
from moca_avs.io.overlay import OverlayWriter
from moca_avs.io.sound_track import AudioTrack, NoAudioError
from moca_avs.io.video import clip_from_pair, read_clip, stream_clips, stream_pair

FRAMES = np.arange(20) / 10
HERTZ = (0, 500, 900)


def as_it_ought_to(time):
    return time


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Track 0 is silent, 1 and 2 hum."""
    tracks = [(tone(2.0, RATE, hertz)[0], as_it_ought_to) for hertz in HERTZ]
    return write_stamped(tmp_path_factory.mktemp("tracks") / "three.mkv", FRAMES, *tracks, codec="flac")


def unknown(path, *numbers, of=b"A_PCM/INT/LIT", to=b"A_NOBODY/KNOW"):
    """Give the codecs of sound tracks a name that FFmpeg doesn't know."""
    data = path.read_bytes()
    places = [i for i in range(len(data)) if data.startswith(of, i)]
    for number in numbers:
        data = data[: places[number]] + to + data[places[number] + len(of) :]
    path.with_name("unknown.mkv").write_bytes(data)
    return path.with_name("unknown.mkv")


@pytest.mark.parametrize("number", [1, 2])
def test_the_chosen_track_is_heard_everywhere(three, tmp_path, number):
    make_image(tmp_path / "a.png", quadrants())
    windows = AudioWindows(three, number)
    chunks = list(stream_clips(three, chunk_frames=1, audio_track=number))
    sounds = [
        read_audio(three, number)[0],
        read_clip(three, audio_track=number).sound,
        read_clip(three, sound=three, audio_track=number).sound,
        chunks[0].sound,
        windows.between(0.0, 2.0)[0],
        clip_from_pair(tmp_path / "a.png", three, audio_track=number).sound,
        next(stream_pair(tmp_path / "a.png", three, audio_track=number)).sound,
    ]
    windows.close()
    assert [strongest(sound, RATE) for sound in sounds] == [HERTZ[number]] * len(sounds)
    assert survey(three, number).loudest == pytest.approx(-9.03, abs=0.1)
    assert chunks[0].loudest == survey(three, number).loudest


@pytest.mark.parametrize("codec", ["flac", "pcm_s16le"])
def test_the_overlay_has_the_chosen_track(tmp_path, codec):
    tracks = [(tone(2.0, RATE, hertz)[0], as_it_ought_to) for hertz in HERTZ]
    source = write_stamped(tmp_path / "a.mkv", FRAMES, *tracks, codec=codec)
    with OverlayWriter(tmp_path / "o.mp4", source, audio_track=2) as overlay:
        overlay.add(0.0, np.ones((32, 48), bool))
    sound, rate = read_audio(tmp_path / "o.mp4")
    assert strongest(sound, rate) == 900


def test_a_silent_track_beside_one_that_is_not_is_noted(three):
    notes = []
    with collect_warnings(notes):
        assert not read_clip(three).sound.any()
        read_clip(three)  # also where it is known from before
    assert notes == [
        f"{three}: sound track 0 is silent, track 1 is not; --audio-track 1 (audio_track=1) hears it"
    ]
    notes.clear()
    with collect_warnings(notes):
        read_clip(three, audio_track=2)
    assert notes == []


def test_nothing_is_noted_where_all_are_silent(tmp_path):
    quiet = (np.zeros(RATE, np.float32), as_it_ought_to)
    notes = []
    with collect_warnings(notes):
        read_clip(write_stamped(tmp_path / "a.mkv", FRAMES, quiet, quiet))
    assert notes == []


def test_a_track_that_is_not_there(three, tmp_path):
    for read in (read_audio, survey, AudioTrack, AudioWindows):
        with pytest.raises(MediaError, match=r"three\.mkv has no sound track 3; it has 3 \(0, 1, 2\)"):
            read(three, 3)
    with pytest.raises(MediaError, match="has no sound track 3"):
        read_clip(three, audio_track=3)
    mute = make_video(tmp_path / "mute.mkv", gray_steps(3))
    with pytest.raises(MediaError, match="has no sound track 0; it has none"):
        read_clip(mute, audio_track=0)
    for wrong in (lambda: read_clip(three, audio_track=-1), lambda: SegmentOptions(audio_track=-1)):
        with pytest.raises(UsageError, match="audio_track must be 0 or more"):
            wrong()


def test_a_track_whose_codec_nobody_knows_is_passed_over(tmp_path):
    tracks = [(tone(2.0, RATE, hertz)[0], as_it_ought_to) for hertz in (300, 500, 900)]
    source = write_stamped(tmp_path / "a.mkv", FRAMES, *tracks)
    path = unknown(source, 0)
    notes = []
    with collect_warnings(notes):
        assert strongest(read_clip(path).sound, RATE) == 500
    assert notes == [f"{path}: FFmpeg does not know the codec of sound track 0; left out"]
    with pytest.raises(MediaError, match="has a sound track 0 whose codec FFmpeg does not know"):
        read_clip(path, audio_track=0)
    path = unknown(source, 0, 1, 2)
    notes.clear()
    with collect_warnings(notes):
        assert read_clip(path).sound.size == 0
        with pytest.raises(NoAudioError):
            read_audio(path)
    assert notes == [f"{path}: FFmpeg does not know the codec of sound track 0, 1, 2; left out"]
