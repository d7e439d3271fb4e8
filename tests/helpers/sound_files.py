"""Videos with several sound tracks, or with time stamps that make no sense, written with PyAV."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from helpers.media_files import gray_steps

RATE = 16000
BLOCK = 0.1
"""Seconds of sound in each packet, where the codec leaves the choice."""


def write_stamped(path, frame_times, *tracks, form="matroska", codec="pcm_s16le"):
    """A video of gray frames at these times (None: no video), ten a second by their order, and sound tracks.

    Each track is (float32 [N] at `RATE`, function from when a packet ought to come to its stamp, in seconds).
    Packets are written in the order in which they ought to come, so image and sound lie side by side.
    """
    packets = []
    with av.open(str(path), "w", format=form) as container:
        video = None if frame_times is None else container.add_stream("mpeg4", rate=10)
        if video is not None:
            video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
        sounds = [container.add_stream(codec, rate=RATE, layout="mono") for _ in tracks]
        container.start_encoding()
        for index, image in enumerate(() if video is None else gray_steps(len(frame_times))):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            packets += [(index / 10, 0, frame_times[index], one) for one in video.encode(frame)]
        for number, (stream, (sound, stamp)) in enumerate(zip(sounds, tracks, strict=True), 1):
            size = stream.codec_context.frame_size or round(BLOCK * RATE)
            for low in range(0, len(sound), size):
                samples = np.round(sound[None, low : low + size] * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
                frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), low
                due = low / RATE
                packets += [(due, number, stamp(due), one) for one in stream.encode(frame) if one.size]
        for _, _, seconds, packet in sorted(packets, key=lambda one: one[:2]):
            packet.duration = int(packet.duration * packet.time_base * 1000)
            packet.time_base, packet.pts, packet.dts = Fraction(1, 1000), *(2 * [round(seconds * 1000)])
            container.mux_one(packet)
    return path
