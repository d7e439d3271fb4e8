"""Videos, images and sounds for the tests, written with PyAV, Pillow and the standard library only."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

TICK = Fraction(1, 90000)
PLANTED_RATE = 16000
PIXELS = {"libx264": "yuv420p", "mpeg4": "yuv420p", "mjpeg": "yuvj420p", "ffv1": "bgr0", "png": "rgb24"}


def gray_steps(count, height=32, width=48):
    """Frame k is one flat gray, told apart after lossy coding: uint8 [T, H, W, 3]."""
    grays = (20 + 23 * np.arange(count) % 220).astype(np.uint8)
    return np.broadcast_to(grays[:, None, None, None], (count, height, width, 3)).copy()


def quadrants(height=32, width=48):
    """Four flat colors: red, green, blue, white from the upper left, row by row: uint8 [H, W, 3]."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (220, 30, 30)
    image[: height // 2, width // 2 :] = (30, 200, 30)
    image[height // 2 :, : width // 2] = (30, 30, 220)
    image[height // 2 :, width // 2 :] = 235
    return image


def smooth(height=32, width=48):
    """Colors that change slowly: half the resolution of color loses little. uint8 [H, W, 3]."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    return np.stack([40 + 170 * x, 60 + 150 * y, 200 - 75 * (x + y)], -1).round().astype(np.uint8)


def images(count, height, width, seed=0):
    """A bright square on a dim ground that wanders: uint8 [T, H, W, 3]."""
    frames = np.full((count, height, width, 3), 60, np.uint8)
    side = max(1, min(height, width) // 3)
    for index, frame in enumerate(frames):
        left = (index * 3 + seed) % max(1, width - side + 1)
        frame[height // 3 : height // 3 + side, left : left + side] = (220, 180, 40)
    return frames


def training_videos(folder):
    """Four short videos with sound to train on: the folder."""
    for index in range(4):
        frames = images(10, 48, 48, seed=index * 9) // (index + 1)
        make_video(folder / f"{index}.mp4", frames, bark(2, seed=index), fps=5)
    return folder


def bt709_planes(image):
    """Y [H, W], U and V [ceil(H / 2), ceil(W / 2)] of limited range by the standard's formulas: float64."""
    red, green, blue = np.moveaxis(image / 255, -1, 0)
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue

    def halved(plane):
        plane = np.pad(plane, [(0, side % 2) for side in plane.shape], mode="edge")
        return (plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]) / 4

    return 16 + 219 * y, 128 + 224 * halved(blue - y) / 1.8556, 128 + 224 * halved(red - y) / 1.5748


def tone(seconds, rate=22050, hertz=440.0, channels=1):
    """A sine at half scale: float32 [C, N]."""
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[None].astype(np.float32), channels, axis=0)


def noise(seconds, rate=22050, channels=1, seed=0):
    """White noise at half scale, different in each channel: float32 [C, N]."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, (channels, round(seconds * rate))).astype(np.float32)


def bark(seconds, rate=22050, seed=0):
    """Noise bursts twice a second: float32 [N], loud and clearly not a hum."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    return (rng.uniform(-0.5, 0.5, len(times)) * (np.mod(times, 0.5) < 0.25)).astype(np.float32)


def planted_hertz(clip, second):
    """A tone of its own for each second of each clip."""
    return 300 * (clip + 1) + 25 * second


def planted_color(clip, second):
    """A color of its own for each second of each clip, far enough apart to survive JPEG: uint8 [3]."""
    return np.array([20 * second + 20, 40 * clip + 10, 220 - 20 * second], np.uint8)


def planted_image(clip, second, height, width):
    """All of `planted_color`: uint8 [H, W, 3]."""
    return np.ascontiguousarray(np.broadcast_to(planted_color(clip, second), (height, width, 3)))


def planted_sound(clip, seconds):
    """The tones of a clip, one after the other: float32 [seconds * PLANTED_RATE]."""
    time = np.arange(PLANTED_RATE) / PLANTED_RATE
    parts = [0.4 * np.sin(2 * np.pi * planted_hertz(clip, s) * time) for s in range(seconds)]
    return np.concatenate(parts).astype(np.float32)


def strongest(sound, rate):
    """Hz of the loudest part."""
    return np.abs(np.fft.rfft(sound, rate)).argmax()


def make_image(path, pixels, **options):
    """Write an image file; `options` are Pillow's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def make_video(
    path,
    frames,
    sound=None,
    rate=22050,
    *,
    times=None,
    fps=10,
    sound_start=0.0,
    codec="libx264",
    sound_codec="aac",
    layout=None,
    form=None,
    turn=None,
    options=None,
):
    """Write frames (None: sound only) at `times` (default: every 1 / fps s) and a sound [C, N] or [N]."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=form, options=options or {}) as container:
        video = track = None
        if frames is not None:
            times = np.arange(len(frames)) / fps if times is None else np.asarray(times)
            video = _video(container, frames, fps, codec, turn)
        if sound is not None:
            sound = np.atleast_2d(sound)
            layout = layout or {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[len(sound)]
            track = container.add_stream(sound_codec, rate=rate, layout=layout)
        container.start_encoding()
        if video is not None and len(frames):
            _write_frames(container, video, frames, times, fps, codec)
        if track is not None:
            _write_sound(container, track, sound, rate, layout, sound_start)
    return path


def _video(container, frames, fps, codec, turn):
    video = container.add_stream(codec, rate=fps)
    video.height, video.width = frames.shape[1:3]
    video.pix_fmt = PIXELS[codec]
    if codec in ("libx264", "ffv1"):
        video.codec_context.time_base = TICK
    if codec == "libx264":
        video.options = {"preset": "ultrafast", "g": "12", "bf": "2"}
    if turn is not None:
        video.set_display_rotation(turn[0], hflip=turn[1])
    return video


def _write_frames(container, video, frames, times, fps, codec):
    base = TICK if codec in ("libx264", "ffv1") else Fraction(1, fps)
    for image, time in zip(frames, times, strict=True):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format=video.pix_fmt)
        frame.pts, frame.time_base = round(time / base), base
        frame.duration = round(1 / fps / base)
        container.mux(video.encode(frame))
    container.mux(video.encode())


def _write_sound(container, track, sound, rate, layout, start):
    form = track.codec_context.format.name
    data = sound
    if form[0] == "s":
        kind = np.int16 if form.startswith("s16") else np.int32
        data = np.round(sound.astype(np.float64) * np.iinfo(kind).max).astype(kind)
    size = track.codec_context.frame_size or 1024
    for low in range(0, sound.shape[1], size):
        piece = data[:, low : low + size]
        if not form.endswith("p"):
            piece = piece.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format=form, layout=layout)
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(start * rate) + low
        container.mux(track.encode(frame))
    container.mux(track.encode())


def make_wav(path, planes, rate=22050):
    """Float32 WAV of [C, N] or [N] with a plain or (beyond two channels) extensible header; may hold NaN."""
    planes = np.atleast_2d(planes).astype("<f4")
    channels, data = len(planes), planes.T.tobytes()
    form = struct.pack("<HHIIHH", 3, channels, rate, rate * channels * 4, channels * 4, 32)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    Path(path).write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    return Path(path)


def packets(path, kind):
    """The bytes of every packet of a track."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


def shown_times(path):
    """Presentation times of every video frame, in seconds, as stamped."""
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def look(path):
    """(width, height, frames, seconds, sound channels or 0, pixel format, codec) of a video."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        channels = container.streams.audio[0].layout.nb_channels if container.streams.audio else 0
        frames = sum(1 for _ in container.decode(video))
        seconds = float(container.duration / av.time_base)
        return video.width, video.height, frames, seconds, channels, video.pix_fmt, video.codec.name
