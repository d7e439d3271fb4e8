"""Lossless videos of given sample values, with what the header says of them: color, aspect, fields."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np


def make_raw_video(path, frames, form="yuv420p", *, fps=10, tags=None, aspect=None, turn=None):
    """Write FFV1, or where an aspect is given, H.264 (which FFmpeg's FFV1 can't tell of).

    Args:
        path: where to.
        frames: per frame a list of planes, uint8 or uint16 [h, w] each, as `form` has them.
        form: pixel format.
        fps: frames per second.
        tags: attributes of the codec context: colorspace, color_trc, color_primaries, color_range.
        aspect: width / height of a pixel.
        turn: (degrees, mirrored) of the display matrix.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if aspect is None else "libx264", rate=fps)
        stream.height, stream.width = frames[0][0].shape
        stream.pix_fmt = form
        context = stream.codec_context
        context.time_base = Fraction(1, fps)
        for name, value in (tags or {}).items():
            setattr(context, name, value)
        if aspect is not None:
            stream.options = {"preset": "ultrafast", "qp": "0"}
            context.sample_aspect_ratio = aspect
        if turn is not None:
            stream.set_display_rotation(turn[0], hflip=turn[1])
        for index, planes in enumerate(frames):
            frame = raw_frame(planes, form)
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def raw_frame(planes, form="yuv420p", **tags):
    """A frame of given planes."""
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], form)
    for plane, values in zip(frame.planes, planes, strict=True):
        memory = np.frombuffer(memoryview(plane), values.dtype)
        memory.reshape(values.shape[0], -1)[:, : values.shape[1]] = values
    for name, value in tags.items():
        setattr(frame, name, value)
    return frame


def interlaced(moments):
    """Two moments a frame, upper lines first: uint8 [2 T, H, W, 3] -> [T, H, W, 3]."""
    frames = moments[::2].copy()
    frames[:, 1::2] = moments[1::2, 1::2]
    return frames


def make_interlaced(path, frames, fps=25):
    """Write frames of two fields each as lossless H.264 that says so."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv444p"
        stream.options = {"preset": "ultrafast", "qp": "0", "x264-params": "tff=1"}
        stream.codec_context.time_base = Fraction(1, fps)
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv444p")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
