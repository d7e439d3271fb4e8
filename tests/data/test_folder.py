"""A folder of videos with a gray and a tone planted in each second."""

import numpy as np
import pytest

from moca_avs.cues.motion import synchrony
from moca_avs.data.folder import VideoFolder
from moca_avs.errors import DataError, MediaError
from moca_avs.io.video import stream_clips
from moca_avs.io.write_video import write_video
from moca_avs.model.evidence import resize

RATE = 16000


def video(path, clip, seconds=3, sound=True):
    """Second s shows gray 30 + 60 s and sounds at 400 (clip + 1) + 100 s Hz."""
    frames = [np.full((32, 48, 3), 30 + 60 * s, np.uint8) for s in range(seconds) for _ in range(5)]
    time = np.arange(RATE) / RATE
    tones = [0.5 * np.sin(2 * np.pi * (400 * (clip + 1) + 100 * s) * time) for s in range(seconds)]
    heard = np.concatenate(tones).astype(np.float32) if sound else None
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, frames, np.arange(len(frames)) / 5, heard, RATE if sound else None)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def videos(tmp_path, cache):
    root = tmp_path / "videos"
    video(root / "one.mp4", 0)
    video(root / "deep" / "two.mp4", 1)
    return root


def test_frames_carry_their_own_sound(videos):
    data = VideoFolder(videos, side=16, window=0.6)
    assert len(data) == 6
    assert {data.clip_id(i) for i in range(6)} == {"one.mp4", "deep/two.mp4"}
    for index in range(6):
        second = index % 3
        frame = data.frame(index)
        assert frame.shape == (16, 16, 3)
        assert frame.dtype == np.uint8
        assert abs(int(frame.mean()) - (30 + 60 * second)) < 8
    # A frame at s seconds hears the end of one second and the beginning of the next.
    sound, rate = data.sound([data.clip_id(i) for i in range(6)].index("one.mp4"))
    assert rate == RATE
    assert sound.dtype == np.float32
    assert sound.size == pytest.approx(0.3 * RATE, abs=2)
    assert np.abs(np.fft.rfft(sound, RATE)).argmax() == pytest.approx(400, abs=4)


def test_unusable_files_are_listed_and_never_replaced(videos):
    (videos / "notes.mp4").write_text("not a video")
    video(videos / "mute.mp4", 0, sound=False)
    (videos / ".hidden.mp4").write_text("left out")
    data = VideoFolder(videos, side=16)
    assert len(data) == 6
    reasons = dict(data.skipped)
    assert set(reasons) == {"notes.mp4", "mute.mp4"}
    assert "no sound" in reasons["mute.mp4"]
    assert "notes.mp4" in reasons["notes.mp4"]


def test_a_video_that_breaks_in_the_middle_leaves_no_frames(videos, monkeypatch):
    whole = VideoFolder(videos, side=16)

    def breaking(path, **settings):
        clips = stream_clips(path, **settings | {"chunk_frames": 1})
        yield next(clips)
        if path.name == "aaa.mp4":
            raise MediaError(f"{path} ends in the middle of an image")
        yield from clips

    video(videos / "aaa.mp4", 2)
    monkeypatch.setattr("moca_avs.io.video.stream_clips", breaking)
    again = VideoFolder(videos, side=16)
    assert len(again) == len(whole)
    assert again.skipped == (("aaa.mp4", f"{videos / 'aaa.mp4'} ends in the middle of an image"),)
    for index in range(len(whole)):
        assert (again.frame(index) == whole.frame(index)).all()
        assert (again.sound(index)[0] == whole.sound(index)[0]).all()


def test_nothing_usable_is_an_error_that_says_why(tmp_path, cache):
    with pytest.raises(DataError, match="not a folder"):
        VideoFolder(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="it is empty"):
        VideoFolder(empty)
    (empty / "a.txt").write_text("words")
    with pytest.raises(DataError, match=r"a\.txt"):
        VideoFolder(empty)


def test_a_folder_is_decoded_once(videos, cache):
    first = VideoFolder(videos, side=16)
    stores = [p for p in (cache / "folders").iterdir() if not p.name.startswith(".")]
    stamp = stores[0].stat().st_mtime_ns
    again = VideoFolder(videos, side=16)
    assert len(stores) == 1
    assert stores[0].stat().st_mtime_ns == stamp
    assert again.fingerprint() == first.fingerprint()
    assert (again.frame(3) == first.frame(3)).all()


def test_other_settings_or_content_give_another_fingerprint(videos):
    prints = {
        VideoFolder(videos, side=16).fingerprint(),
        VideoFolder(videos, side=16, window=1.0).fingerprint(),
    }
    faster = VideoFolder(videos, side=16, fps=2.0)
    assert len(faster) == 12
    prints.add(faster.fingerprint())
    video(videos / "three.mp4", 2)
    prints.add(VideoFolder(videos, side=16).fingerprint())
    assert len(prints) == 4


def test_what_moves_with_the_sound_is_kept_when_asked_for(tmp_path, cache):
    """On the left a square jumps with each of six clicks, on the right one jumps at other times."""
    frames, hertz, rng = [], 25, np.random.default_rng(0)
    picture = rng.integers(90, 160, (48, 64, 3)).astype(np.uint8)
    clicks, others = {10, 27, 50, 71, 88, 110}, {3, 19, 40, 60, 95, 120}
    places = [0, 0]
    for index in range(5 * hertz):
        frame = picture.copy()
        for side, moments in enumerate((clicks, others)):
            places[side] = (places[side] + 12) % 36 if index in moments else places[side]
            frame[places[side] : places[side] + 12, 8 + 36 * side : 20 + 36 * side] = 255
        frames.append(frame)
    sound = np.zeros(5 * RATE, np.float32)
    for click in clicks:
        start = click * RATE // hertz
        sound[start : start + 800] = rng.uniform(-0.5, 0.5, 800)
    write_video(tmp_path / "videos" / "one.mp4", frames, np.arange(len(frames)) / hertz, sound, RATE)
    data = VideoFolder(tmp_path / "videos", side=16, synchrony=True)
    found = data.synchrony(2)
    assert found.shape == (16, 16)
    assert found[:, :8].max() > 0.3
    assert found[:, :8].max() > 2 * found[:, 8:].max()
    (clip,) = stream_clips(tmp_path / "videos" / "one.mp4", margin=3.0)
    np.testing.assert_allclose(found, resize(synchrony(clip, 2), (16, 16)), atol=1e-3)
    plain = VideoFolder(tmp_path / "videos", side=16)
    assert plain.fingerprint() != data.fingerprint()
    with pytest.raises(DataError, match="synchrony=True"):
        plain.synchrony(2)
