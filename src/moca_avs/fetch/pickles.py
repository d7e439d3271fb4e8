"""Read a pickle that may hold numpy arrays and plain containers, and nothing else."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from moca_avs.errors import WeightsError

_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
}


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler that knows numpy's array constructors only, so a pickle can't run code."""

    def __init__(self, handle: IO[bytes], source: str) -> None:
        super().__init__(handle, encoding="latin1")  # written by Python 2
        self.source = source

    def find_class(self, module: str, name: str) -> Any:
        """Look a global up among numpy's own; refuse any other without importing it."""
        if (module, name) not in _ALLOWED:
            raise WeightsError(
                f"{self.source} holds a pickle that asks for {module}.{name}: refused; "
                "only numpy arrays are read, so this file is damaged or not what it claims to be"
            )
        return _ALLOWED[module, name]


def read_pickled_arrays(path: Path) -> Any:
    """What a ``.npy`` file with a pickled object holds: nested dicts and lists of numpy arrays.

    Raises:
        WeightsError: if the pickle asks for anything but numpy arrays, or is damaged.
    """
    with path.open("rb") as handle:
        try:
            np.lib.format.read_magic(handle)
            np.lib.format.read_array_header_1_0(handle)
            found = ArrayUnpickler(handle, path.name).load()
        except (ValueError, EOFError, pickle.UnpicklingError, TypeError) as error:
            raise WeightsError(f"{path} is no pickled numpy file ({error}); delete it, run again") from error
    return found.item() if isinstance(found, np.ndarray) and found.ndim == 0 else found
