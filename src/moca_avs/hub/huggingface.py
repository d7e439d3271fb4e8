"""Foundation models: where their weights come from, and loading them strictly.

Weights lie in a folder (``WEIGHTS/<name>/``, laid out like the Hub's repository) or in the Hub's cache. They
are always loaded from files on this machine: what is missing is downloaded first, so a problem of the network
and a problem of the files are told apart.
"""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from moca_avs.errors import MocaError, WeightsError, first_few, first_line
from moca_avs.hub.catalog import pretrained_model
from moca_avs.hub.pins import check_pin, pinned, weight_sha256

WEIGHTS_VARIABLE = "MOCA_AVS_WEIGHTS"
_SMALL = ("*.json", "*.txt")
_SAFE = ("model.safetensors", "model-*.safetensors")
_WEIGHTS = (".safetensors", ".bin", ".pth")
_PICKLED = ("pytorch_model.bin", "pytorch_model-*.bin")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class ModelSources:
    """Where foundation models come from.

    Attributes:
        weights: a folder with one sub-folder per model; None takes ``$MOCA_AVS_WEIGHTS``, if set.
        models: name -> a folder or Hub id to use instead of the default.

    Raises:
        UsageError: if `models` names a model that does not exist.
    """

    weights: Path | None = None
    models: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.models:
            pretrained_model(name)

    def folder(self) -> Path | None:
        """The weights folder, from the argument or the environment; None without one.

        Raises:
            WeightsError: if it is not there.
        """
        chosen = self.weights or os.environ.get(WEIGHTS_VARIABLE)
        if not chosen:
            return None
        folder = Path(chosen).expanduser()
        if not folder.is_dir():
            raise WeightsError(
                f"there is no weights folder {folder}; make it, or correct --weights or {WEIGHTS_VARIABLE}"
            )
        return folder

    def source(self, name: str) -> str:
        """Folder or Hub id of a model: `models`, then the weights folder, then the model's own Hub id."""
        default = pretrained_model(name).hub
        if name in self.models:
            return self.models[name]
        folder = self.folder()
        return str(folder / name) if folder and (folder / name).is_dir() else default


def pretrained(cls: Any, name: str, sources: ModelSources, *, unused: str = "", **options: Any) -> Any:
    """``cls.from_pretrained`` of a transformers class, strictly and quietly.

    Args:
        cls: a model, processor, tokenizer or feature extractor class of transformers.
        name: of the foundation model.
        sources: where it comes from.
        unused: regular expression of parameters that may be missing from the weights, because the caller
            never uses them.
        options: for ``from_pretrained``. Models come in float32 and in ``eval()`` unless told otherwise.

    Returns:
        The loaded object.

    Raises:
        WeightsError: no network, no permission, no such model; files missing, damaged or of other shapes;
            a pickle that asks for more than tensors.
    """
    import torch
    from transformers import PreTrainedModel
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

    folder, title = model_folder(name, sources), pretrained_model(name).title
    if not (folder / "config.json").is_file():
        # transformers would go on with a model of the class's default size.
        raise WeightsError(f"{title}: {folder} holds no config.json; {next_step(name)}")
    vocabularies = tuple(getattr(cls, "vocab_files_names", {}).values())
    if vocabularies and not any((folder / file).is_file() for file in vocabularies):
        # ... or with a tokenizer that knows no word.
        raise WeightsError(f"{title}: {folder} holds no {' or '.join(vocabularies)}; {next_step(name)}")
    if not issubclass(cls, PreTrainedModel | _BaseAutoModelClass):
        with _loading(name, folder):
            return cls.from_pretrained(str(folder), **options)
    options = {"dtype": torch.float32, "trust_remote_code": False} | options
    with _loading(name, folder):
        model, info = cls.from_pretrained(
            str(folder), output_loading_info=True, ignore_mismatched_sizes=True, **options
        )

    # Every parameter must have come from the weights, in its shape, and no layer may be left over.
    def needed(key: str) -> bool:
        return not (unused and re.search(unused, key))

    mismatched = sorted(key for key in info["mismatched_keys"] if needed(key[0]))
    if mismatched:
        shapes = [f"{key} {list(found)} instead of {list(wanted)}" for key, found, wanted in mismatched]
        raise WeightsError(
            f"{title}: the weights in {folder} have other shapes than its config.json says: "
            f"{first_few(shapes)}; config.json and weights must come from one model: {next_step(name)}"
        )
    missing = sorted(filter(needed, info["missing_keys"]))
    if missing:
        raise WeightsError(
            f"{title}: the weights in {folder} lack {first_few(missing)}; they are another model's: "
            f"{next_step(name)}"
        )
    layer = re.compile(r"\.\d+\.")  # names that differ in a layer's number only are of one kind
    kinds = {layer.sub(".*.", key) for key in model.state_dict()}
    surplus = sorted(key for key in info["unexpected_keys"] if layer.sub(".*.", key) in kinds)
    if surplus:
        raise WeightsError(
            f"{title}: the weights in {folder} have more layers than its config.json says: "
            f"{first_few(surplus)}; config.json and weights must come from one model: {next_step(name)}"
        )
    return model


