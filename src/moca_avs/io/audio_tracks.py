"""The sound track of an MP4 that is being written: copied from the source, or encoded to AAC."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from moca_avs.io.audio import survey
from moca_avs.io.open import audio_stream, open_media, start_time
from moca_avs.io.sound_track import AudioTrack, NoAudioError

# What players expect to find in an MP4; everything else becomes AAC.
_COPIED = {"aac", "mp3", "ac3", "eac3", "alac", "flac", "opus"}
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
_BITS_PER_CHANNEL = 96_000
_AAC_FRAME = 1024
_TRIAL_PACKETS = 20
# Sound that begins so much after the last image, following a gap, is left out. Seconds.
_BEYOND = 1.0


class AudioFeed(Protocol):
    """A sound track that is written bit by bit beside the images, so that neither waits in memory."""

    def feed(self, until: float) -> None:
        """Write what sounds before `until` (seconds of the new video).

        Infinity: there are no more images; sound goes on up to its next gap.
        """
        ...

    def close(self) -> None:
        """Let go of the source."""
        ...


class CopiedAudio:
    """The source's own packets, bit for bit; of a stretch, the packets that begin in it."""

    def __init__(
        self, container: Any, source: str | Path, start: float, end: float, audio_track: int | None
    ) -> None:
        self._files = ExitStack()
        self._from = self._files.enter_context(open_media(source))
        stream: Any = audio_stream(self._from, audio_track)
        self._mux = container.mux
        self._track = container.add_stream_from_template(stream)
        # A whole video keeps its priming packets too, which lie before zero.
        self._low = start if start > 0 else -math.inf
        self._end = end
        self._base = stream.time_base
        self._shift = round((start_time(self._from) + Fraction(start)) / self._base)
        self._packets = self._from.demux(stream)
        self._next: Any | None = None
        self._reached = 0.0

    def feed(self, until: float) -> None:
        """Copy the packets that begin before `until` (seconds of the new video)."""
        if until < math.inf:
            self._reached = max(self._reached, until)
        while True:
            packet = self._coming()
            if packet is None:
                return
            time = float(packet.pts * self._base)
            if time >= until or (until == math.inf and time > self._reached + _BEYOND):
                return
            self._next = None
            self._reached = max(self._reached, time + float((packet.duration or 0) * self._base))
            packet.stream = self._track
            self._mux(packet)

    def _coming(self) -> Any | None:
        """The next packet of the stretch, in the new video's time; kept until it is written."""
        while self._next is None:
            try:
                packet = next(self._packets, None)
            except (av.error.FFmpegError, IndexError):  # the source ends in the middle of something
                return None
            if packet is None or packet.size == 0:
                return None
            if packet.pts is None:
                continue
            packet.pts -= self._shift
            packet.dts = packet.pts
            time = float(packet.pts * self._base)
            if time + max(self._low, 0) >= self._end:
                return None
            if time >= 0 or self._low < 0:
                self._next = packet
        return self._next

    def close(self) -> None:
        """Close the source."""
        self._files.close()


