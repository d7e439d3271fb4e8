import os

import pytest
import torch

from helpers import TESTS
from helpers.tiny_encoders import TINY

collect_ignore = ["helpers"]  # --doctest-modules would import them a second time, under another name

# What tests start as processes of their own finds `helpers` too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))


@pytest.fixture(params=list(TINY))
def encoder(request):
    """Each kind of tiny encoder in turn."""
    return TINY[request.param]()


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
