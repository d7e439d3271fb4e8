"""Training: losses fall, equal seeds give equal bits, a killed run goes on as if nothing had happened."""

import json
from dataclasses import replace
from statistics import median

import pytest
import torch

from helpers.color_world import ColorPairs
from moca_avs.errors import DataError, UsageError, WeightsError
from moca_avs_bench.ssl import COMPARATORS, ComparatorConfig
from moca_avs_bench.ssl.backbone import ResNet18
from moca_avs_bench.ssl.method import load_comparator, new_system, read_system
from moca_avs_bench.ssl.train import train_comparator

TINY = ComparatorConfig(steps=2, batch=4, image_size=32, seconds=0.1, checkpoint_every=1)


def weights(folder):
    return read_system(folder).system.state_dict()


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", COMPARATORS)
def test_the_loss_falls(name, tmp_path):
    config = replace(TINY, steps=12, lr=3e-4, augment=False, checkpoint_every=100)
    data = ColorPairs(clips=3)  # one of each kind: two of a kind could not be told apart
    folder = train_comparator(name, data, tmp_path / "run", config)
    found = losses(folder)
    assert len(found) == 12
    assert median(found[-4:]) < 0.75 * median(found[:4])
    assert sorted(path.name for path in folder.iterdir()) == [
        "comparator.safetensors",
        "config.json",
        "log.jsonl",
    ]
    trained = load_comparator(folder).trained
    assert trained.system.name == name
    assert trained.config == config
    assert trained.data == data.fingerprint()


@pytest.mark.parametrize("name", COMPARATORS)
def test_equal_seeds_give_equal_bits_and_others_do_not(name, tmp_path):
    config = replace(TINY, steps=1)
    first, second, other = (
        weights(train_comparator(name, ColorPairs(), tmp_path / str(run), replace(config, seed=seed)))
        for run, seed in enumerate((0, 0, 1))
    )
    assert same(first, second)
    assert not same(first, other)


class Interrupted(ColorPairs):
    """Somebody presses Ctrl-C after so many frames."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def frame(self, index):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().frame(index)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path):
    config = replace(TINY, steps=3, checkpoint_every=2)
    whole = train_comparator("mix-and-localize", ColorPairs(), tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):  # in the third step
        train_comparator("mix-and-localize", Interrupted(after=9), tmp_path / "cut", config)
    assert (tmp_path / "cut/state.pt").exists()
    assert not (tmp_path / "cut/comparator.safetensors").exists()
    with pytest.raises(UsageError, match="resume it"):
        train_comparator("mix-and-localize", ColorPairs(), tmp_path / "cut", config)
    cut = train_comparator("mix-and-localize", ColorPairs(), tmp_path / "cut", config, resume=True)
    assert same(weights(whole), weights(cut))
    assert losses(whole) == losses(cut)
    before = (cut / "comparator.safetensors").stat().st_mtime_ns
    train_comparator("mix-and-localize", ColorPairs(), cut, config, resume=True)  # finished: left alone
    assert (cut / "comparator.safetensors").stat().st_mtime_ns == before


def test_a_folder_of_another_run_and_a_damaged_state_are_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_comparator("ez-vsl", Interrupted(after=5), tmp_path / "run", TINY)
    for name, data, config, part in (
        ("lvs", ColorPairs(), TINY, "system"),
        ("ez-vsl", ColorPairs(seed=1), TINY, "data"),
        ("ez-vsl", ColorPairs(), replace(TINY, seed=5), "training"),
    ):
        with pytest.raises(UsageError, match=f"holds a run with other {part} settings"):
            train_comparator(name, data, tmp_path / "run", config, resume=True)
    state = tmp_path / "run/state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="damaged"):
        train_comparator("ez-vsl", ColorPairs(), tmp_path / "run", TINY, resume=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="new or empty"):
        train_comparator("ez-vsl", ColorPairs(), tmp_path / "full", TINY)


def test_a_backbone_is_where_the_image_network_starts(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        source = ResNet18()
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    config = replace(TINY, steps=1, lr=0.0, backbone=str(tmp_path / "resnet18.pth"))
    found = weights(train_comparator("lvs", ColorPairs(), tmp_path / "run", config))
    start = new_system("lvs", 0).state_dict()
    assert torch.equal(found["image_net.conv1.weight"], source.conv1.weight)
    assert not torch.equal(start["image_net.conv1.weight"], source.conv1.weight)
    assert torch.equal(found["sound_net.conv1.weight"], start["sound_net.conv1.weight"])
    with pytest.raises(WeightsError, match="not there"):
        train_comparator("lvs", ColorPairs(), tmp_path / "no", replace(config, backbone="nowhere.pth"))


def test_a_batch_holds_each_clip_once_and_mixtures_hear_another_moment():
    from moca_avs_bench.ssl.train import _Clips

    data = ColorPairs(clips=5)
    clips = _Clips(data, replace(TINY, batch=64, augment=False), mixed=2)
    assert clips.size == 4  # of 5 clips, in pairs
    batch = clips.draw(0)
    moments = {}
    for row in range(len(data)):
        sound = torch.from_numpy(data.sounds[row])
        middle = sound[len(sound) // 2 - 800 : len(sound) // 2 + 800]
        moments[row] = middle
    own = [next(r for r, m in moments.items() if torch.equal(m, sound)) for sound in batch.sounds]
    other = [next(r for r, m in moments.items() if torch.equal(m, sound)) for sound in batch.others]
    assert len({row // 2 for row in own}) == 4
    assert [row ^ 1 for row in own] == other
    assert torch.equal(clips.draw(0).images, batch.images)
    assert not torch.equal(clips.draw(1).sounds, batch.sounds)


def test_torchs_own_generator_is_left_alone(tmp_path):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train_comparator("ez-vsl", ColorPairs(), tmp_path / "run", replace(TINY, steps=1))
    assert torch.equal(before, torch.get_rng_state())


def test_what_can_not_be_trained_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no comparator named"):
        train_comparator("avsbench", ColorPairs(), tmp_path / "run", TINY)
    with pytest.raises(DataError, match="found 1"):
        train_comparator("lvs", ColorPairs(clips=1), tmp_path / "run", TINY)
    assert not (tmp_path / "run").exists()
    for bad in ({"steps": 0}, {"batch": 1}, {"lr": -1.0}, {"image_size": 100}, {"seed": -1}, {"seconds": 0}):
        with pytest.raises(UsageError):
            replace(TINY, **bad)
    with pytest.raises(UsageError, match="unknown comparator settings"):
        ComparatorConfig.from_dict({"margin": 1})


def test_each_system_has_its_own_rate_and_batch(tmp_path):
    for name, rate in (("ez-vsl", 1e-4), ("lvs", 1e-4), ("mix-and-localize", 1e-4)):
        system = type(new_system(name, 0))
        assert (system.lr, system.batch) == (rate, 128)
    sizes = {name: sum(p.numel() for p in new_system(name, 0).parameters()) / 1e6 for name in COMPARATORS}
    assert {name: round(size, 1) for name, size in sizes.items()} == {
        "ez-vsl": 22.9,
        "lvs": 22.3,
        "mix-and-localize": 22.6,
    }


def test_a_run_of_another_start_is_not_taken_for_this_one(tmp_path):
    folder = train_comparator("lvs", ColorPairs(), tmp_path / "run", TINY)
    train_comparator("lvs", ColorPairs(), folder, TINY, resume=True)
    config = json.loads((folder / "config.json").read_text())
    del config["training"]["revision"]  # as batch norms that started at 1 were trained
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="revision = None there"):
        train_comparator("lvs", ColorPairs(), folder, TINY, resume=True)
