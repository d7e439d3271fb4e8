import av
import numpy as np
import pytest
from PIL import Image

from helpers.media_files import (
    gray_steps,
    make_video,
    make_wav,
    noise,
    packets,
    quadrants,
    shown_times,
    smooth,
    tone,
)
from moca_avs.clip import Segmentation
from moca_avs.errors import MediaError
from moca_avs.io.audio import read_audio
from moca_avs.io.frames import planes_of, probe
from moca_avs.io.image import MASK_COLOR, PlaneStencil, overlay
from moca_avs.io.overlay import OverlayWriter
from moca_avs.io.video import read_clip
from moca_avs.io.write_video import write_video


def left_half(height=32, width=48):
    mask = np.zeros((height, width), bool)
    mask[:, : width // 2] = True
    return mask


def colored(frames):
    """Which halves of gray frames are colored: bool [T, 2]."""
    spread = np.ptp(frames.astype(int), axis=-1)
    half = frames.shape[2] // 2
    return (
        np.stack([spread[:, 4:-4, 4 : half - 4].mean((1, 2)), spread[:, 4:-4, half + 4 : -4].mean((1, 2))], 1)
        > 15
    )


def draw(path, source, masks, **options):
    with OverlayWriter(path, source, **options) as writer:
        for time, mask in masks:
            writer.add(time, mask)
    return path


@pytest.mark.parametrize(
    ("name", "sound_codec"),
    [
        ("a.mp4", "aac"),
        ("a.mp4", "mp3"),
        ("a.mkv", "ac3"),
        ("a.mkv", "flac"),
        ("a.ts", "aac"),
        ("a.mov", "alac"),
    ],
)
def test_the_sound_is_copied_bit_for_bit(tmp_path, name, sound_codec):
    source = make_video(
        tmp_path / name, gray_steps(30), sound=noise(3.0, rate=44100), rate=44100, sound_codec=sound_codec
    )
    out = draw(tmp_path / "overlay.mp4", source, [(0.0, left_half())])
    expected, found = packets(source, "audio"), packets(out, "audio")
    if name == "a.ts":  # there each packet carries 7 bytes (ADTS) that MP4 keeps in its own header
        expected = [packet[7:] for packet in expected]
    assert found == expected
    before, after = read_clip(source, fps="native"), read_clip(out, fps="native")
    np.testing.assert_allclose(after.times, before.times, atol=1e-3)
    size = min(before.sound.size, after.sound.size)
    assert abs(before.sound.size - after.sound.size) <= 2048
    lag = max(
        range(-100, 101), key=lambda k: float(before.sound[5000:9000] @ after.sound[5000 + k : 9000 + k])
    )
    assert size > 120000
    assert abs(lag) <= 45  # 1 ms


@pytest.mark.parametrize("sound_codec", ["pcm_s16le", "mp2"])
def test_other_sounds_become_aac_in_their_place(tmp_path, sound_codec):
    sound = tone(1.5, channels=2, rate=44100)
    options = {"sound": sound, "rate": 44100, "sound_start": 1.0, "sound_codec": sound_codec}
    source = make_video(tmp_path / "a.mkv", gray_steps(30), **options)
    out = draw(tmp_path / "overlay.mp4", source, [(0.0, left_half())])
    with av.open(str(out)) as container:
        stream = container.streams.audio[0]
        assert (stream.codec.name, stream.channels, stream.sample_rate) == ("aac", 2, 44100)
    found, _ = read_audio(out)
    assert np.abs(found[:43000]).max() < 0.05
    np.testing.assert_allclose(found[46000:108000], sound[0][46000 - 44100 : 108000 - 44100], atol=0.1)


def test_every_frame_wears_the_latest_mask(tmp_path):
    source = make_video(tmp_path / "a.mp4", gray_steps(40) // 2 + 60, fps=10)
    nothing = np.zeros((32, 48), bool)
    masks = [(1.0, left_half()), (2.0, ~left_half()), (3.0, nothing)]
    clip = read_clip(draw(tmp_path / "o.mp4", source, masks), fps="native")
    expected = np.repeat([[0, 0], [1, 0], [0, 1], [0, 0]], 10, axis=0).astype(bool)
    np.testing.assert_array_equal(colored(clip.frames), expected)
    inside = clip.frames[15, 16, 12].astype(int)
    assert inside[2] > inside[0] + 15  # towards the mask's blue
    assert MASK_COLOR[2] > MASK_COLOR[0]


def test_irregular_times_and_length_are_the_sources(tmp_path):
    times = [0.0, 0.04, 0.31, 0.32, 1.5, 1.6]
    source = make_video(tmp_path / "a.mp4", gray_steps(6), times=times, sound=tone(2.5))
    out = draw(tmp_path / "o.mp4", source, [(0.0, left_half())])
    assert shown_times(out) == pytest.approx(shown_times(source), abs=1e-6)
    assert probe(out).duration == pytest.approx(probe(source).duration, abs=0.03)


def test_a_turned_odd_sized_video_is_upright_and_padded(tmp_path):
    source = make_video(tmp_path / "a.mkv", np.stack([quadrants(33, 51)] * 3), codec="ffv1", turn=(90, False))
    size = read_clip(source).frames.shape[1:3]
    assert size == (51, 33)
    out = draw(tmp_path / "o.mp4", source, [(0.0, np.zeros(size, bool))])
    found = read_clip(out).frames[0]
    assert found.shape == (52, 34, 3)
    assert np.abs(found[4:20, 4:12].astype(int) - np.rot90(quadrants(33, 51))[4:20, 4:12]).max() < 10


def test_a_mute_video(tmp_path):
    source = make_video(tmp_path / "a.mp4", gray_steps(10))
    assert not probe(draw(tmp_path / "o.mp4", source, [(0.0, left_half())])).has_sound


@pytest.fixture
def lossless(monkeypatch):
    """What reaches the encoder comes out again, to be compared."""
    monkeypatch.setattr("moca_avs.io.write_video._QUICK", {"qp": "0", "preset": "ultrafast"})


def stored_planes(path):
    """Y, U and V of every frame, as stored."""
    with av.open(str(path)) as container:
        return [[plane.copy() for plane in planes_of(frame)] for frame in container.decode(video=0)]


def drifting(count, height=96, width=128):
    """Detail that moves, so that frames are predicted from others: uint8 [T, H, W, 3]."""
    image = np.random.default_rng(0).integers(0, 255, (height // 4, width // 4, 3), np.uint8)
    image = image.repeat(4, axis=0).repeat(4, axis=1)
    return np.stack([np.roll(image, (step, 2 * step), (0, 1)) for step in range(count)])


def test_outside_the_masks_not_one_value_changes(tmp_path, lossless):
    source = write_video(tmp_path / "a.mp4", drifting(24), np.arange(24) / 12)
    mask = np.zeros((96, 128), bool)
    mask[20:61, 33:90] = True
    masks = [(0.5, mask), (1.0, np.zeros_like(mask)), (1.5, ~mask)]
    found = stored_planes(draw(tmp_path / "o.mp4", source, masks))
    expected = stored_planes(source)
    stencils = [None] * 6 + [PlaneStencil(mask)] * 6 + [None] * 6 + [PlaneStencil(~mask)] * 6
    assert len(found) == 24
    for before, after, stencil in zip(expected, found, stencils, strict=True):
        if stencil is not None:  # read from the video anew: no painted frame served to predict another
            stencil.paint(before)
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one, other)
    for before, after in zip(stored_planes(source)[6:12], found[6:12], strict=True):
        np.testing.assert_array_equal(before[0][~mask], after[0][~mask])
        assert (before[0][mask] != after[0][mask]).mean() > 0.5


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((96, 128), {"name": "a.mp4"}),  # no matrix stated
        ((96, 128), {"name": "a.mkv", "codec": "mjpeg"}),  # full range
        ((96, 128), {"name": "a.mp4", "turn": (90, True)}),
        ((97, 131), {"name": "a.mkv", "codec": "ffv1"}),  # RGB
        ((97, 131), {"name": "a.mkv", "codec": "ffv1", "turn": (270, False)}),
    ],
)
def test_the_overlay_looks_as_if_painted_in_rgb(tmp_path, lossless, size, options):
    options = dict(options)
    source = make_video(tmp_path / options.pop("name"), np.stack([smooth(*size)] * 4), **options)
    image = read_clip(source).frames[0]
    height, width = image.shape[:2]
    mask = np.hypot(*(np.mgrid[:height, :width] - 50)) < 30
    found = read_clip(draw(tmp_path / "o.mp4", source, [(0.0, mask)])).frames[0]
    assert found.shape == (height + height % 2, width + width % 2, 3)
    difference = np.abs(found[:height, :width].astype(int) - overlay(image, mask))
    from_contour = np.abs(np.hypot(*(np.mgrid[:height, :width] - 50)) - 29.5)
    assert difference[from_contour > 3].max() <= 8
    assert difference[from_contour > 3].mean() <= 3
    assert difference.mean() <= 4  # at the contour colors have half the resolution


@pytest.mark.parametrize("sound_codec", ["aac", "pcm_s16le"])
def test_a_stretch(tmp_path, sound_codec):
    name = "a.mp4" if sound_codec == "aac" else "a.mov"
    sound = tone(6.0) * np.repeat([0, 1, 0], 2 * 22050).astype(np.float32)
    source = make_video(tmp_path / name, gray_steps(60), sound=sound, sound_codec=sound_codec)
    out = draw(tmp_path / "o.mp4", source, [(1.5, left_half()), (2.5, ~left_half())], start=1.5, end=4.5)
    clip = read_clip(out, fps="native")
    np.testing.assert_allclose(clip.times, np.arange(30) / 10 + clip.times[0], atol=1e-3)
    assert colored(clip.frames)[[0, 29]].tolist() == [[True, False], [False, True]]
    loud = np.flatnonzero(np.abs(clip.sound) > 0.1) / clip.sample_rate
    assert loud[0] == pytest.approx(0.5, abs=0.08)
    assert loud[-1] == pytest.approx(2.5, abs=0.08)
    assert probe(out).duration == pytest.approx(3.0, abs=0.08)


def test_another_sound(tmp_path):
    source = make_video(tmp_path / "a.mp4", gray_steps(10), sound=tone(1.0))
    other = make_video(tmp_path / "b.m4a", None, sound=noise(1.0), form="mp4")
    out = draw(tmp_path / "o.mp4", source, [(0.0, left_half())], sound=other)
    assert packets(out, "audio") == packets(other, "audio")


def test_a_image_with_a_sound(tmp_path):
    Image.fromarray(gray_steps(1)[0] + 60).save(tmp_path / "a.png")
    wav = make_wav(tmp_path / "a.wav", tone(2.5))
    masks = [(0.0, left_half()), (1.0, ~left_half()), (2.0, left_half())]
    out = draw(tmp_path / "o.mp4", tmp_path / "a.png", masks, sound=wav, still_fps=1.0)
    clip = read_clip(out, fps="native")
    np.testing.assert_allclose(clip.times, [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(colored(clip.frames), [[1, 0], [0, 1], [1, 0]])
    assert probe(out).duration == pytest.approx(2.5, abs=0.06)
    Image.fromarray(smooth(33, 51)).save(tmp_path / "odd.png")
    odd = draw(tmp_path / "o.mp4", tmp_path / "odd.png", [(0.0, left_half(33, 51))], sound=wav, still_fps=1.0)
    expected = overlay(smooth(33, 51), left_half(33, 51)).astype(int)
    assert np.abs(read_clip(odd).frames[0][:33, :51] - expected).mean() <= 4
    with pytest.raises(MediaError, match="needs a sound"):
        draw(tmp_path / "o.mp4", tmp_path / "a.png", masks, still_fps=1.0)


def test_results_can_be_appended(tmp_path):
    source = make_video(tmp_path / "a.mp4", gray_steps(20) // 2 + 60)
    result = Segmentation(
        masks=np.stack([left_half(), ~left_half()]),
        heatmaps=np.zeros((2, 3, 4), np.float16),
        scores=np.zeros(2, np.float32),
        reasons=("", ""),
        times=np.array([0.0, 1.0]),
    )
    with OverlayWriter(tmp_path / "o.mp4", source) as writer:
        writer.append(result)
    found = colored(read_clip(tmp_path / "o.mp4", fps="native").frames)
    np.testing.assert_array_equal(found, np.repeat([[1, 0], [0, 1]], 10, axis=0))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_the_video_ends_with_the_masks(tmp_path, error):
    source = make_video(tmp_path / "a.mp4", gray_steps(50), sound=tone(5.0))

    def masks():
        yield 0.0, left_half()
        yield 2.0, left_half()
        raise error

    with pytest.raises(error):
        draw(tmp_path / "o.mp4", source, masks())
    clip = read_clip(tmp_path / "o.mp4", fps="native")
    assert len(clip) == 21
    assert clip.sound.size / clip.sample_rate == pytest.approx(2.0, abs=0.1)


def test_interrupted_before_the_first_mask(tmp_path):
    source = make_video(tmp_path / "a.mp4", gray_steps(50), sound=tone(5.0))
    with pytest.raises(KeyboardInterrupt), OverlayWriter(tmp_path / "o.mp4", source):
        raise KeyboardInterrupt
    assert len(shown_times(tmp_path / "o.mp4")) == 1


def test_a_wrong_mask_is_refused(tmp_path):
    source = make_video(tmp_path / "a.mp4", gray_steps(10))
    with pytest.raises(MediaError, match=r"size \[32, 48\], found \[16, 48\]"):
        draw(tmp_path / "o.mp4", source, [(0.0, left_half(16))])
    with pytest.raises(MediaError, match="time order"):
        draw(tmp_path / "o.mp4", source, [(1.0, left_half()), (1.0, left_half())])


def test_bad_sources_and_places_leave_nothing(tmp_path):
    wav = make_wav(tmp_path / "a.wav", tone(1.0))
    with pytest.raises(MediaError, match="no video track"):
        draw(tmp_path / "o.mp4", wav, [])
    source = make_video(tmp_path / "a.mp4", gray_steps(10))
    with pytest.raises(MediaError, match="no frame"):
        draw(tmp_path / "o.mp4", source, [], start=9.0)
    with pytest.raises(MediaError, match="can't be written"):
        draw(tmp_path / "a.wav/o.mp4", source, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "a.wav"]
