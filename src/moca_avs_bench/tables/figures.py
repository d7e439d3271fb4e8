"""The paper's images: masks side by side (Figs. 5, 6, 8), heat under one sound (Fig. 7), training curves.

What is shown is drawn by seed out of the samples that the table evaluates, never by success.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from moca_avs.clip import Clip
from moca_avs.data.base import EvaluationSet, Sample
from moca_avs.errors import DataError, MediaError
from moca_avs.io.image import contact_sheet, overlay
from moca_avs.methods.base import Method
from moca_avs.utils.files import atomic_write, parse_json
from moca_avs_bench.evaluation.controls import with_audio_of
from moca_avs_bench.tables.result import TableResult
from moca_avs_bench.tables.setup import RunContext
from moca_avs_bench.tables.spec import Table, TableRow

INK, GRID = (40, 40, 40), (222, 222, 222)
COLORS = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (90, 90, 90),
)  # fmt: skip
"""Of the lines, in their order (Okabe & Ito's, told apart by the color-blind too)."""
SIZE, LEFT, TOP, BOTTOM, LINE = (900, 480), 80, 44, 50, 20  # pixels
POINTS = 400  # of a line at most; more are averaged
SHOWN = 6  # frames of each dataset
CELL, WIDE = 168, 224  # pixels: of a grid's image, of a heat map

Cell = tuple[np.ndarray, str]


def line_chart(lines: Mapping[str, np.ndarray], title: str) -> np.ndarray:
    """Draw one line per run over its own steps, each run of steps averaged to one point.

    Args:
        lines: name -> float [S], one value a step; values that are no numbers are left out.
        title: above.

    Returns:
        uint8 [H, W, 3].
    """
    width, height = SIZE[0], SIZE[1] + LINE * len(lines)
    sheet = Image.new("RGB", (width, height), (255, 255, 255))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    smooth = {name: _averaged(values) for name, values in lines.items()}
    steps = max((len(values) for values in lines.values()), default=1)
    every = np.concatenate([values for _, values in smooth.values()] or [np.zeros(1)])
    low, high = float(min(every.min(initial=np.inf), 0)), float(every.max(initial=0))
    high = high if high > low else low + 1
    frame = (LEFT, TOP, width - 20, SIZE[1] - BOTTOM)
    pen.text((LEFT, 14), title, INK, font)
    _axes(pen, font, frame, steps, (low, high))
    for index, (name, (at, values)) in enumerate(smooth.items()):
        color = COLORS[index % len(COLORS)]
        x = frame[0] + (frame[2] - frame[0]) * at / max(steps, 1)
        y = frame[3] - (frame[3] - frame[1]) * (values - low) / (high - low)
        pen.line([(float(a), float(b)) for a, b in zip(x, y, strict=True)], color, 2)
        below = SIZE[1] - 8 + LINE * index
        pen.line([(LEFT, below + 9), (LEFT + 26, below + 9)], color, 3)
        pen.text((LEFT + 34, below), name, INK, font)
    return np.array(sheet)


def _averaged(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps [P] and the mean of the values around each [P]."""
    parts = np.array_split(np.arange(len(values)), min(POINTS, max(len(values) // 5, 1)))
    kept = [part[np.isfinite(values[part])] for part in parts]
    kept = [part for part in kept if len(part)]
    return np.array([part.mean() + 1 for part in kept]), np.array([values[part].mean() for part in kept])


def _axes(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    frame: tuple[int, int, int, int],
    steps: int,
    span: tuple[float, float],
) -> None:
    """Five lines each way with their numbers."""
    left, top, right, bottom = frame
    for share in np.linspace(0, 1, 5):
        y, x = bottom - share * (bottom - top), left + share * (right - left)
        pen.line([(left, y), (right, y)], GRID, 1)
        pen.text((8, y - 8), f"{span[0] + share * (span[1] - span[0]):.3g}", INK, font)
        pen.text((x - 12, bottom + 8), f"{round(share * steps)}", INK, font)
    pen.text((right - 36, bottom + 26), "step", INK, font)
    pen.line([(left, top), (left, bottom), (right, bottom)], INK, 1)


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame of a test with its truth.

    Attributes:
        clip: one frame, all of its sound.
        truth: bool [H, W].
        labels: AVSS: uint8 [H, W].
        caption: what is heard.
    """

    clip: Clip
    truth: np.ndarray
    labels: np.ndarray | None
    caption: str


@dataclass
class Figures:
    """Asks every system of a table about some frames while it is loaded, and draws what it said.

    Args:
        table: whose images.
        context: what it is measured on and with.
    """

    table: Table
    context: RunContext
    _shots: dict[str, list[Shot]] = field(default_factory=dict)
    _columns: dict[str, dict[str, list[Cell]]] = field(default_factory=dict)
    _trios: dict[str, list[Clip]] = field(default_factory=dict)
    _heat: dict[str, dict[str, list[np.ndarray]]] = field(default_factory=dict)

    def watch(self, name: str, row: TableRow, method: Method) -> None:
        """Ask a system about this dataset's frames (see `run.Watch`)."""
        if name not in self._shots:
            dataset = self.context.dataset(name)
            self._shots[name] = draw(dataset, self.context.seed)
            # Two clips of one class are rarely in a part of the split.
            self._trios[name] = trio(getattr(dataset, "whole", dataset), self.context.seed)
        cells = self._columns.setdefault(name, {}).setdefault(row.title, [])
        for shot in self._shots[name]:
            said = method(shot.clip)
            labels = None if said.labels is None else said.labels[0]
            cells.append((_colored(shot.clip.frames[0], said.masks[0], labels), said.reasons[0]))
        heat = [method(clip).heatmaps[0].astype(np.float32) for clip in self._trios[name]]
        self._heat.setdefault(name, {})[row.title] = heat

    def write(self, result: TableResult, folder: Path) -> list[Path]:
        """Draw ``tableNN-DATASET.png``, ``tableNN-DATASET-heat.png`` and ``tableNN-training.png``.

        Args:
            result: of the table; its runs' logs are drawn.
            folder: for the images.

        Returns:
            The paths of those that there was something to draw for.
        """
        stem = f"table{self.table.number:02d}"
        images = {f"{stem}-{name}": self._grid(name) for name in self._columns}
        images |= {
            f"{stem}-{name}-heat": self._correspondence(name) for name in self._heat if self._trios[name]
        }
        lines = training_losses(result, self.context.folder / "trained")
        if lines:
            images[f"{stem}-training"] = line_chart(lines, f"Table {self.table.number}: training loss")
        paths = []
        for name, image in images.items():
            path = folder / f"{name}.png"
            with atomic_write(path) as partial:
                Image.fromarray(image).save(partial, "PNG", optimize=True)
            paths.append(path)
        return paths

    def _grid(self, name: str) -> np.ndarray:
        """A row per frame: the frame, the truth, every system (Figs. 5, 6 and 8)."""
        shots, columns = self._shots[name], self._columns[name]
        rows = [
            [
                (shot.clip.frames[0], shot.caption),
                (_colored(shot.clip.frames[0], shot.truth, shot.labels), ""),
                *(cells[index] for cells in columns.values()),
            ]
            for index, shot in enumerate(shots)
        ]
        return contact_sheet(rows, CELL, ("frame", "truth", *columns))

    def _correspondence(self, name: str) -> np.ndarray:
        """A column per image, all under the first one's sound: frames, then each system's heat (Fig. 7).

        A system's heat is stretched over the range that it has on the three together.
        """
        captions = ("the sound's own image", "the same class", "another class")
        frames = [
            (clip.frames[0], caption) for clip, caption in zip(self._trios[name], captions, strict=False)
        ]
        rows = [frames]
        for title, maps in self._heat[name].items():
            low, high = float(min(heat.min() for heat in maps)), float(max(heat.max() for heat in maps))
            reach = max(high - low, 1e-6)
            images = (
                overlay(clip.frames[0], None, (heat - low) / reach)
                for clip, heat in zip(self._trios[name], maps, strict=True)
            )
            rows.append([(image, title) for image in images])
        return contact_sheet(rows, WIDE, ())


def draw(dataset: EvaluationSet, seed: int) -> list[Shot]:
    """Random frames of random samples, one of each sample; samples that can't be read are passed over."""
    rng = np.random.default_rng([seed, 5])
    shots: list[Shot] = []
    for index in rng.permutation(len(dataset)):
        sample = _readable(dataset, dataset.ids[index])
        second = int(rng.integers(1 << 30))
        if sample is None:
            continue
        second %= len(sample.clip)
        labels = None if sample.labels is None else sample.labels[second]
        heard = sample.category.replace("_", " ") if sample.masks[second].any() else "silence"
        shots.append(Shot(_one_frame(sample.clip, second), sample.masks[second], labels, heard))
        if len(shots) == SHOWN:
            break
    return shots


def trio(dataset: EvaluationSet, seed: int) -> list[Clip]:
    """Three frames under one sound: its own, one of the same class, one of another; [] without classes."""
    rng = np.random.default_rng([seed, 7])
    classes = dataset.categories()
    for index in rng.permutation(len(dataset)):
        own = dataset.ids[index]
        same = [other for other in dataset.ids if classes[other] == classes[own] != "" and other != own]
        others = [other for other in dataset.ids if not _named(classes[other]) & _named(classes[own])]
        if not same or not others:
            continue
        chosen = [own, same[rng.integers(len(same))], others[rng.integers(len(others))]]
        samples = [_readable(dataset, sample_id) for sample_id in chosen]
        found = [sample for sample in samples if sample is not None]
        if len(found) < len(chosen):
            continue
        second = int(found[0].masks.sum((1, 2)).argmax())  # the frame with the most that sounds
        heard = found[0].clip
        shown = [heard, *(with_audio_of(sample.clip, heard) for sample in found[1:])]
        return [_one_frame(clip, min(second, len(clip) - 1)) for clip in shown]
    return []


def training_losses(result: TableResult, folder: Path) -> dict[str, np.ndarray]:
    """Title of a row -> its run's loss at each logged step, float64 [S]; each run once."""
    found: dict[str, np.ndarray] = {}
    seen: set[str] = set()
    for row in result.rows:
        if row.run and row.run not in seen:
            seen.add(row.run)
            (log,) = folder.glob(f"*-{row.run}/log.jsonl")
            entries = [parse_json(line) for line in log.read_text(encoding="utf-8").splitlines()]
            found[row.row.title] = np.array([entry["loss"] for entry in entries], float)
    return found


def _named(category: str) -> set[str]:
    return set(category.split("+"))


def _readable(dataset: EvaluationSet, sample_id: str) -> Sample | None:
    try:
        return dataset.load(sample_id)
    except (DataError, MediaError):  # the report lists it
        return None


def _one_frame(clip: Clip, index: int) -> Clip:
    now = slice(index, index + 1)
    heard = None if clip.sound_times is None else clip.sound_times[now]
    return replace(clip, frames=clip.frames[now], times=clip.times[now], sound_times=heard)


def _colored(frame: np.ndarray, mask: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """The mask on its frame; with class indices, each class in a color of its own."""
    if labels is None:
        return overlay(frame, mask)
    colors = np.random.default_rng(0).integers(60, 256, (256, 3))
    painted = np.where((labels > 0)[..., None], 0.35 * frame + 0.65 * colors[labels], frame)
    return painted.astype(np.uint8)
