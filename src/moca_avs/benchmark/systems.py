"""From a row's system to a method that can be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import moca_avs
from moca_avs.benchmark.oracle import OracleProposals
from moca_avs.benchmark.runs import Run, trained_adapters, trained_comparator
from moca_avs.benchmark.setup import Setup
from moca_avs.benchmark.spec import PAPER, Comparator, NotRun, Oracle, Preset, Salient, System, Trained
from moca_avs.datasets.base import EvaluationSet
from moca_avs.errors import UsageError
from moca_avs.methods.base import Method
from moca_avs.methods.config import BaselineConfig, MocaConfig
from moca_avs.methods.loading import find_source


def trained(system: System, setup: Setup) -> Run | None:
    """The run that a system rests on, trained where it is missing; None where nothing is trained.

    Raises:
        MocaError: where it can't be trained.
    """
    if isinstance(system, Trained):
        return trained_adapters(system, setup)
    if isinstance(system, Comparator):
        return trained_comparator(system, setup)
    return None


def why_not(system: System, setup: Setup) -> str:
    """Why a system can't be run at all; "" where it can."""
    if isinstance(system, NotRun):
        return system.why
    if isinstance(system, Preset) and system.method == "moca" and find_source(setup.preset).adapters is None:
        return f"no trained adapters ship with {setup.preset}"
    return ""


def build(system: System, run: Run | None, setup: Setup, dataset: EvaluationSet) -> Method:
    """The method of a row, told the dataset's classes where it has some.

    Args:
        system: not `NotRun`.
        run: of `trained`.
        setup: preset and places.
        dataset: it will be asked about.

    Raises:
        MocaError: where weights are missing.
    """
    table: Path | None = getattr(dataset, "class_table", None)
    classes = {} if table is None else {"classes": str(table)}
    if isinstance(system, Salient):
        from moca_avs.methods.saliency import Saliency

        return Saliency()
    if isinstance(system, Oracle):
        return OracleProposals(_proposer(setup, _preset_proposals(setup, "baseline")), dataset)
    if isinstance(system, Comparator) and run is not None:
        from moca_avs.comparators import load_comparator

        settings = {"proposals": _preset_proposals(setup, "method"), **system.settings}
        return load_comparator(run.folder, setup.device, system=system.name, places=setup.places, **settings)
    if isinstance(system, Trained) and run is not None:
        return _load(str(run.folder), "moca", setup, PAPER | dict(system.inference) | classes)
    if isinstance(system, Preset):
        return _load(setup.preset, system.method, setup, dict(system.inference) | classes)
    raise UsageError(f"{system} can't be run")


def _load(name: str, method: str, setup: Setup, settings: dict[str, Any]) -> Method:
    places = setup.places
    if "image_size" in settings:  # a row at the paper's size, not at the preset's own
        settings["image_size"] = setup.image_size
    return moca_avs.load(name, method, setup.device, places.weights, places.models, **settings)


def _preset_proposals(setup: Setup, part: str) -> str:
    """The preset's proposers: its "method"'s (what MPM matches), or its "baseline"'s (SAM under a grid)."""
    default = MocaConfig if part == "method" else BaselineConfig
    found = default.proposals
    for config in find_source(setup.preset).configs:
        found = config.get(part, {}).get("proposals", found)
    return found


def _proposer(setup: Setup, name: str) -> Any:
    from moca_avs.proposals import build_proposer
    from moca_avs.proposals.base import Remembering

    return Remembering(build_proposer(name, setup.places, setup.device))
