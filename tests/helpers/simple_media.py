"""Small videos and sounds for the tests, written with PyAV and nothing of ours."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def bark(seconds, rate=22050, seed=0):
    """Noise bursts twice a second: float32 [N], loud and clearly not a hum."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    return (rng.uniform(-0.5, 0.5, len(times)) * (np.mod(times, 0.5) < 0.25)).astype(np.float32)


def images(count, height, width, seed=0):
    """A bright square on a dim ground that wanders: uint8 [T, H, W, 3]."""
    frames = np.full((count, height, width, 3), 60, np.uint8)
    side = max(1, min(height, width) // 3)
    for index, frame in enumerate(frames):
        left = (index * 3 + seed) % max(1, width - side + 1)
        frame[height // 3 : height // 3 + side, left : left + side] = (220, 180, 40)
    return frames


def write_video(
    path, frames, sound=None, rate=22050, fps=5, codec="libx264", sound_codec="aac", layout="mono"
):
    """Write a video; `sound` is [N] or [channels, N] float32."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=fps)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p" if codec == "libx264" else "yuvj420p" if codec == "mjpeg" else "rgb24"
        if codec == "libx264":
            video.options = {"preset": "ultrafast"}
        track = None
        if sound is not None:
            track = container.add_stream(sound_codec, rate=rate, layout=layout)
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if track is not None:
            _write_sound(container, track, np.atleast_2d(sound), rate, layout)
    return path


def _write_sound(container, track, sound, rate, layout):
    for start in range(0, sound.shape[1], 1024):
        block = sound[:, start : start + 1024].T.reshape(1, -1).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(track.encode(frame))
    container.mux(track.encode())


def write_wav(path, sound, rate=22050):
    """Write 16-bit PCM from [N] float32."""
    with wave.open(str(path), "wb") as handle:
        handle.setnchannels(1)
        handle.setsampwidth(2)
        handle.setframerate(rate)
        handle.writeframes((np.asarray(sound) * 32767).astype("<i2").tobytes())
    return Path(path)


def write_float_wav(path, sound, rate=22050):
    """Write 32-bit float PCM, which can hold NaN."""
    from scipy.io import wavfile

    wavfile.write(path, rate, np.asarray(sound, np.float32))
    return Path(path)


def look(path):
    """(width, height, frames, seconds, sound channels or 0, pixel format, codec) of a video."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        channels = container.streams.audio[0].layout.nb_channels if container.streams.audio else 0
        frames = sum(1 for _ in container.decode(video))
        seconds = float(container.duration / av.time_base)
        return video.width, video.height, frames, seconds, channels, video.pix_fmt, video.codec.name