@contextmanager
def _loading(name: str, folder: Path) -> Iterator[None]:
    """Keep transformers' advice and bars off the terminal; make whatever loading raises a WeightsError."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers.utils import logging

    title = pretrained_model(name).title
    damage = (pickle.UnpicklingError, SafetensorError, EOFError, RuntimeError)
    others = (OSError, ValueError, TypeError, KeyError, AttributeError, StrictDataclassError)
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MocaError:
        raise
    except (*damage, *others) as error:
        # An OSError with a number is the system's, about the bytes; one without is transformers' own text.
        if isinstance(error, damage) or (isinstance(error, OSError) and error.errno is not None):
            refused = isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error).lower()
            why = "a pickle that asks for more than tensors: refused" if refused else first_line(error)
            raise WeightsError(
                f"{title}: the weights in {folder} are damaged, or not what they claim to be ({why}); delete "
                f"them and get them again: {next_step(name)}"
            ) from error
        raise WeightsError(
            f"{title}: {folder} can't be loaded ({first_line(error)}); {next_step(name)}"
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def model_folder(name: str, sources: ModelSources) -> Path:
    """The folder that holds a model's files, downloaded into the Hub's cache if need be.

    Raises:
        WeightsError: a given folder is not there, or the Hub can't be reached or refuses.
    """
    source = sources.source(name)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    here = local_folder(name, sources)
    if here is not None and not lacking(name, here):  # no network is asked about what is whole
        check_pin(source, here, weight_files(here))
        return here
    for patterns in (pretrained_model(name).files, _SAFE, _PICKLED):
        folder = _snapshot(name, source, (*_SMALL, *patterns))
        if weight_files(folder):
            break
    check_pin(source, folder, weight_files(folder))
    return folder


def local_folder(name: str, sources: ModelSources) -> Path | None:
    """The folder that holds a model's files now, complete or not; None where there is none. No network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    source = sources.source(name)
    folder = Path(source).expanduser()
    if folder.exists():
        return folder if folder.is_dir() else folder.parent  # ImageBind may be given as a file
    for file in (*pretrained_model(name).files, "config.json"):
        try:
            found = try_to_load_from_cache(source, file, **pinned(source))
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found).parent
    return None


def lacking(name: str, folder: Path) -> list[str]:
    """Names of the files that a model's folder still lacks; weights may lie there in any of their forms."""
    weighty = bool(weight_files(folder))
    return [
        file
        for file in pretrained_model(name).files
        if not (folder / file).is_file() and not (weighty and Path(file).suffix in _WEIGHTS)
    ]


def origin(name: str, sources: ModelSources) -> dict[str, Any]:
    """What a result says about a model it used: its name, its source, and the SHA-256 of its weight files.

    Raises:
        WeightsError: as `model_folder`.
    """
    folder = model_folder(name, sources)
    hashes = {file.name: weight_sha256(file) for file in weight_files(folder)}
    return {"model": name, "source": sources.source(name), "sha256": hashes}


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a model's folder, by name: safetensors, or pickled tensors where there are none."""
    for patterns in (_SAFE, ("*.safetensors",), _PICKLED, ("*.pth",)):
        found = sorted(file for pattern in patterns for file in folder.glob(pattern))
        if found:
            return found
    return []


def next_step(name: str) -> str:
    """What a user does to get a model's files here, in a sentence."""
    item = pretrained_model(name)
    return (
        f"on a machine with a network run `hf download {item.hub} --local-dir WEIGHTS/{name}`, so that the "
        f"folder WEIGHTS/{name}/ holds {', '.join(item.files)}, and give WEIGHTS with --weights (or "
        f"{WEIGHTS_VARIABLE}); with a full Hub cache set HF_HUB_OFFLINE=1"
    )


@lru_cache(maxsize=64)  # asked for several times in a row; a failure is not kept
def _snapshot(name: str, source: str, patterns: tuple[str, ...]) -> Path:
    """Download the matching files of a Hub repository, or take them from the Hub's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
    )

    title = pretrained_model(name).title
    if not _HUB_ID.fullmatch(source):
        raise WeightsError(f"{title}: {source!r} is no folder here and no Hub id like owner/name")
    try:
        # Not `hf_hub_download`: without a network it repeats itself for half a minute, loudly.
        return Path(snapshot_download(source, allow_patterns=list(patterns), **pinned(source)))
    except HFValidationError as error:
        raise WeightsError(f"{title}: {source!r} is no Hub id: {first_line(error)}") from error
    except GatedRepoError as error:
        raise WeightsError(
            f"{title} ({source}) is gated: accept its terms on its Hub page, run `hf auth login`, try again"
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsError(
            f"{title}: the Hub shows no {source}; correct the id, or, if it is private, run `hf auth login`"
        ) from error
    except (OSError, HTTPError) as error:  # of the disk, of the connection
        raise WeightsError(
            f"{title} ({source}) is not here and could not be fetched from the Hub ({first_line(error)}): "
            f"{next_step(name)}"
        ) from error
