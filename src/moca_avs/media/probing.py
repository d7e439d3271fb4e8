"""What a file holds, without reading it all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from moca_avs.media.frames import display_matrix
from moca_avs.media.opening import MediaInfo, decoded, opened, origin, sound_stream, video_stream


def probe(path: str | Path) -> MediaInfo:
    """Look at the header, the first frame and the first samples of a video or sound.

    Raises:
        MediaError: missing, empty or unreadable file.
    """
    with opened(path) as container:
        video, sound = video_stream(container), sound_stream(container)
        fps = float(video.average_rate or video.guessed_rate or 0) if video is not None else 0.0
        video_index, sound_index = (None if s is None else s.index for s in (video, sound))
        # Raw streams have no header: FFmpeg guesses their length from the bit rate, often wrongly.
        known = container.duration is not None and container.start_time is not None
        duration = container.duration / av.time_base if known else None
    picture = None if video_index is None else _first(path, video_index)
    samples = None if sound_index is None else _first(path, sound_index)
    width, height = (0, 0) if picture is None else (picture.width, picture.height)
    if picture is not None:
        a, b, c, d = display_matrix(picture)
        if abs(a) + abs(d) < abs(b) + abs(c):
            width, height = height, width
    return MediaInfo(
        duration=_counted(path) if duration is None else duration,
        width=width,
        height=height,
        fps=0.0 if picture is None else fps,
        has_video=picture is not None,
        has_sound=samples is not None,
        rate=0 if samples is None else samples.sample_rate,
        channels=0 if samples is None else samples.layout.nb_channels,
    )


def _first(path: str | Path, index: int) -> Any | None:
    """The first frame of a track that can be decoded; None without one."""
    with opened(path) as container:
        return next(decoded(Path(path), container, container.streams[index]), None)


def _counted(path: str | Path) -> float:
    """The end of the last packet, in seconds after the file's zero."""
    end = Fraction(0)
    with opened(path) as container:
        zero = origin(container)
        tracks = [s for s in (video_stream(container), sound_stream(container)) if s is not None]
        for packet in container.demux(*tracks):
            if packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base - zero)
    return float(end)
