"""Pairs in DINO's space: training reads the named weights, and its table knows what it was made from."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from helpers.tiny_pretrained import write_tiny_dino
from helpers.tiny_training import TinyData, TinyEncoder, config
from moca_avs.errors import DataError, UsageError, WeightsError
from moca_avs.hub.huggingface import ModelSources
from moca_avs.model.pairing import NeighbourTable, neighbour_table
from moca_avs.training.config import TrainConfig
from moca_avs.training.distributed import DistributedContext
from moca_avs.training.pairs import BATCH, DinoFeatures, embed_rows, with_pairing
from moca_avs.training.trainer import train


@pytest.fixture
def sources(tmp_path):
    return ModelSources(write_tiny_dino(tmp_path / "weights" / "dino").parent)


def run(out, sources, **changes):
    chosen = config(steps=1, checkpoint_every=1, **changes)
    return train(TinyEncoder(), TinyData(), chosen, out, progress=False, sources=sources)


def table(folder):
    return NeighbourTable.load(folder / "pairs.safetensors")


def test_auto_is_dino_for_imagebind_and_the_encoders_own_for_lite():
    assert TrainConfig().pairing == "auto"
    assert with_pairing(TrainConfig(), "imagebind").pairing == "dino"
    assert with_pairing(TrainConfig(), "lite").pairing == "encoder"
    assert with_pairing(TrainConfig(pairing="encoder"), "imagebind").pairing == "encoder"


def test_the_table_is_that_of_the_features(tmp_path, sources):
    data = TinyData()
    features = DinoFeatures(sources)
    single = torch.cat([features([data.frame(row)]) for row in range(len(data))])
    clips = [data.clip_id(row) for row in range(len(data))]
    found = table(run(tmp_path / "run", sources, pairing="dino"))
    assert torch.equal(found.neighbours, neighbour_table(single, clips, neighbours=4).neighbours)
    own = table(run(tmp_path / "own", sources))
    assert not torch.equal(found.neighbours, own.neighbours)
    assert found.fingerprint != own.fingerprint
    assert json.loads((tmp_path / "own" / "config.json").read_text())["training"]["pairing"] == "encoder"


def test_few_images_are_in_memory_at_once(sources):
    data, seen = TinyData(), []
    features = DinoFeatures(sources)

    def watched(frames):
        seen.append(len(frames))
        return features(frames)

    found = embed_rows(watched, data, range(36), progress=False, context=DistributedContext())
    assert found.shape == (36, 16)
    assert seen == [BATCH, BATCH, 36 - 2 * BATCH]
    assert data.reads == 36


def test_a_folder_may_be_named_and_other_weights_make_another_table(tmp_path, sources):
    other = write_tiny_dino(tmp_path / "other", seed=1)
    first = table(run(tmp_path / "first", sources, pairing="dino"))
    second = table(run(tmp_path / "second", sources, pairing=str(other)))
    assert first.fingerprint != second.fingerprint
    assert not torch.equal(first.neighbours, second.neighbours)


def test_a_table_from_other_weights_is_refused(tmp_path, sources):
    out = run(tmp_path / "run", sources, pairing="dino")
    (out / "adapters.safetensors").unlink()  # as if it was stopped before the end
    write_tiny_dino(tmp_path / "weights" / "dino", seed=1)
    chosen = config(steps=1, checkpoint_every=1, pairing="dino")
    with pytest.raises(DataError, match="was made from"):
        train(TinyEncoder(), TinyData(), chosen, out, True, progress=False, sources=sources)


def test_missing_weights_are_told_before_any_work(tmp_path):
    data = TinyData()
    chosen = config(steps=1, pairing=str(tmp_path / "gone"))
    with pytest.raises(WeightsError, match="is no folder here and no Hub id"):
        train(TinyEncoder(), data, chosen, tmp_path / "run", progress=False)
    assert data.reads == 0


def test_faiss_finds_the_same_or_says_how_to_get_it():
    features = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    clips = [f"clip {row // 3}" for row in range(60)]
    if find_spec("faiss"):
        found = neighbour_table(features, clips, neighbours=5, engine="faiss", chunk=7)
        assert torch.equal(found.neighbours, neighbour_table(features, clips, neighbours=5).neighbours)
    else:
        with pytest.raises(UsageError, match=r"pip install 'moca-avs\[faiss\]'"):
            neighbour_table(features, clips, engine="faiss")
    with pytest.raises(UsageError, match="engine must be exact or faiss, found 'annoy'"):
        neighbour_table(features, clips, engine="annoy")


@pytest.mark.parametrize("same_clip", [False, True])
def test_answers_of_an_index_are_cut_to_what_is_allowed(same_clip):
    from moca_avs.model.pairing import _allowed

    rng = np.random.default_rng(0)
    clips = torch.arange(12) // 3
    answers = torch.from_numpy(np.stack([rng.permutation(12) for _ in range(5)]))[:, :8]
    found = _allowed(answers, clips, 4, 3, same_clip)
    for offset, row in enumerate(found.tolist()):
        image = 4 + offset
        left = [
            a for a in answers[offset].tolist() if (a != image if same_clip else clips[a] != clips[image])
        ]
        assert row == (left + [-1] * 3)[:3]
