"""Which weights are missing here, and whether they can be fetched: told before anything heavy loads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from moca_avs.errors import WeightsError, first_line
from moca_avs.hub.cache import download_dir
from moca_avs.hub.catalog import ASSETS, PRETRAINED_MODELS, Asset, PretrainedModel
from moca_avs.hub.huggingface import WEIGHTS_VARIABLE, ModelSources, lacking, local_folder
from moca_avs.hub.pypi import needs_network, package_file

PATIENCE = 2.0
"""Seconds that the Hub has to answer, if ``HF_HUB_ETAG_TIMEOUT`` does not say otherwise."""


def missing_weights(names: Iterable[str], sources: ModelSources) -> list[Asset | PretrainedModel]:
    """Those that are not whole here; asks nobody.

    Args:
        names: keys of `moca_avs.hub.catalog.ASSETS` and `PRETRAINED_MODELS`.
        sources: where foundation models come from.

    Raises:
        WeightsError: where the weights folder that is named is not there.
    """
    missing: list[Asset | PretrainedModel] = []
    for name in names:
        if name in ASSETS:
            if needs_network(ASSETS[name]):
                missing.append(ASSETS[name])
            continue
        folder = local_folder(name, sources)
        if folder is None or lacking(name, folder):
            missing.append(PRETRAINED_MODELS[name])
    return missing


def describe_missing(item: Asset | PretrainedModel, sources: ModelSources) -> str:
    """One line: what is missing, how large it is, where it comes from, and how to get it by hand."""
    if isinstance(item, Asset):
        return (
            f"{item.name}: {item.title}, {item.megabytes:.0f} MB, from PyPI, project {item.package} "
            f"{item.version}; by hand: put {item.archive} into {download_dir()}"
        )
    source, folder = sources.source(item.name), local_folder(item.name, sources)
    size = (
        f"{item.megabytes} MB" if source == item.hub else f"size unknown (of {item.hub}: {item.megabytes} MB)"
    )
    found = "" if folder is None else f" ({folder} lacks {', '.join(lacking(item.name, folder))})"
    return (
        f"{item.name}: {item.title}, {size}, from the Hub, {source}{found}; by hand: `hf download {source} "
        f"--local-dir WEIGHTS/{item.name}`, so that WEIGHTS/{item.name}/ holds {', '.join(item.files)}"
    )


def require_weights(names: Iterable[str], sources: ModelSources) -> None:
    """See that what is missing can be fetched: the Hub is asked whether it answers, PyPI's files come now.

    What lies in a folder that was given and lacks files is left to whoever loads it.

    Raises:
        WeightsError: where the Hub does not answer or a file can't be fetched; it names *all* that is.
    """
    missing = missing_weights(names, sources)
    asked = [item for item in missing if isinstance(item, Asset) or not _given(item, sources)]
    why = hub_trouble() if any(isinstance(item, PretrainedModel) for item in asked) else ""
    try:
        for item in asked if not why else ():
            if isinstance(item, Asset):
                package_file(item)
    except WeightsError as error:
        why = str(error)
    if why:
        total = sum(item.megabytes for item in missing)
        listed = "".join(f"\n  {describe_missing(item, sources)}" for item in missing)
        raise WeightsError(
            f"weights are not here and could not be fetched ({why}); there are missing {len(missing)}, "
            f"{total:.0f} MB in all:{listed}\nget them on a machine with a network, then give WEIGHTS with "
            f"--weights (or {WEIGHTS_VARIABLE}); with a full Hub cache set HF_HUB_OFFLINE=1"
        )


def _given(item: PretrainedModel, sources: ModelSources) -> bool:
    return Path(sources.source(item.name)).expanduser().exists()


def hub_trouble() -> str:
    """Why the Hub can't be reached, "" where it answers; takes `PATIENCE`, whatever proxy or name server."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    patience = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or PATIENCE)
    late = time.monotonic() + patience
    found = [f"the Hub did not answer within {patience:g} s; HF_HUB_ETAG_TIMEOUT gives it longer"]

    def ask() -> None:
        from huggingface_hub.errors import HTTPError
        from huggingface_hub.utils import get_session

        try:
            get_session().head(constants.ENDPOINT, timeout=patience)
        except (OSError, HTTPError) as error:
            if time.monotonic() < late:  # a time limit that ran out says "did not answer", as above
                found.append(f"the Hub can't be reached: {first_line(error)}")
        else:
            found.append("")

    # A thread, because no time limit of a library counts the name server's.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(patience)
    return found[-1]
