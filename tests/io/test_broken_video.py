"""Video files that are broken, empty, cut or no video, and arguments that make no sense: what is said."""

import av
import numpy as np
import pytest
from PIL import Image

from helpers.media_files import gray_steps, make_video, make_wav, noise, quadrants, tone
from moca_avs.errors import MediaError, UsageError
from moca_avs.io.audio import read_audio
from moca_avs.io.frames import probe
from moca_avs.io.open import MediaWarning, decode_stream
from moca_avs.io.video import clip_from_pair, read_clip, stream_clips


def message(call, *args, kind=MediaError, **options):
    with pytest.raises(kind) as caught:
        call(*args, **options)
    return str(caught.value)


def test_bad_files_say_what_is_wrong(tmp_path):
    assert "does not exist" in message(read_clip, tmp_path / "missing.mp4")
    assert "is a folder" in message(read_clip, tmp_path)
    (tmp_path / "empty.mp4").touch()
    assert "empty (0 bytes)" in message(read_clip, tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("not a video\n" * 50)
    assert "not a video or sound" in message(read_clip, tmp_path / "text.mp4")
    (tmp_path / "notes.txt").write_text("not a video\n" * 50)
    assert "text file" in message(read_clip, tmp_path / "notes.txt")
    for call in (probe, read_audio):
        assert "not a video or sound" in message(call, tmp_path / "text.mp4")
    assert "does not exist" in message(next, stream_clips(tmp_path / "missing.mp4"))


def test_a_playlist_may_not_reach_out(tmp_path):
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:2,\nhttp://localhost:9/a.ts\n#EXT-X-ENDLIST\n")
    message(read_clip, tmp_path / "list.mp4")


def test_sound_without_video_says_what_to_do(tmp_path):
    wav = make_wav(tmp_path / "a.wav", tone(1.0))
    assert "--image" in message(read_clip, wav)
    info = probe(wav)
    assert (info.has_video, info.has_sound, info.width) == (False, True, 0)
    assert info.duration == pytest.approx(1.0)


def test_a_cover_image_is_no_video(tmp_path):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=22050, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 32, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.start_encoding()
        frame = av.VideoFrame.from_ndarray(quadrants(), format="rgb24")
        container.mux([*cover.encode(frame), *cover.encode()])
        for low in range(0, 22050, 1024):
            piece = av.AudioFrame.from_ndarray(tone(1.0)[:, low : low + 1024], "fltp", "mono")
            piece.sample_rate, piece.pts = 22050, low
            container.mux(sound.encode(piece))
        container.mux(sound.encode())
    assert not probe(path).has_video
    assert "--image" in message(read_clip, path)


def test_a_video_without_a_frame(tmp_path):
    path = make_video(tmp_path / "none.mkv", gray_steps(1)[:0], sound=tone(1.0))
    assert "not one frame" in message(read_clip, path)
    info = probe(path)
    assert (info.has_video, info.has_sound, info.width, info.fps) == (False, True, 0, 0)


def test_an_mp4_without_its_index(tmp_path):
    path = make_video(tmp_path / "video.mp4", gray_steps(30), sound=tone(3.0))
    path.write_bytes(path.read_bytes()[:2000])
    assert "moov" in message(read_clip, path)


@pytest.mark.parametrize(
    ("name", "options"), [("video.mp4", {"movflags": "faststart"}), ("video.mkv", None), ("video.avi", None)]
)
def test_a_video_cut_in_the_middle_keeps_its_beginning_and_says_so(tmp_path, name, options):
    codec, sound_codec = ("mpeg4", "mp3") if name.endswith("avi") else ("libx264", "aac")
    frames = np.random.default_rng(0).integers(0, 255, (60, 32, 48, 3), dtype=np.uint8)
    path = make_video(
        tmp_path / name, frames, sound=noise(6.0), options=options, codec=codec, sound_codec=sound_codec
    )
    whole = read_clip(path, fps="native")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.warns(MediaWarning, match="cut off|damaged"):
        part = read_clip(path, fps="native")
    assert 15 < len(part) < 60
    np.testing.assert_array_equal(part.frames[:15], whole.frames[:15])
    assert part.sound.size < whole.sound.size


def test_nan_samples_are_refused(tmp_path):
    sound = noise(2.0)
    sound[0, 30000] = np.nan
    wav = make_wav(tmp_path / "nan.wav", sound)
    assert "NaN" in message(read_audio, wav)
    video = make_video(tmp_path / "video.mp4", gray_steps(20))
    assert "NaN" in message(read_clip, video, sound=wav)
    sound[0, 30000] = np.inf
    assert "infinite" in message(read_audio, make_wav(tmp_path / "inf.wav", sound))


def test_a_sound_of_no_length(tmp_path):
    wav = make_wav(tmp_path / "none.wav", np.zeros((1, 0)))
    assert "no sound" in message(read_audio, wav)
    Image.fromarray(quadrants()).save(tmp_path / "a.png")
    assert "no sound" in message(clip_from_pair, tmp_path / "a.png", wav)


def test_a_stretch_beyond_the_end(tmp_path):
    path = make_video(tmp_path / "video.mp4", gray_steps(10))
    assert "no frame" in message(read_clip, path, start=5.0)
    assert "no frame" in message(next, stream_clips(path, start=5.0))


@pytest.mark.parametrize(
    "options",
    [
        {"fps": 0},
        {"fps": "fast"},
        {"fps": np.nan},
        {"start": -1.0},
        {"start": 2.0, "end": 2.0},
        {"end": -1.0},
    ],
)
def test_arguments_that_make_no_sense(tmp_path, options):
    message(read_clip, tmp_path / "video.mp4", kind=UsageError, **options)


def test_a_playlist_of_files_here_is_not_followed(tmp_path):
    make_video(tmp_path / "a.ts", gray_steps(20), codec="mpeg4", form="mpegts")
    lists = {
        "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n",
        "concat.mp4": "ffconcat version 1.0\nfile a.ts\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        assert "is a playlist" in message(read_clip, tmp_path / name)


def test_a_track_that_appears_in_mid_file_costs_one_packet(tmp_path):
    path = make_video(tmp_path / "a.mkv", gray_steps(5))

    class Container:
        """PyAV's, whose demux fails once as it does at a packet of an unknown track."""

        def __init__(self, real):
            self.real, self.left = real, 1

        def demux(self, stream):
            for packet in self.real.demux(stream):
                yield packet
                if self.left:
                    self.left = 0
                    raise IndexError("list index out of range")

    with av.open(str(path)) as real, pytest.warns(MediaWarning, match="1 damaged"):
        frames = list(decode_stream(path, Container(real), real.streams.video[0]))
    assert len(frames) == 5
