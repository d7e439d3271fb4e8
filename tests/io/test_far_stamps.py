"""Sound stamped far from the picture, before or after it, or jumping: read in the length of the picture."""

import av
import numpy as np
import pytest

from helpers.media_files import make_image, quadrants, tone
from helpers.sound_files import BLOCK, RATE, write_stamped
from moca_avs.io.audio import AudioTrack, read_audio, survey
from moca_avs.io.open import MediaWarning, collect_warnings
from moca_avs.io.overlay import OverlayWriter
from moca_avs.io.video import clip_from_pair, read_clip, stream_clips

FRAMES = np.arange(30) / 10
# Another tone in each packet.
SOUND = np.concatenate([tone(BLOCK, RATE, 300 + 40 * k)[0] for k in range(30)])


def written(path, stamp, frames=FRAMES, **options):
    """Three seconds of picture, and of a sound whose packets have these stamps."""
    return write_stamped(path, frames, (SOUND, stamp), **options)


def read(path):
    """(the clip, what was noted), and its chunks are as long."""
    notes = []
    with collect_warnings(notes):
        clip = read_clip(path)
        chunks = list(stream_clips(path, chunk_frames=1, margin=0.5))
    assert max(len(one.sound) for one in chunks) <= RATE * 1.1
    assert sum(len(one) for one in chunks) == len(clip)
    return clip, notes


@pytest.mark.parametrize("late", [70.0, 600.0, 36_000.0, 1_700_000_000.0])
@pytest.mark.parametrize(("form", "codec"), [("matroska", "pcm_s16le"), ("mpegts", "mp2")])
def test_a_sound_far_behind_its_picture_begins_with_it(tmp_path, late, form, codec):
    if form == "mpegts":
        late = min(late, 40_000.0)  # its stamps have 33 bits
    path = written(tmp_path / "late", lambda time: time + late, form=form, codec=codec)
    clip, notes = read(path)
    assert len(clip) in (3, 4)
    assert len(clip.sound) == pytest.approx(3 * RATE, abs=0.2 * RATE)
    assert np.abs(clip.sound).max() > 0.3
    assert [f"jump by {late:.0f} s" in note for note in notes] == [True]
    with collect_warnings([]):
        assert len(read_audio(path)[0]) == len(clip.sound)


def test_a_sound_that_begins_after_the_picture_is_left_out(tmp_path):
    clip, notes = read(written(tmp_path / "a.mkv", lambda time: time + 20))
    assert len(clip.sound) == 3 * RATE
    assert not clip.sound.any()
    assert len(notes) == 1
    assert "its sound begins at 20.0 s, its picture ends at 3.0 s" in notes[0]


def test_a_sound_that_begins_late_in_a_long_picture_is_in_its_place(tmp_path):
    path = written(tmp_path / "a.mkv", lambda time: time + 200, frames=np.arange(30) * 10.0)
    notes = []
    with collect_warnings(notes):
        clip = read_clip(path, fps=0.1)
    assert np.flatnonzero(clip.sound)[0] / RATE == pytest.approx(200, abs=0.01)
    assert notes == []


@pytest.mark.parametrize("form", ["matroska", "mov"])
def test_a_picture_far_behind_its_sound_is_where_time_begins(tmp_path, form):
    clip, notes = read(written(tmp_path / "a", lambda time: time, frames=600 + FRAMES, form=form))
    assert clip.times.tolist() == [0, 1, 2]
    assert clip.sound.size == 0
    assert len(notes) == 1
    assert "its sound ends before its picture begins" in notes[0]


@pytest.mark.parametrize("form", ["matroska", "mov"])
def test_a_sound_that_begins_long_before_the_picture_and_reaches_it(tmp_path, form):
    """The first image stands for the times before it, whatever their number."""
    sound = np.concatenate([tone(70.0, RATE)[0] * 0, SOUND])
    path = write_stamped(tmp_path / "a", 70 + FRAMES, (sound, lambda time: time), form=form)
    clip, notes = read(path)
    assert clip.times.tolist() == list(range(73))
    np.testing.assert_allclose(clip.sound, sound, atol=1e-4)
    assert notes == []


