"""Puts this folder on the import path (pytest does that for a conftest's folder): helpers are shared."""

import pytest
import torch

from tiny_encoders import TINY


@pytest.fixture(params=list(TINY))
def encoder(request):
    """Each kind of tiny encoder in turn."""
    return TINY[request.param]()


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
