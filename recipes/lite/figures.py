"""The images in docs/: what `lite` does, drawn by seed and never by success.

    python recipes/lite/figures.py --root stamps --video auto --out docs

Writes OUT/contact_sheet.png (random test composites and moments of the real video, with both methods' heat),
OUT/result.png (the README's image: one frame under two sounds and in silence, and the video), and
OUT/contact_sheet.md (how they were drawn, and the source, author and license of every medium they show).
Where no adapters ship with the preset, `frozen` stands in the place of `moca`, and the headings say so.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import moca_avs
from moca_avs.clip import Clip, Segmentation
from moca_avs.data.base import SceneObject
from moca_avs.errors import DataError, MocaError
from moca_avs.hub.catalog import ASSETS
from moca_avs.hub.pypi import package_file
from moca_avs.io.image import contact_sheet, overlay
from moca_avs.io.video import read_clip
from moca_avs.methods.base import Method
from moca_avs.methods.source import find_source
from moca_avs.utils.files import atomic_write
from moca_avs_bench.data import open_evaluation_set
from moca_avs_bench.data.avsbench import AVSBenchSet, read_manifest
from moca_avs_bench.metrics.objects import object_accuracy
from moca_avs_bench.metrics.region import frame_iou

SETS = ("s4", "ms3")
COMPOSITES, MOMENTS = 12, 6  # on the sheet: random test composites, and evenly spread moments of the video
STRIP = 3  # composites on the README's image, and moments of the video
SHEET_CELL, STRIP_CELL = 150, 280  # pixels
COLORS = 256  # of the PNGs' palettes
BLANK = np.full((9, 9, 3), 24, np.uint8)  # the sheet's own paper
HEADINGS = ("frame", "heat, frozen", "heat, MoCA", "mask, MoCA", "truth")
NO_ADAPTERS = "No trained adapters ship with the preset yet: where MoCA should stand, `frozen` does."

Cell = tuple[np.ndarray, str]


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame with its sound, and what is known of it.

    Attributes:
        title: where it is from.
        clip: one frame, all of the sound.
        truth: bool [1, H, W]; None: nobody knows (the video).
        masks: bool [K, 1, H, W], every object.
        sounding: bool [K, 1], which of them are heard.
        heard: their names.
    """

    title: str
    clip: Clip
    truth: np.ndarray | None = None
    masks: np.ndarray | None = None
    sounding: np.ndarray | None = None
    heard: str = ""


