import importlib.util
import os

import pytest

from helpers import TESTS

# What tests start as processes of their own finds `helpers` too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
# Read as numpy is imported: its products are small here, and threads would mostly wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from helpers.tiny_encoders import TINY

collect_ignore = ["helpers"]  # --doctest-modules would import them a second time, under another name
if importlib.util.find_spec("resource") is None:  # Windows: what limits memory or disks, and names signals
    collect_ignore += ["training/test_feature_cache.py", "training/test_checkpoint.py", "io/test_results.py"]
    collect_ignore += ["end_to_end/test_segment.py", "bench/evaluation/test_evaluate_runs.py"]


@pytest.fixture(params=list(TINY))
def encoder(request):
    """Each kind of tiny encoder in turn."""
    return TINY[request.param]()


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
