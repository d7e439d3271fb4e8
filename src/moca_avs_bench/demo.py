"""``make demo``: three composed clips whose sound moves from one object to the other, and a real video.

Everything goes through the code of ``moca segment``. The clips are made of cut-outs, sounds and photos that
no weight that ships was trained on (the test side of the offline benchmark), from two Debian packages only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from moca_avs.cli.segment import tell
from moca_avs.errors import DataError, MocaError
from moca_avs.hub import debian
from moca_avs.inference.inputs import JobSpec
from moca_avs.inference.job import SegmentOptions
from moca_avs.inference.segment import segment_all

if TYPE_CHECKING:
    from moca_avs_bench.stamps.scenes import Pool

PACKAGES = ("tuxpaint-stamps-default", "tuxpaint-data")
PAIRS = (("dog", "drum_kit"), ("cow", "chicken"), ("lion", "duck"))
SEED = 0
SIZE = 384  # pixels
RATE = 10  # frames per second of the composed clips
TURN = 2  # seconds each of the two objects is heard, and of silence after them
BAND = SegmentOptions(fps=1.0, start=20.0, end=30.0, overwrite=True)
COMPOSED = SegmentOptions(fps=1.0, overwrite=True)
COLUMNS = 10  # frames of each video on the contact sheet


def run(out: str | Path = "out/demo", method: Literal["moca", "frozen"] | None = None) -> int:
    """Make the clips, segment everything, print where it lies; returns the exit code.

    Args:
        out: folder for videos, results and the contact sheet.
        method: as in ``moca segment``; None is the preset's best one.
    """
    from moca_avs import load
    from moca_avs.hub.pypi import package_file
    from moca_avs.utils.device import choose_device

    out = Path(out)
    device, why = choose_device("auto")
    print(f"device: {device} ({why})", flush=True)
    videos = [(JobSpec(video, out / video.stem), COMPOSED) for video in composed_videos(out / "videos")]
    videos.append((JobSpec(package_file("band-film"), out / "band"), BAND))
    loaded = cache(lambda: load("lite", method, device))
    done = []
    for job, options in videos:
        (outcome,) = segment_all([job], loaded, options)
        tell(outcome)
        if outcome.state == "done":
            done.append((job, options))
    print()
    for job, _ in done:
        print(f"overlay: {job.folder / 'overlay.mp4'}")
    if done:
        print(f"contact sheet: {draw_sheet(done, out / 'contact_sheet.png')}")
    return 0 if len(done) == len(videos) else 1


def composed_videos(folder: Path) -> list[Path]:
    """Write the three clips as MP4; none, with the reason on stderr, where the media can't be had."""
    try:
        if not debian.available():
            raise DataError("this machine has no apt-get, which fetches their images and sounds")
        debian.unpacked_all(PACKAGES)
    except DataError as error:
        print(f"The composed clips are left out: {error}", file=sys.stderr)
        return []
    pool = unseen_media()
    return [compose(pool, pair, folder / f"{'-'.join(pair)}.mp4", SEED + i) for i, pair in enumerate(PAIRS)]


def compose(pool: Pool, pair: Sequence[str], path: Path, seed: int) -> Path:
    """One clip: two objects drift over a photo; the first is heard, then the second, then only the room.

    Args:
        pool: where images and sounds are drawn from.
        pair: two classes of the pool.
        path: the MP4 to write.
        seed: of every choice.
    """
    from moca_avs.io.write_video import write_video
    from moca_avs_bench.stamps.media import RATE as HERTZ
    from moca_avs_bench.stamps.scenes import draw_scene
    from moca_avs_bench.stamps.sounds import Event, compose_sound

    rng = np.random.default_rng([seed, *path.stem.encode()])
    seconds = 3 * TURN
    scene = draw_scene(pool, rng, list(pair), SIZE, seconds * RATE, moving=True)
    turns = np.arange(seconds) // TURN
    events = [Event(sound.samples(), turns == turn) for turn, sound in enumerate(scene.sounds)]
    sound = compose_sound(events, seconds, rng).sound
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, scene.frames, np.arange(seconds * RATE) / RATE, sound, HERTZ)


def unseen_media() -> Pool:
    """Test-side media (images and sounds both unseen in training) of the two packages."""
    from moca_avs_bench.stamps.media import Catalog
    from moca_avs_bench.stamps.scenes import Pool

    whole = Catalog.load("core")
    return Pool.of(
        replace(
            whole,
            cutouts=tuple(cutout for cutout in whole.cutouts if cutout.package in PACKAGES),
            sounds=tuple(sound for sound in whole.sounds if sound.package in PACKAGES),
            backgrounds=tuple(photo for photo in whole.backgrounds if photo.package in PACKAGES),
        ),
        "test-A",
    )


def draw_sheet(videos: Sequence[tuple[JobSpec, SegmentOptions]], path: Path) -> Path:
    """One image: a row of frames with their masks for each video."""
    from moca_avs import Segmentation, read_clip
    from moca_avs.io.image import contact_sheet, overlay, write_image

    rows = []
    for job, options in videos:
        clip = read_clip(job.source, options.fps, options.start, options.end, phase=0.5)
        result, row = Segmentation.load(job.folder), []
        for index in np.linspace(0, len(result) - 1, min(COLUMNS, len(result))).round().astype(int):
            caption = f"{job.folder.name} {result.times[index]:.1f} s {result.reasons[index]}"
            row.append((overlay(clip.frames[index], result.masks[index]), caption))
        rows.append(row)
    return write_image(path, contact_sheet(rows))


if __name__ == "__main__":
    import tyro

    try:
        sys.exit(tyro.cli(run, prog="python -m moca_avs_bench.demo"))
    except MocaError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
