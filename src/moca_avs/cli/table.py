"""`moca table`: the paper's tables, one command each."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from moca_avs.cli.args import Device, Model, Weights, check_encoder, parse_sources
from moca_avs.errors import UsageError

if TYPE_CHECKING:
    from moca_avs_bench.tables.setup import RunContext


@dataclass(frozen=True)
class PaperTable:
    """One of the paper's ten tables: what it reports, and beside it what is measured here.

    Trains what the table needs; finished runs and evaluated clips are found again, so that a stopped table
    goes on with the same line. Writes OUT/tableNN.md, .csv and .json. Exit code 1 where something could not
    be measured: its cell says "failed", and the others stand.

    Example: moca table 4 --root stamps --quick
    """

    number: Annotated[
        Positional[Literal[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]], arg(metavar="1..10", help="In the paper.")
    ]
    root: Annotated[
        str, arg(metavar="DIR|stamps", help="Where the datasets lie; stamps: the offline benchmark.")
    ] = "stamps"
    out: Annotated[str, arg(aliases=["-o"], metavar="DIR", help="Folder for the table.")] = "tables"
    preset: Annotated[str, arg(metavar="NAME", help="lite, imagebind (the paper) or languagebind.")] = "lite"
    weights: Weights = None
    model: Model = ()
    quick: Annotated[
        bool, arg(help="64 test frames and more a cell, 100 training steps: minutes. Nothing else differs.")
    ] = False
    steps: Annotated[
        int | None, arg(metavar="N", help="Training steps of each run, instead of 10000 (100 with --quick).")
    ] = None
    data: Annotated[
        str | None,
        arg(
            metavar="FOLDER|s4|ms3|vggsound",
            help="What is trained on; VGGSound where --root holds it (the paper), else S4, if left out.",
        ),
    ] = None
    data_root: Annotated[
        str | None, arg(metavar="DIR", help="Where that dataset lies; --root if left out.")
    ] = None
    runs: Annotated[
        str | None,
        arg(metavar="DIR", help="Where runs are kept and found again; the cache folder if left out."),
    ] = None
    image_size: Annotated[
        int | None,
        arg(
            metavar="PX",
            help="Side of the images of every row but the shipped weights'; the paper's 224 if left out.",
        ),
    ] = None
    device: Device = "auto"
    seed: Annotated[int, arg(metavar="N", help="Of training, the wrong-sound draw and the bootstrap.")] = 0
    jobs: Annotated[
        int | None,
        arg(metavar="N", help="Processes; 2 for lite on a CPU, else 1, if left out."),
    ] = None
    figures: Annotated[
        bool, arg(help="Draw frames, truth and every system's masks, heat maps and training curves too.")
    ] = False

    def run(self) -> int:
        """Measure the table, print it, write it."""
        self._check()
        from moca_avs_bench.tables.figures import Figures
        from moca_avs_bench.tables.paper_tables import load_table
        from moca_avs_bench.tables.result import to_terminal, write_all
        from moca_avs_bench.tables.run import run_table, sensible_jobs

        start = time.monotonic()
        table, setup, out = load_table(self.number), self._setup(), Path(self.out)
        figures = Figures(table, setup) if self.figures else None
        watch = None if figures is None else figures.watch
        jobs = sensible_jobs(setup.preset, setup.device) if self.jobs is None else self.jobs
        result = run_table(table, setup, self._command(), watch, jobs)
        print(to_terminal(result))
        for path in [*write_all(result, out), *([] if figures is None else figures.write(result, out))]:
            print(f"-> {path}")
        print(f"{(time.monotonic() - start) / 60:.1f} minutes")
        for line in result.failures:
            print(f"moca: {line}", file=sys.stderr)
        return 1 if result.failures else 0

    def _check(self) -> None:
        """What is known to fail before anything heavy is loaded."""
        from moca_avs.data import DATASETS
        from moca_avs.utils.device import check_device_name
        from moca_avs.utils.files import check_writable
        from moca_avs_bench.data import check_root, check_training_set

        for name in ("steps", "image_size", "jobs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, found {value}")
        check_encoder(self.preset)
        check_device_name(self.device)
        parse_sources(self.weights, self.model).folder()
        check_root(self.root)
        if self.data is not None:
            named = not Path(self.data).is_dir() and self.data in DATASETS
            check_training_set(self.data, (self.data_root or self.root) if named else None)
        check_writable(Path(self.out), folder=True)

    def _setup(self) -> RunContext:
        from dataclasses import replace

        from moca_avs.utils.device import choose_device
        from moca_avs_bench.tables.setup import FULL, QUICK, RunContext
        from moca_avs_bench.tables.spec import IMAGE_SIZE

        size = QUICK if self.quick else FULL
        device, why = choose_device(self.device)
        print(f"device: {device} ({why})")
        return RunContext(
            self.root,
            self.preset,
            size if self.steps is None else replace(size, steps=self.steps),
            device,
            parse_sources(self.weights, self.model),
            None if self.runs is None else Path(self.runs),
            self.data,
            self.data_root,
            self.seed,
            image_size=IMAGE_SIZE if self.image_size is None else self.image_size,
        )

    def _command(self) -> str:
        """The line that gives the same numbers again, wherever it is typed."""
        words = ["moca", "table", str(self.number), "--root", self.root, "--preset", self.preset]
        words += ["--quick"] * self.quick
        for name in ("steps", "data", "data_root", "image_size"):
            value = getattr(self, name)
            words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
        return shlex.join(words + ["--seed", str(self.seed)] * (self.seed != 0))
