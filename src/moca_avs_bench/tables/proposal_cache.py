"""Proposals kept on disk: no image is searched twice, whichever method, row or run asks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from moca_avs.hub.huggingface import ModelSources
from moca_avs.proposals import PROPOSERS
from moca_avs.proposals.base import Proposer, is_parallel
from moca_avs.utils.files import atomic_write

Builder = Callable[[ModelSources, str], Proposer]


class DiskCachedProposer:
    """A proposer whose answers lie on disk, packed to one bit a pixel, one file per image.

    Args:
        proposer: asked where an image is new.
        folder: one folder per proposer and settings is made inside.
    """

    def __init__(self, proposer: Proposer, folder: Path) -> None:
        self.proposer, self.settings = proposer, proposer.settings
        self.parallel = is_parallel(proposer)
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()
        self.folder = folder / digest[:16]

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> bool [P, H, W]."""
        key = hashlib.sha256(str(frame.shape).encode() + frame.tobytes()).hexdigest()
        file = self.folder / f"{key}.npz"
        if file.is_file():
            with np.load(file, allow_pickle=False) as saved:
                shape = tuple(saved["shape"])
                return np.unpackbits(saved["bits"], count=int(np.prod(shape))).reshape(shape).astype(bool)
        masks = self.proposer(frame)
        with atomic_write(file) as partial, partial.open("wb") as target:
            np.savez_compressed(target, bits=np.packbits(masks), shape=np.array(masks.shape))
        return masks


@contextmanager
def keep_proposals(folder: Path) -> Iterator[None]:
    """While it lasts, every proposer that is built by name keeps its answers in `folder`."""

    def keeping(build: Builder) -> Builder:
        return lambda sources, device: DiskCachedProposer(build(sources, device), folder)

    before = dict(PROPOSERS)
    PROPOSERS.update({name: keeping(build) for name, build in before.items()})
    try:
        yield
    finally:
        PROPOSERS.update(before)
