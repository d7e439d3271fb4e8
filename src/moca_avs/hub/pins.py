"""The Hub's revisions and SHA-256 of weights, noted at first use and held to from then on.

The Hub moves: a name may stand for other files tomorrow. Where a repository is first used its commit and the
SHA-256 of its weights (read from their bytes) are written to ``moca-avs-pins.json`` beside the Hub's cache;
that commit alone is asked for later, and other bytes under it are refused. Delete the repository's entry to
take a newer one.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from moca_avs.errors import WeightsError
from moca_avs.hub.cache import file_sha256
from moca_avs.utils.files import atomic_write, parse_json

PINS = "moca-avs-pins.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")
logger = logging.getLogger(__name__)


def pins_file() -> Path:
    """Where the notes lie: in ``HF_HOME``."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / PINS


def read_pins() -> dict[str, dict[str, Any]]:
    """Hub id -> {"revision": commit, "sha256": {file: hash}}.

    Raises:
        WeightsError: where the file is damaged.
    """
    file = pins_file()
    try:
        found = parse_json(file.read_text(encoding="utf-8"))
        return {
            str(source): {"revision": str(pin["revision"]), "sha256": dict(pin["sha256"])}
            for source, pin in found.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{file} can't be read ({error!r}); correct or delete it") from error


def pinned(source: str) -> dict[str, Any]:
    """{"revision": the commit of a Hub repository that was used first}; {} where it is new here."""
    pin = read_pins().get(source)
    return {} if pin is None else {"revision": str(pin["revision"])}


def check_pin(source: str, folder: Path, weights: Sequence[Path]) -> None:
    """Hold a snapshot in the Hub's cache to what was noted of it, or note it, if this is its first use.

    Args:
        source: the Hub id.
        folder: ``.../snapshots/COMMIT``; anything else is a folder of one's own, which nothing is known of.
        weights: its weight files.

    Raises:
        WeightsError: where the weights are others than at first use, or, at first use, than published.
    """
    if folder.parent.name != "snapshots" or not weights:
        return
    pin = read_pins().get(source)
    known = {} if pin is None or pin["revision"] != folder.name else pin["sha256"]
    found = {file.name: known.get(file.name) or file_sha256(file) for file in weights}
    for file in weights:
        if weight_sha256(file) != found[file.name]:
            raise WeightsError(
                f"{file} of {source} was first used with SHA-256 {found[file.name]}, found "
                f"{weight_sha256(file)}; delete it and run again, or, if the new one is meant, delete the "
                f"entry {source} of {pins_file()}"
            )
    if found != known:
        _note(source, {"revision": folder.name, "sha256": {**known, **found}})


def _note(source: str, pin: dict[str, Any]) -> None:
    file = pins_file()
    try:
        with FileLock(f"{file}.lock"):
            pins = {**read_pins(), source: pin}
            with atomic_write(file, explain=False) as partial:
                partial.write_text(json.dumps(pins, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:  # a cache that is shared and read-only serves all the same
        logger.warning(
            "moca: note: %s can't be written (%s): the revision of %s is not noted", file, error, source
        )


def weight_sha256(path: Path) -> str:
    """SHA-256 of a weight file; the Hub's cache names its large files by it, others are read once."""
    blob = path.resolve()
    if path.is_symlink() and _SHA256.fullmatch(blob.name):
        return blob.name
    state = blob.stat()
    return _read_sha256(blob, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _read_sha256(path: Path, size: int, changed: int) -> str:
    return file_sha256(path)