@pytest.mark.parametrize(("form", "codec"), [("matroska", "pcm_s16le"), ("mpegts", "mp2")])
@pytest.mark.parametrize("jump", [3600.0, 50_000.0])
def test_a_jump_in_mid_sound_is_cut(tmp_path, form, codec, jump):
    def stamp(time):
        return 1 + time + (jump if time > 1.4 else 0)

    options = {"frames": 1 + FRAMES, "form": form, "codec": codec}
    clip, notes = read(written(tmp_path / "a", stamp, **options))
    straight, _ = read(written(tmp_path / "b", lambda time: 1 + time, **options))
    assert len(clip.sound) == len(straight.sound)
    np.testing.assert_allclose(clip.sound, straight.sound, atol=2e-3)
    assert [f"jump by {jump:.0f} s" in note for note in notes] == [True]


def test_one_packet_far_away_does_not_move_the_others(tmp_path):
    """As damage makes it; muxers refuse to write such a file."""

    def damaged(frame):
        frame.pts += 5_000_000 if frame.pts == 1400 else 0  # milliseconds
        return frame

    path = written(tmp_path / "a.mkv", lambda time: time + 0.5 * (time > 1.95), frames=np.arange(40) / 10)
    with AudioTrack(path) as track:
        decoded, track._frames = track._frames, map(damaged, track._frames)
        found = np.concatenate([planes[0] for planes in track.continuous()])
        track._frames = decoded
    expected = np.concatenate([SOUND[: 2 * RATE], np.zeros(RATE // 2, np.float32), SOUND[2 * RATE :]])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert len(track.jumps) == 2


def test_a_pause_is_kept_where_the_picture_goes_on(tmp_path):
    path = written(tmp_path / "a.mkv", lambda time: time + 100 * (time > 1.45), frames=np.arange(30) * 4.0)
    clip = read_clip(path, fps=0.25)
    assert np.diff(np.flatnonzero(clip.sound)).max() / RATE == pytest.approx(100, abs=0.1)


def test_a_pause_in_a_sound_alone(tmp_path):
    path = write_stamped(tmp_path / "a.mka", None, (SOUND, lambda time: time + 3600 * (time > 1.45)))
    make_image(tmp_path / "a.png", quadrants())
    with pytest.warns(MediaWarning, match="jump by 3600 s"):
        np.testing.assert_allclose(read_audio(path)[0], SOUND, atol=1e-4)
    with pytest.warns(MediaWarning, match="jump by 3600 s"):
        assert len(clip_from_pair(tmp_path / "a.png", path)) == 3


@pytest.mark.parametrize("late", [20.0, 600.0])
@pytest.mark.parametrize("codec", ["pcm_s16le", "flac"])
def test_an_overlay_is_as_long_as_the_picture(tmp_path, late, codec):
    """Encoded, or copied where stamps are believed: with the sound that the method heard."""
    source = written(tmp_path / "a.mkv", lambda time: time + late, codec=codec)
    with collect_warnings([]), OverlayWriter(tmp_path / "o.mp4", source) as overlay:
        overlay.add(0.0, np.ones((32, 48), bool))
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert container.duration / av.time_base == pytest.approx(3.0, abs=0.3)
    if late == 600.0:
        sound, rate = read_audio(tmp_path / "o.mp4")
        assert len(sound) / rate == pytest.approx(3.0, abs=0.3)
        assert np.abs(sound).max() > 0.3


def test_the_track_says_what_it_did_not_believe(tmp_path):
    path = written(tmp_path / "a.mkv", lambda time: time + 600)
    with AudioTrack(path) as track:
        assert sum(planes.shape[1] for _, planes in track.blocks()) == 3 * RATE
        assert track.jumps == [600.0]
    with pytest.warns(MediaWarning, match="jump by 600 s"):
        assert survey(path).jumps == 1
