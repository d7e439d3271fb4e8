"""Class-agnostic mask proposals and how they are chosen. See docs/architecture.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from moca_avs.utils.registry import Registry

if TYPE_CHECKING:
    from moca_avs.hub.huggingface import ModelSources
    from moca_avs.proposals.base import Proposer


def _saliency(sources: ModelSources, device: str) -> Proposer:
    from moca_avs.proposals.saliency import shipped_saliency

    return shipped_saliency()


def _superpixels(sources: ModelSources, device: str) -> Proposer:
    from moca_avs.proposals.superpixels import SuperpixelProposer

    return SuperpixelProposer()


def _regions(sources: ModelSources, device: str) -> Proposer:
    from moca_avs.proposals.regions import RegionProposer

    return RegionProposer()


def _openworld_sam(sources: ModelSources, device: str) -> Proposer:
    from moca_avs.proposals.detectors import MIN_SCORE, BoxProposals, GroundingDino, OpenWorldText
    from moca_avs.proposals.sam import SamSegmenter

    # The detector's own threshold must not be stricter than the cascade's.
    grounder = GroundingDino(sources, device, box_threshold=MIN_SCORE)
    return BoxProposals(OpenWorldText(grounder), SamSegmenter(sources, device))


def _owl_sam(sources: ModelSources, device: str) -> Proposer:
    from moca_avs.proposals.detectors import BoxProposals, OwlObjectness
    from moca_avs.proposals.sam import SamSegmenter

    return BoxProposals(OwlObjectness(sources, device), SamSegmenter(sources, device))


def _sam_grid(sources: ModelSources, device: str) -> Proposer:
    from moca_avs.proposals.sam import SamPointGrid

    return SamPointGrid(sources, device)


PROPOSERS: Registry[Callable[[ModelSources, str], Proposer]] = Registry("proposer", "moca_avs.proposers")
"""Name -> builder (sources, device); names may be joined with "+"."""
PROPOSERS.update(
    {
        "saliency": _saliency,
        "superpixels": _superpixels,
        "regions": _regions,
        "openworld-sam": _openworld_sam,
        "owl-sam": _owl_sam,
        "sam-grid": _sam_grid,
    }
)


def check_proposer(name: str) -> list[str]:
    """The proposers that a name joins; builds and imports nothing.

    Raises:
        UsageError: for an unknown name, or one given twice.
    """
    return PROPOSERS.split(name, "proposals")


def build_proposer(
    name: str,
    sources: ModelSources | None = None,
    device: str = "cpu",
    wrap: Callable[[Proposer], Proposer] | None = None,
) -> Proposer:
    """Build a proposer by name, or several as one ("saliency+superpixels").

    Args:
        name: of `PROPOSERS`, or several joined with "+".
        sources: where foundation models come from.
        device: where they compute.
        wrap: put around each proposer that is built (a cache, for example).

    Raises:
        UsageError: for an unknown name.
        WeightsError: if weights are missing and can't be fetched.
    """
    from moca_avs.hub.huggingface import ModelSources
    from moca_avs.proposals.base import JoinedProposer

    sources = sources or ModelSources()
    built = [PROPOSERS[part](sources, device) for part in check_proposer(name)]
    built = built if wrap is None else [wrap(proposer) for proposer in built]
    return built[0] if len(built) == 1 else JoinedProposer(built)
