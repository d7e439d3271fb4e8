"""`moca eval`: score a method on a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from moca_avs.cli.args import (
    ConfigName,
    Device,
    MethodName,
    Model,
    PresetName,
    Settings,
    Weights,
    choose,
    load_chosen,
    parse_settings,
    parse_shard,
)
from moca_avs.errors import UsageError

if TYPE_CHECKING:
    from moca_avs.data.base import EvaluationSet
    from moca_avs.methods.source import MethodChoice
    from moca_avs_bench.evaluation.report import Report


_REGION, _BOXES = ("avsbench", "dataset", "per_frame"), ("lvs", "ez-vsl", "mask")
PROTOCOLS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("s4", "ms3"), _REGION),
    "avss": ("real", "padded"),
    **dict.fromkeys(("vggss", "vggsound-single", "flickr"), _BOXES),
    "boxes": ("boxes",),
    "duets": ("duets",),
}
"""Dataset -> what --protocol may be, as in `moca_avs_bench.evaluation.scorers`, which loads much more."""


@dataclass(frozen=True)
class Evaluate:
    """Score a method on a split, beside audio-blind baselines and the wrong-sound control.

    Beside the report lies a .jsonl with one line per sample: what --resume goes on with, and --merge puts
    together. Exit code 1 where samples could not be read.

    Example: moca eval --dataset s4 --root stamps --out s4.json
    """

    out: Annotated[str, arg(metavar="JSON", help="Where the report goes.")]
    dataset: Annotated[
        str,
        arg(
            metavar="NAME",
            help="s4 (single source), ms3 (multiple sources), avss (semantic); localization: vggss, "
            "vggsound-single, flickr; any folder of videos with a manifest.csv: boxes, duets. "
            "Registered ones too.",
        ),
    ] = "s4"
    root: Annotated[
        str,
        arg(metavar="DIR|stamps", help="Where it lies; stamps: the offline benchmark, built when missing."),
    ] = "stamps"
    split: Annotated[
        Literal["train", "val", "test"],
        arg(help="Of the dataset; localization, boxes and duets have only a test."),
    ] = "test"
    tier: Annotated[
        Literal["A", "B", "C"] | None,
        arg(help="Of stamps. A: new images and sounds; B: new sounds; C: new classes; all if left out."),
    ] = None
    limit: Annotated[int | None, arg(metavar="N", help="Only N samples, spread evenly over the split.")] = (
        None
    )
    preset: PresetName = "lite"
    weights: Weights = None
    model: Model = ()
    method: MethodName = None
    config: ConfigName = None
    settings: Settings = ()
    predictions: Annotated[
        str | None,
        arg(
            metavar="FOLDER",
            help="Score these PNG masks (FOLDER/<sample>/; class indices in avss) instead of a method.",
        ),
    ] = None
    device: Device = "auto"
    protocol: Annotated[
        Literal["avsbench", "dataset", "per_frame", "real", "padded", "lvs", "ez-vsl", "mask"] | None,
        arg(
            help="s4, ms3: avsbench (default), dataset, per_frame. avss: real (default), padded. "
            "Localization: lvs (default), ez-vsl, mask. See docs/reference/commands.md."
        ),
    ] = None
    f_from: Annotated[Literal["mask", "heatmap"], arg(help="What F's thresholds sweep over.")] = "mask"
    foreground: Annotated[bool, arg(help="Leave out the salient-foreground baseline.")] = True
    seed: Annotated[int, arg(metavar="N", help="Of the wrong-sound draw and the bootstrap.")] = 0
    resume: Annotated[bool, arg(help="Go on with an evaluation that was stopped.")] = False
    shard: Annotated[str, arg(metavar="I/N", help="Only the I-th of N parts.")] = "1/1"
    merge: Annotated[
        tuple[str, ...],
        arg(metavar="JSONL ...", help="Put the files of all shards together; evaluates nothing."),
    ] = ()

    def run(self) -> int:
        """Evaluate, print the table, write the report."""
        from moca_avs.utils.files import check_writable

        check_writable(Path(self.out))
        if not self.merge:
            self._check()
        report = self._merged() if self.merge else self._evaluated()
        report.write(self.out)
        print(report.to_markdown())
        for part in ("encoder", "adapters"):
            found = report.settings.get(part)
            if isinstance(found, dict) and "weights" in found:
                print(f"{part} weights: SHA-256 {found['weights']}")
        print(f"report -> {self.out}")
        return 1 if report.failed else 0

    def _merged(self) -> Report:
        from moca_avs_bench.evaluation.report import merge

        return merge(self.merge)

    def _check(self) -> None:
        """What is known to fail before anything heavy is loaded, fetched or built."""
        from moca_avs.methods import check_weights
        from moca_avs_bench.data import check_evaluation_set

        parse_shard(self.shard)
        check_evaluation_set(self.dataset, self.root)
        allowed = PROTOCOLS.get(self.dataset)
        if self.protocol is not None and allowed is not None and self.protocol not in allowed:
            raise UsageError(
                f"{self.dataset} has no protocol named {self.protocol!r}; choose from {', '.join(allowed)}"
            )
        if self.predictions is None:
            check_weights(self._choice())
        elif not Path(self.predictions).is_dir():
            raise UsageError(
                f"--predictions {self.predictions} should be a folder of predicted masks; there is none"
            )

    def _evaluated(self) -> Report:
        from moca_avs.data.base import subset
        from moca_avs_bench.data import open_evaluation_set

        out = Path(self.out)
        whole = open_evaluation_set(self.dataset, self.root, self.split, self.tier)
        dataset: EvaluationSet = subset(whole, self.limit)
        from moca_avs.proposals.saliency import shipped_saliency
        from moca_avs_bench.evaluation.evaluate import evaluate, evaluate_predictions

        # On real videos the salient-object map itself is scored too, which the proposer tells of its masks.
        saliency = shipped_saliency if getattr(dataset, "kind", "") == "boxes" else _cached_saliency
        common: dict[str, Any] = {
            "foreground": saliency() if self.foreground else None,
            "protocol": self.protocol,
            "jsonl": out.with_suffix(".jsonl"),
            "resume": self.resume,
            "shard": parse_shard(self.shard),
            "seed": self.seed,
            "progress": True,
        }
        if self.predictions is not None:
            return evaluate_predictions(self.predictions, dataset, **common)
        return evaluate(self._load(dataset), dataset, f_from=self.f_from, **common)

    def _load(self, dataset: EvaluationSet) -> Any:
        """The method; in AVSS it is told the dataset's classes, unless `--set classes=` names others."""
        table = getattr(dataset, "class_table", None)
        return load_chosen(self._choice({} if table is None else {"classes": str(table)}), self.device)

    def _choice(self, known: Mapping[str, Any] = MappingProxyType({})) -> MethodChoice:
        settings = {**known, **parse_settings(self.settings)}
        return choose(self.preset, self.method, self.device, self.weights, self.model, self.config, settings)


def _cached_saliency() -> Any:
    from moca_avs.proposals import build_proposer
    from moca_avs.proposals.base import CachedProposer

    return CachedProposer(build_proposer("saliency"))