@dataclass(frozen=True)
class Drawn:
    """A test composite and what is shown of it.

    Attributes:
        dataset: it is from.
        id: its name.
        seconds: indices of the frames shown.
    """

    dataset: AVSBenchSet
    id: str
    seconds: tuple[int, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", default="stamps", metavar="DIR|stamps", help="the offline benchmark")
    parser.add_argument(
        "--video", default="auto", metavar="PATH|auto", help="auto: the video of iscc-samples"
    )
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder for the images")
    parser.add_argument("--preset", default="lite", help="a preset or a run folder")
    parser.add_argument("--seed", type=int, default=0, help="of what is shown")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except MocaError as error:
        print(f"figures: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def run(arguments: argparse.Namespace) -> None:
    out, seed = arguments.out, arguments.seed
    video = package_file("band-film") if arguments.video == "auto" else Path(arguments.video)
    trained = find_source(arguments.preset).adapters is not None
    frozen = moca_avs.load(arguments.preset, "frozen")
    moca = moca_avs.load(arguments.preset, "moca") if trained else frozen
    tests = [open_evaluation_set(name, arguments.root, "test") for name in SETS]
    on_sheet, on_strip = draw(tests, seed), draw_with_silence(tests, seed)
    moments = video_shots(video, MOMENTS)
    shots = [shot for drawn in on_sheet for shot in own_shots(drawn)] + moments
    save(out / "contact_sheet.png", sheet(shots, frozen, moca, trained))
    columns = [strip_shots(drawn) for drawn in on_strip] + [moments[1::2]]
    save(out / "result.png", strip(columns, moca, trained, seed))
    note = notes(on_sheet, on_strip, arguments.video, seed, trained, moca.settings)
    with atomic_write(out / "contact_sheet.md") as partial:
        partial.write_text(note, encoding="utf-8")
    for name in ("contact_sheet.png", "result.png", "contact_sheet.md"):
        print(f"{out / name}: {(out / name).stat().st_size / 1e3:.0f} kB")


# --- what is shown --------------------------------------------------------------------------------------


def draw(tests: Sequence[AVSBenchSet], seed: int) -> list[Drawn]:
    """Random composites of all tests, each at a random second."""
    rng = np.random.default_rng([seed, 1])
    every = [(dataset, sample_id) for dataset in tests for sample_id in dataset.ids]
    chosen = rng.choice(len(every), COMPOSITES, replace=False)
    return [Drawn(*every[index], (int(rng.integers(5)),)) for index in chosen]


def draw_with_silence(tests: Sequence[AVSBenchSet], seed: int) -> list[Drawn]:
    """Random composites that stand still, can be heard with either of two sounds, and fall silent once.

    Returns:
        Their seconds: one with a sound in both versions, and a silent one.
    """
    every = [
        Drawn(dataset, line["id"], seconds)
        for dataset in tests
        for line in read_manifest(dataset.base, "test").values()
        if (seconds := heard_twice_and_silent(line)) is not None
    ]
    if len(every) < STRIP:
        raise DataError(f"the tests hold {len(every)} clips with a swap and a silent second, not {STRIP}")
    rng = np.random.default_rng([seed, 2])
    return [every[index] for index in rng.choice(len(every), STRIP, replace=False)]


def heard_twice_and_silent(line: dict[str, Any]) -> tuple[int, int] | None:
    """The first second with a sound in both of a clip's versions, and its first silent one."""
    if line["moving"] or line["swap"] is None:
        return None
    own = np.any([item["sounding"] for item in line["objects"]], axis=0)
    both, silent = np.flatnonzero(own & np.array(line["swap"]["sounding"], bool)), np.flatnonzero(~own)
    return (int(both[0]), int(silent[0])) if both.size and silent.size else None


def own_shots(drawn: Drawn) -> list[Shot]:
    """Its seconds under its own sound."""
    sample = drawn.dataset.load(drawn.id)
    return [
        shot(
            f"{drawn.dataset.name} {sample.tier}, second {t + 1}",
            sample.clip,
            sample.masks,
            sample.objects,
            t,
        )
        for t in drawn.seconds
    ]


def strip_shots(drawn: Drawn) -> list[Shot]:
    """One frame under its own sound and under the other, and a silent one."""
    sample = drawn.dataset.load(drawn.id)
    if sample.swapped is None:
        raise DataError(f"{drawn.id} has no second sound")
    clip, masks = sample.swapped
    # Visible masks don't overlap: whatever lies under the swapped truth is what the swapped sound belongs to.
    swapped = [replace(o, sounding=(o.mask & masks).any((1, 2))) for o in sample.objects]
    own, silent = own_shots(drawn)
    return [own, shot(own.title, clip, masks, swapped, drawn.seconds[0]), silent]


def shot(title: str, clip: Clip, truth: np.ndarray, objects: Sequence[SceneObject], second: int) -> Shot:
    now = slice(second, second + 1)
    names = [item.category.replace("_", " ") for item in objects if item.sounding[second]]
    return Shot(
        title,
        one_frame(clip, second),
        truth[now],
        np.stack([item.mask[now] for item in objects]),
        np.stack([item.sounding[now] for item in objects]),
        " + ".join(names),
    )


def video_shots(video: Path, count: int) -> list[Shot]:
    """Evenly spread moments of a video, without its ends."""
    clip = read_clip(video, fps=1.0)
    chosen = np.linspace(0, len(clip) - 1, count + 2)[1:-1].round().astype(int)
    return [Shot(f"video, {clip.times[t]:.0f} s", one_frame(clip, t)) for t in chosen]


def one_frame(clip: Clip, index: int) -> Clip:
    now = slice(index, index + 1)
    heard = None if clip.sound_times is None else clip.sound_times[now]
    return replace(clip, frames=clip.frames[now], times=clip.times[now], sound_times=heard)


# --- how it is shown ------------------------------------------------------------------------------------


def sheet(shots: Sequence[Shot], frozen: Method, moca: Method, trained: bool) -> np.ndarray:
    """Two blocks side by side, a row per shot: uint8 [H, W, 3]."""
    cells = [sheet_row(item, frozen, moca) for item in shots]
    half = -(-len(cells) // 2)
    rows = [left + right for left, right in zip(cells[:half], [*cells[half:], []], strict=False)]
    headings = [text if trained else text.replace("MoCA", "MoCA (= frozen)") for text in HEADINGS]
    return contact_sheet(rows, SHEET_CELL, headings * 2)


def sheet_row(item: Shot, frozen: Method, moca: Method) -> list[Cell]:
    frame = item.clip.frames[0]
    one, other = frozen(item.clip), moca(item.clip)
    truth = (BLANK, "") if item.truth is None else (overlay(frame, item.truth[0]), item.heard or "silence")
    return [
        (frame, item.title),
        (overlay(frame, None, stretched(one.heatmaps[0])), hit(item, one)),
        (overlay(frame, None, stretched(other.heatmaps[0])), hit(item, other)),
        (overlay(frame, other.masks[0]), overlap(item, other)),
        truth,
    ]


def strip(columns: Sequence[Sequence[Shot]], method: Method, trained: bool, seed: int) -> np.ndarray:
    """A column per composite, and one for the video: uint8 [H, W, 3]."""
    cells = [[strip_cell(item, method(item.clip)) for item in column] for column in columns]
    shown = "MoCA" if trained else "frozen"
    headings = [f"{shown}: random clip (seed {seed})"] * (len(columns) - 1) + [f"{shown}: a real video"]
    return contact_sheet([list(row) for row in zip(*cells, strict=True)], STRIP_CELL, headings)


def strip_cell(item: Shot, said: Segmentation) -> Cell:
    frame = overlay(item.clip.frames[0], said.masks[0])
    scale = STRIP_CELL / max(frame.shape[:2])
    size = round(frame.shape[1] * scale), round(frame.shape[0] * scale)
    image = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))
    if item.truth is None:
        return image, ", ".join(filter(None, (item.title, said.reasons[0])))
    told = [hit(item, said)] * bool(item.heard) + [overlap(item, said)]
    return image, f"{item.heard or 'silence'}: {', '.join(filter(None, told))}"


def stretched(heat: np.ndarray) -> np.ndarray:
    """Heat [h, w] over its own range, float32 in [0, 1]; a flat map becomes 0."""
    values = heat.astype(np.float32)
    reach = float(values.max() - values.min())
    return (values - values.min()) / reach if reach else np.zeros_like(values)


def hit(item: Shot, said: Segmentation) -> str:
    """Whether what sounds is hotter than what doesn't, in words; "" where nothing can be said."""
    if item.masks is None or item.sounding is None or not item.heard:
        return said.reasons[0]
    right = float(object_accuracy(said.heatmaps, item.masks, item.sounding)[0])
    if right != right:
        return "alone"
    return {1.0: "hit", 0.0: "miss"}.get(right, f"{right:.0%} hit")


def overlap(item: Shot, said: Segmentation) -> str:
    """What became of the mask, in words."""
    if item.truth is not None and item.heard and said.masks.any():
        return f"IoU {frame_iou(said.masks, item.truth)[0]:.2f}"
    if said.masks.any():
        return "" if item.truth is None else "should be empty"
    return f"empty ({said.reasons[0]})"


def save(path: Path, pixels: np.ndarray) -> None:
    """A PNG with a palette: a third of the size, and hardly to be told from the whole."""
    image = Image.fromarray(pixels)
    palette = image.quantize(COLORS, Image.Quantize.MEDIANCUT, kmeans=1)
    with atomic_write(path) as partial:
        image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(
            partial, "PNG", optimize=True
        )


# --- whose it is ----------------------------------------------------------------------------------------


def notes(
    on_sheet: Sequence[Drawn],
    on_strip: Sequence[Drawn],
    video: str,
    seed: int,
    trained: bool,
    settings: dict[str, Any],
) -> str:
    """How the images came about, and whose media they show."""
    weights = [
        f"{part} {settings[part]['weights'][:16]}" for part in ("encoder", "adapters") if settings[part]
    ]
    root = on_sheet[0].dataset.base.parent
    lines = [
        "# The images of results, and whose media they show",
        "",
        f"Made by `recipes/lite/figures.py`; weights (SHA-256): {', '.join(weights)}.",
        *["", f"**{NO_ADAPTERS}**"] * (not trained),
        "",
        f"`contact_sheet.png`: {COMPOSITES} composites of the offline benchmark's test sets, drawn with seed "
        f"{seed} whatever came out, and {MOMENTS} evenly spread moments of a real video. Heat is stretched "
        "over its own range in each image. Under the heat: *hit* where the sounding object is hotter than "
        "the silent ones, *miss* where it isn't, the share where there are more, *alone* where all objects "
        "sound. Under the mask: its overlap with the truth. Under the truth: what is heard.",
        "",
        f"`result.png`: {STRIP} composites drawn the same way among those that stand still, have a second "
        "sound and fall silent: the same image with its own sound, with the sound of another of its "
        "objects, and with room noise only; and moments of the video.",
        *["", "## Composites", ""],
        *["| image | clip | seconds | photo | cut-outs |", "|---|---|---|---|---|"],
        *composite_rows("contact_sheet.png", on_sheet),
        *composite_rows("result.png", on_strip),
        *["", "## Sources", ""],
        "Each composite is a work derived from its photo and cut-outs, shown under their terms; "
        "[licenses.md](licenses.md) has the packages'.",
        "",
        *source_list(root, [medium for drawn in (*on_sheet, *on_strip) for medium in media_of(drawn)]),
        video_credit(video),
    ]
    return "\n".join(lines) + "\n"


def composite_rows(image: str, drawns: Iterable[Drawn]) -> Iterator[str]:
    for drawn in drawns:
        photo, *cutouts = (medium.rsplit("/", 1)[1] for medium in media_of(drawn))
        seconds = ", ".join(str(second + 1) for second in drawn.seconds)
        yield f"| {image} | {drawn.id} | {seconds} | {photo} | {', '.join(cutouts)} |"


def media_of(drawn: Drawn) -> list[str]:
    """Its photo and cut-outs, as "package/path inside"."""
    line = read_manifest(drawn.dataset.base, "test")[drawn.id]
    return [line["background"], *(item["cutout"] for item in line["objects"])]


def source_list(root: Path, media: Iterable[str]) -> list[str]:
    """A line per package, terms and holders."""
    versions = json.loads((root / "stamps.json").read_text(encoding="utf-8"))["packages"]
    files: dict[str, list[str]] = {}
    for medium in sorted(set(media)):
        package, path = medium.split("/", 1)
        notice = (root / "credits" / f"{package}.copyright").read_text(encoding="utf-8")
        terms_of_use, holders = terms(notice, path)
        files.setdefault(f"{package} {versions[package]}, {terms_of_use}, © {holders}", []).append(
            f"`{path}`"
        )
    return [f"- {whose}: {', '.join(paths)}" for whose, paths in files.items()]


def terms(notice: str, path: str) -> tuple[str, str]:
    """License and copyright of a file, by its package's machine-readable notice (Debian's DEP-5).

    Args:
        notice: the text of the package's ``copyright``.
        path: of the file inside the package; upstream's own path follows the first two or three parts.

    Raises:
        DataError: where no paragraph speaks of the file.
    """
    upstream = re.sub(r"^(rcc:[^/]+|usr/share/[^/]+)/", "", path)
    found: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", notice):
        fields = dict(re.findall(r"^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)", paragraph, re.MULTILINE))
        if any(fnmatch.fnmatchcase(upstream, pattern) for pattern in fields.get("Files", "").split()):
            found = fields  # of several, the last one counts
    if not found:
        raise DataError(f"the package's copyright notice says nothing of {path}")
    holders = [re.sub(r"<.*>", "", line).strip() for line in found["Copyright"].splitlines()]
    return found["License"].splitlines()[0], "; ".join(holders[:3]) + " and others" * (len(holders) > 3)


def video_credit(video: str) -> str:
    if video != "auto":
        return f"- the video: {Path(video).name}"
    asset = ASSETS["band-film"]
    source = f"PyPI {asset.package} {asset.version}, {asset.license}, © 2021 Titusz Pan"
    return f"- {source}: `{asset.member.split('/', 1)[1]}`"


if __name__ == "__main__":
    main()
