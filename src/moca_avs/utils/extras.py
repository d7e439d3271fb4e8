"""Optional packages: which extra of the distribution brings them, and what needs them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable

from moca_avs.errors import UsageError

EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "ray": (("ray",), "moca segment --engine ray"),
    "stamps": (("resvg_py", "zstandard"), "moca data stamps, and every --root stamps until it is built"),
    "web": (("aiohttp",), "inputs on the web, http:// and https://"),
    "faiss": (("faiss",), "neighbour_search=faiss"),
    "fuzz": (("atheris",), "make fuzz-guided"),
}
"""Extra -> modules that it brings, and what that is for."""


def lacking_modules(modules: Iterable[str]) -> list[str]:
    """Those that are not installed; imports none."""
    return [module for module in modules if not _here(module)]


def require_extra(extra: str, what: str) -> None:
    """See that an extra is installed.

    Args:
        extra: a key of `EXTRAS`.
        what: what needs it, for the error.

    Raises:
        UsageError: naming what is missing and what to install.
    """
    if lacking := [module.replace("_", "-") for module in lacking_modules(EXTRAS[extra][0])]:
        raise UsageError(
            f"{what} needs {' and '.join(lacking)}, not installed here: pip install 'moca-avs[{extra}]'"
        )


def _here(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    return importlib.util.find_spec(module) is not None
