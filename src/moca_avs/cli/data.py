"""`moca data`: build the offline benchmark, look at what a dataset on disk holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg, subcommand


@dataclass(frozen=True)
class Stamps:
    """Build the offline benchmark: real cut-outs on real photos with real sounds, in AVSBench's layouts.

    Example: moca data stamps --out bench
    """

    out: Annotated[str, arg(metavar="DIR", help="Folder to make.")]
    media: Annotated[
        Literal["core", "full", "world"],
        arg(
            help="core: 245 MB of Debian packages; full: 1.9 GB more of sounds, for the training side only; "
            "world: 1.2 GB more of images and sounds, with --size validation."
        ),
    ] = "core"
    size: Annotated[
        Literal["standard", "quick", "validation"],
        arg(help="quick: a few clips, to try things out; validation: no other split, more clips."),
    ] = "standard"
    seed: Annotated[int, arg(metavar="N", help="Of every choice; reported numbers are of seed 0.")] = 0

    def run(self) -> int:
        """Build it, and print where it lies."""
        from moca_avs.utils.files import check_writable
        from moca_avs_bench.stamps.build import build_stamps

        check_writable(Path(self.out), folder=True)
        folder = build_stamps(self.out, self.media, self.seed, self.size)
        print(f"stamps -> {folder}\ncontact sheet -> {folder / 'contact_sheet.png'}")
        return 0


@dataclass(frozen=True)
class Check:
    """What a dataset on disk holds, and what it lacks. Exit code 1 where something is missing.

    Example: moca data check s4 --root AVSBench
    """

    name: Annotated[
        Positional[
            Literal["s4", "ms3", "avss", "vggsound", "vggss", "vggsound-single", "flickr", "boxes", "duets"]
        ],
        arg(help="The dataset."),
    ]
    root: Annotated[
        str, arg(metavar="DIR|stamps", help="The folder it was unpacked into; stamps: the offline benchmark.")
    ]
    all: Annotated[bool, arg(help="Name every missing file, not only the first ten.")] = False

    def run(self) -> int:
        """Print what was found and what is missing."""
        from moca_avs_bench.data import check_dataset

        report = check_dataset(self.name, self.root)
        print(report.text(self.all))
        return 0 if report.ok else 1


@dataclass(frozen=True)
class Data:
    """Build the offline benchmark, or look at what a dataset on disk holds.

    Example: moca data stamps --out bench
    """

    action: Annotated[Stamps, subcommand("stamps")] | Annotated[Check, subcommand("check")]

    def run(self) -> int:
        """Run the chosen action."""
        return self.action.run()