class EncodedAudio:
    """Samples encoded to AAC, with as many channels as AAC has a layout for (else their average)."""

    def __init__(self, container: Any, blocks: Iterator[np.ndarray], rate: int, channels: int) -> None:
        kept = channels if channels in _LAYOUTS else 1
        rates = av.codec.Codec("aac", "w").audio_rates or [48000]
        self._rate = rate if rate in rates else min((r for r in rates if r >= rate), default=max(rates))
        self._track = container.add_stream("aac", rate=self._rate, layout=_LAYOUTS[kept])
        self._track.bit_rate = _BITS_PER_CHANNEL * kept
        self._track.options = {"aac_coder": "fast"}
        self._mux = container.mux
        mixed = blocks if kept == channels else (block.mean(0, keepdims=True) for block in blocks)
        self._pieces = _pieces(_at_rate(mixed, rate, self._rate, kept), _AAC_FRAME)
        self._written = 0
        self._open = True

    def feed(self, until: float) -> None:
        """Encode what sounds before `until` (seconds)."""
        while self._open and self._written < until * self._rate:
            piece = next(self._pieces, None)
            if piece is None:
                self._open = False
                self._mux(self._track.encode(None))
                return
            # Packed, since PyAV can't fill eight planes; the encoder's own resampler takes them apart.
            packed = np.ascontiguousarray(piece.T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(packed, "flt", self._track.codec_context.layout.name)
            frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
            frame.pts = self._written
            self._written += piece.shape[1]
            self._mux(self._track.encode(frame))

    def close(self) -> None:
        """Nothing of its own is open."""


def _at_rate(blocks: Iterator[np.ndarray], rate: int, target: int, channels: int) -> Iterator[np.ndarray]:
    """Change the rate of float32 [C, n] blocks as they come."""
    if rate == target:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(rate, target, channels, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block.T)).reshape(-1, channels).T
    rest = stream.resample_chunk(np.zeros((0, channels), np.float32), last=True)
    yield rest.reshape(-1, channels).T


def _pieces(blocks: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """float32 [C, n] blocks cut anew into [C, size]; the last one may be shorter."""
    waiting: np.ndarray | None = None
    for block in blocks:
        waiting = block if waiting is None else np.concatenate([waiting, block], axis=1)
        whole = waiting.shape[1] // size * size
        for low in range(0, whole, size):
            yield waiting[:, low : low + size]
        waiting = waiting[:, whole:]
    if waiting is not None and waiting.shape[1]:
        yield waiting


class SourceAudio:
    """A video's own sound encoded to AAC, where MP4 can't hold it as it is; of a stretch, to the sample."""

    def __init__(
        self, container: Any, source: str | Path, start: float, end: float, audio_track: int | None
    ) -> None:
        self._sound, self._start, self._shown = AudioTrack(source, audio_track), start, 0.0
        blocks = _stretch(self._sound.continuous(), start, end, self._sound.rate)
        self._encoded = EncodedAudio(container, blocks, self._sound.rate, self._sound.channels)

    def feed(self, until: float) -> None:
        """Encode what sounds before `until` (seconds of the new video)."""
        if until < math.inf:
            self._shown = until
        else:
            self._sound.picture_end = self._start + self._shown
        self._encoded.feed(until)

    def close(self) -> None:
        """Close the source."""
        self._sound.close()


def _stretch(blocks: Iterator[np.ndarray], start: float, end: float, rate: int) -> Iterator[np.ndarray]:
    low = round(start * rate)
    high = math.inf if end == math.inf else round(end * rate)
    place = 0
    for block in blocks:
        cut = block[:, max(low - place, 0) : max(int(min(high - place, block.shape[1])), 0)]
        if cut.shape[1]:
            yield cut
        place += block.shape[1]
        if place >= high:
            return


def _can_be_copied(source: str | Path, audio_track: int | None) -> bool:
    """Try it on the first packets: some files wrap a known codec in a way that MP4 refuses."""
    with open_media(source) as found:
        stream = audio_stream(found, audio_track)
        if stream is None or stream.codec_context.codec.canonical_name not in _COPIED:
            return False
        try:
            with av.open(io.BytesIO(), "w", format="mp4") as trial:
                track = trial.add_stream_from_template(stream)
                for packet in itertools.islice(found.demux(stream), _TRIAL_PACKETS):
                    if packet.size and packet.pts is not None:
                        packet.stream = track
                        trial.mux(packet)
        except (av.error.FFmpegError, IndexError):
            return False
    return True


def source_audio(
    container: Any, source: str | Path, start: float, end: float, audio_track: int | None = None
) -> AudioFeed | None:
    """The sound of `source` for a new MP4; None without sound.

    Copied where MP4 can hold it and its time stamps are believed, else AAC.
    """
    try:
        copied = not survey(source, audio_track).jumps and _can_be_copied(source, audio_track)
        kind = CopiedAudio if copied else SourceAudio
        return kind(container, source, start, end, audio_track)
    except NoAudioError:
        return None
