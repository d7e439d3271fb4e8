"""Reads published checkpoints strictly and without a second copy in memory, and names them by a hash.

What the two frozen convolutional networks of `lite` share: folding batch norm, strict loading.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moca_avs.errors import WeightsError, first_few, first_line
from moca_avs.hub.cache import cache_dir
from moca_avs.hub.weight_files import read_safetensors, tensors_sha256
from moca_avs.utils.files import atomic_write, parse_json

# All that torch's reader raises at random damage (found by trying); OSError where there is no file.
_DAMAGE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    MemoryError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """A state dict: ``.safetensors``, or what ``torch.save`` wrote.

    The tensors are mapped from the file, not copied (pages that are never used are never read), so the file
    must stay as it is while they are in use; replacing it by another one is fine.

    Raises:
        WeightsError: the file is missing, damaged, asks for more than tensors (a pickle with code, which
            is not run), or holds no state dict.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    try:
        mapped = zipfile.is_zipfile(path)  # the format of torch before 1.6 can't be mapped
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols it may not read
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        refused = "GLOBAL" in str(error) or "Unsupported" in str(error)
        why = "it asks for more than tensors, which is refused" if refused else "it is damaged"
        raise WeightsError(f"{path} is no state dict: {why}; get the file again from its source") from error
    except _DAMAGE as error:
        raise WeightsError(
            f"{path} can't be read as a checkpoint ({first_line(error)}); it is missing, cut short or no "
            "checkpoint: get the file again from its source"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} must hold a plain state dict (name -> tensor), found something else")
    return state


def read_json(path: Path) -> dict[str, Any]:
    """A config.json: an object; {} where there is no such file.

    Raises:
        WeightsError: if it is damaged or no object.
    """
    if not path.is_file():
        return {}
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} is no readable JSON ({error}); get the file again") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} must hold a JSON object, found {type(found).__name__}")
    return found


def check_state(
    title: str, path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Sequence[int]]
) -> None:
    """Compare names, shapes and kinds.

    Args:
        title: of the model, for the message.
        path: of its file.
        found: what the file holds, without what is allowed to be left over.
        expected: name -> shape.

    Raises:
        WeightsError: names the first tensors that are missing, of another shape, no floats, or unknown.
    """
    missing = [name for name in expected if name not in found]
    if missing:
        raise WeightsError(
            f"{path} lacks {first_few(missing)} of {title}: it is another model's file, or only a part of it"
        )
    unknown = sorted(set(found) - set(expected))
    if unknown:
        raise WeightsError(
            f"{path} holds {first_few(unknown)}, which {title} does not have: it is another model's"
        )
    odd = [
        f"{name} {list(found[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if list(found[name].shape) != list(shape)
    ]
    if odd:
        raise WeightsError(f"{path} has other shapes than {title}: {first_few(odd)}")
    whole = [f"{name} {found[name].dtype}" for name in expected if not found[name].is_floating_point()]
    if whole:
        raise WeightsError(f"{path} must hold floating-point weights of {title}, found {first_few(whole)}")


def assign(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put tensors into a module built on the meta device, as float32, without copying float32 ones."""
    module.load_state_dict({name: value.to(torch.float32) for name, value in state.items()}, assign=True)
    module.requires_grad_(False)
    module.eval()


def checkpoint_hash(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """`tensors_sha256` of the used tensors of a file, computed once per file.

    Hashing gigabytes takes seconds, so the result is remembered in the cache under the file's real path,
    size and time of change, and the tensors' names, types and shapes. Every byte was read when it was
    computed; a file changed later with its old size and time put back would not be noticed.
    """
    path = path.resolve()
    stat = path.stat()
    shapes = [(name, str(tensors[name].dtype), list(tensors[name].shape)) for name in sorted(tensors)]
    key = json.dumps([str(path), stat.st_size, stat.st_mtime_ns, shapes])
    note = cache_dir() / "hashes" / hashlib.sha256(key.encode()).hexdigest()
    with suppress(OSError, UnicodeDecodeError):
        remembered = note.read_text(encoding="ascii")
        if len(remembered) == 64:
            return remembered
    digest = tensors_sha256(tensors)
    # A cache that can't be written only costs the time of hashing again.
    with suppress(OSError), atomic_write(note, explain=False) as partial:
        partial.write_text(digest, encoding="ascii")
    return digest


@dataclass(frozen=True)
class BatchNorm:
    """Frozen statistics of a batch norm, each [C]."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor
    eps: float

    def fold(self, kernel: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Kernel [C, ...] and bias [C] of the one convolution that equals convolution, then this norm."""
        scale = self.weight.double() / torch.sqrt(self.var.double() + self.eps)
        shift = self.bias.double() - self.mean.double() * scale
        if bias is not None:
            shift = shift + bias.double() * scale
        folded = kernel.double() * scale.reshape(-1, *([1] * (kernel.ndim - 1)))
        return folded.float(), shift.float()


class StateReader:
    """Hands out the tensors of a state dict by name and shape, and knows which were never asked for."""

    def __init__(self, state: Mapping[str, Tensor], title: str) -> None:
        self.state = dict(state)
        self.title = title

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor `name`; raises WeightsError if it is missing or of another shape."""
        if name not in self.state:
            raise WeightsError(f"the weights of {self.title} lack {name}; they belong to another model")
        tensor = self.state.pop(name)
        if tuple(tensor.shape) != shape:
            raise WeightsError(
                f"{name} of {self.title} must be {list(shape)}, found {list(tensor.shape)}; "
                "the weights belong to another model"
            )
        return tensor

    def finish(self) -> None:
        """Raise WeightsError if tensors are left over."""
        if self.state:
            raise WeightsError(
                f"the weights of {self.title} hold {len(self.state)} unknown tensors "
                f"({', '.join(sorted(self.state)[:3])}, ...); they belong to another model"
            )
