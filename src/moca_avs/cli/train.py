"""`moca train`: teach adapters from unlabeled clips."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import arg

from moca_avs.cli.args import PARSING, Device, Model, Weights, check_encoder, parse_sources
from moca_avs.errors import UsageError
from moca_avs.training.config import CACHE_LIMIT, RuntimeConfig, TrainConfig, may_differ
from moca_avs.utils.files import parse_json

PLACES = ("data", "root", "weights", "cache", "model")
"""Flags that ``config.json`` keeps under "command"."""


@dataclass(frozen=True)
class Train:
    """Teach adapters from unlabeled videos. The defaults are the paper's; Ctrl-C leaves a run to resume.

    Example: moca train --data videos --out run --steps 500

    Example: moca train --out run --resume

    On several GPUs: torchrun --nproc-per-node 2 -m moca_avs train --data videos --out run
    """

    out: Annotated[str, arg(metavar="RUN", help="The run folder: config.json, log.jsonl, steps/.")]
    data: Annotated[
        str | None,
        arg(metavar="FOLDER|s4|ms3", help="A folder of videos, or a dataset's training split (with --root)."),
    ] = None
    root: Annotated[
        str | None,
        arg(metavar="DIR|stamps", help="Where the named dataset lies; stamps: the offline benchmark."),
    ] = None
    preset: Annotated[
        str, arg(metavar="NAME", help="The frozen encoder: lite, imagebind, languagebind or lite-soundnet.")
    ] = "lite"
    weights: Weights = None
    model: Model = ()
    device: Device = "auto"
    resume: Annotated[
        bool,
        arg(
            help="Go on from the run's newest checkpoint, bit for bit; flags that are left out are the run's "
            "own. --steps may be more than it had."
        ),
    ] = False
    cache: Annotated[
        str | None,
        arg(metavar="DIR", help="Keep what never changes there, for later runs too; else in the run folder."),
    ] = None
    cache_limit: Annotated[
        float,
        arg(metavar="GB", help="Most it may take; beyond it, it is computed at every step. 0: never kept."),
    ] = CACHE_LIMIT / 1e9
    speed: Annotated[RuntimeConfig, arg(name="")] = field(default_factory=RuntimeConfig)
    config: Annotated[TrainConfig, arg(name="")] = field(default_factory=TrainConfig)

    def run(self) -> int:
        """Train, then print where the adapters lie."""
        source, sources = self._check(), parse_sources(self.weights, self.model)
        from moca_avs.encoders import build_encoder
        from moca_avs.training.trainer import train
        from moca_avs.utils.device import choose_device, own_device
        from moca_avs_bench.data import open_training_set

        moving = self.config.objective == "synchrony"
        data = open_training_set(source, self.root, synchrony=moving)
        tells = os.environ.get("RANK", "0") == "0"  # under torchrun one process speaks for all
        for path, why in getattr(data, "skipped", ()) if tells else ():
            print(f"moca: note: {path} is left out: {why}", file=sys.stderr)
        device, why = choose_device(self.device)
        device = own_device(device)
        if tells:
            print(f"device: {device} ({why})")
            print(f"data: {len(data)} frames")
            print(f"config: {self.config.to_dict()}")
        options = {} if self.config.image_size is None else {"image_size": self.config.image_size}
        encoder = build_encoder(self.preset, device, sources, **options)
        run = train(
            encoder,
            data,
            self.config,
            self.out,
            self.resume,
            device=device,
            sources=sources,
            cache=self.cache,
            cache_limit=round(self.cache_limit * 1e9),
            speed=self.speed,
            told={"command": self._places(source)},
        )
        if tells:
            print(f"adapters -> {run / 'adapters.safetensors'}")
        return 0

    def completed(self, arguments: Sequence[str]) -> Train:
        """With ``--resume``: the same, flags that were left out taken from the run's ``config.json``.

        Args:
            arguments: what follows ``moca train``.

        Raises:
            UsageError: for a flag that does not agree with the run, or a file that is no run's.
        """
        file = Path(self.out) / "config.json"
        if not (self.resume and file.is_file()):
            return self
        try:
            known = parse_json(file.read_text(encoding="utf-8"))
            own = TrainConfig.from_dict(known["training"])
            encoder, places = str(known["encoder"]["name"]), dict(known.get("command", {}))
            precision = known.get("arithmetic", {"precision": "float32"})["precision"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
            raise UsageError(f"{file} is not the config of a training run ({error!r})") from error
        places["model"] = tuple(places.get("model", ()))
        # A flag without a value can only turn its usual value round: those are put together afterwards.
        usual: dict[str, Any] = {
            name: value for name, value in TrainConfig().to_dict().items() if isinstance(value, bool)
        }
        defaults = replace(
            self,
            **{name: places[name] for name in PLACES if name in places},
            resume=False,
            preset=encoder,
            config=replace(own, **usual),
            speed=RuntimeConfig(precision),
        )
        whole: Train = tyro.cli(Train, prog="moca train", default=defaults, args=arguments, config=PARSING)
        turned: dict[str, Any] = {
            name: getattr(own, name) for name in usual if getattr(whole.config, name) == usual[name]
        }
        whole = replace(whole, config=replace(whole.config, **turned))
        asked = whole.config.to_dict()
        told = [
            (name, value, asked[name])
            for name, value in own.to_dict().items()
            if not may_differ(name, value, asked[name])
        ]
        if whole.preset != encoder:
            told.append(("preset", encoder, whole.preset))
        if whole.speed.precision not in (precision, "auto"):
            told.append(("precision", precision, whole.speed.precision))
        if told:
            flags = ", ".join(f"--{name.replace('_', '-')} {new} ({old} there)" for name, old, new in told)
            longer = (
                "; a run can be made longer, not shorter" if any(one[0] == "steps" for one in told) else ""
            )
            raise UsageError(
                f"{self.out} holds a run with other settings than {flags}: leave them out, or choose another "
                f"folder{longer}"
            )
        if whole.config.steps > own.steps and os.environ.get("RANK", "0") == "0":
            print(
                f"moca: note: {own.steps} steps become {whole.config.steps}: what is still to do follows the "
                "longer run's learning rate, so the result is not that of a run of that length",
                file=sys.stderr,
            )
        return whole

    def _check(self) -> str:
        """What is trained on; anything known to fail is told before anything heavy is loaded."""
        from moca_avs.hub.available import require_weights
        from moca_avs.methods.needs import encoder_weights
        from moca_avs.utils.device import check_device_name
        from moca_avs.utils.extras import require_extra
        from moca_avs.utils.files import check_writable
        from moca_avs_bench.data import check_training_set

        if not 0 <= self.cache_limit < math.inf:
            raise UsageError(f"--cache-limit must be a number of GB of at least 0, found {self.cache_limit}")
        if self.data is None:
            raise UsageError(
                f"{self.out}: --data is needed, a folder of videos or a dataset with --root; only a run that "
                "says so itself goes on without (--resume; since 0.2 config.json says where its data lie)"
            )
        check_training_set(self.data, self.root)
        check_encoder(self.preset)
        check_device_name(self.device)
        if self.config.neighbour_search == "faiss":
            require_extra("faiss", "--neighbour-search faiss")
        for place in (self.out, self.cache):
            if place is not None:
                check_writable(Path(place), folder=True)
        sources = parse_sources(self.weights, self.model)
        require_weights(encoder_weights(self.preset, self.config.pairing), sources)
        return self.data

    def _places(self, data: str) -> dict[str, Any]:
        """What ``config.json`` keeps of the flags, so that ``--resume`` alone finds everything again."""
        kept = {"data": data, "root": self.root, "weights": self.weights, "cache": self.cache}
        named = {"root": "stamps", "data": data if self.root is not None else None}
        places = {
            name: value if value in (None, named.get(name)) else str(Path(value).absolute())
            for name, value in kept.items()
        }
        return {**places, "model": list(self.model)}
