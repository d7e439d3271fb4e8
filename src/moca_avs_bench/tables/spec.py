"""What a table of the paper is made of, as plain data: columns, rows, and what has to be run for each row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moca_avs.errors import UsageError
from moca_avs.methods.config import PAPER

IMAGE_SIZE: int = PAPER["encoder"]["image_size"]
"""Pixels; the paper trains and tests at this size (section 4.2). A run may take another."""

INFERENCE: dict[str, Any] = PAPER["encoder"] | PAPER["method"]
"""The paper's inference (section 3.1): the sounding cluster, then proposal matching."""

WITHOUT_MPM: dict[str, Any] = {"refine": "none"}
"""The same without proposal matching."""


@dataclass(frozen=True)
class Unavailable:
    """A system that nobody can run here: its row holds reported numbers only.

    Attributes:
        why: in a few words.
    """

    why: str


@dataclass(frozen=True)
class TrainedMoca:
    """MoCA, its adapters trained for the table.

    Attributes:
        training: fields of `TrainConfig` that differ from the paper's.
        inference: fields of `MocaConfig` that differ from `INFERENCE`.
    """

    training: Mapping[str, Any] = field(default_factory=dict)
    inference: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """A method of `moca_avs.METHODS` as the preset ships it; nothing is trained.

    Attributes:
        method: its name.
        inference: settings that differ from the preset's.
    """

    method: str
    inference: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparator:
    """One of the other papers' systems, trained for the table (`moca_avs_bench.ssl`).

    Attributes:
        name: a key of `moca_avs_bench.ssl.COMPARATORS`.
        settings: of `load_comparator`.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SaliencyBaseline:
    """What is salient in the image (U²-Netp): hears nothing."""


@dataclass(frozen=True)
class Oracle:
    """The proposal nearest the truth: it is told the answer, and no system."""


System = Unavailable | TrainedMoca | Preset | Comparator | SaliencyBaseline | Oracle


@dataclass(frozen=True)
class TableColumn:
    """One score on one dataset.

    Attributes:
        dataset: a name of `moca_avs.data.DATASETS`.
        metric: a key of `evaluation.report.TITLES`.
        title: as printed.
        protocol: of the dataset's kind; None is its default.
    """

    dataset: str
    metric: str
    title: str
    protocol: str | None = None


@dataclass(frozen=True)
class TableRow:
    """One system of a table.

    Attributes:
        title: unique within the table.
        system: what is run for it.
        reported: the paper's numbers as shares (0..1), one per column, None where it has none; (): none at
            all.
        group: what the paper files it under.
        facts: text of the table's further columns.
        only: datasets it is run on; (): all.
        elsewhere: why it is not run on the others.
    """

    title: str
    system: System
    reported: tuple[float | None, ...] = ()
    group: str = ""
    facts: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    elsewhere: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        number: in the paper, 1..10.
        title: what it compares.
        columns: scores.
        rows: systems.
        facts: headings of the rows' `facts`.
        notes: what a reader must know, a sentence each.

    Raises:
        UsageError: where rows and columns don't fit.
    """

    number: int
    title: str
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    facts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        titles = [row.title for row in self.rows]
        if len(set(titles)) < len(titles):
            raise UsageError(f"table {self.number} has two rows of one title")
        for row in self.rows:
            if len(row.reported) not in (0, len(self.columns)) or len(row.facts) not in (0, len(self.facts)):
                raise UsageError(
                    f"table {self.number}, {row.title}: {len(row.reported)} numbers and {len(row.facts)} "
                    f"facts for {len(self.columns)} and {len(self.facts)} columns"
                )

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of its datasets, in the columns' order."""
        return tuple(dict.fromkeys(column.dataset for column in self.columns))

    def reported(self, row: TableRow, column: TableColumn) -> float | None:
        """The paper's number of a cell; None where it has none."""
        return row.reported[self.columns.index(column)] if row.reported else None


def masks_on(*datasets: str) -> tuple[TableColumn, ...]:
    """MIoU and F of S4 or MS3, in the paper's order."""
    return tuple(
        TableColumn(name, metric, f"{name.upper()} {title}")
        for name in datasets
        for metric, title in (("miou", "mIoU"), ("f", "F"))
    )


SUPERVISED = "supervised: trained on masks; score its own with moca eval --predictions"
SALIENCY = "image only, large: see the U²-Netp row"
STEP_0 = TableRow("frozen: step 0 (not in the paper)", Preset("frozen", INFERENCE))
"""What the trained rows have to beat."""
