"""Scripts of `recipes/` and `benchmarks/` as modules."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


@contextmanager
def script_module(path: str, name: str) -> Iterator[ModuleType]:
    """A script as the module `name`, its folder on the path as when it is run; neither stays.

    Args:
        path: below the repository's root.
        name: one that no other module has.
    """
    file = ROOT / path
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[name]
        sys.path.remove(str(file.parent))
