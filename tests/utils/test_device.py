import pytest
import torch

from moca_avs.errors import UsageError
from moca_avs.utils.device import choose_device, choose_precision, own_device


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [
        (True, True, ("cuda", "an NVIDIA GPU is here (Card)")),
        (False, True, ("mps", "an Apple GPU is here")),
        (False, False, ("cpu", "torch sees no GPU here")),
    ],
)
def test_auto_takes_the_best_that_is_here_and_says_why(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto") == expected


def test_what_is_asked_for_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cpu") == ("cpu", "asked for")
    assert choose_device("cuda:1")[0] == "cuda:1"


@pytest.mark.parametrize(
    ("name", "said"), [("abacus", "is no device"), ("cuda:2", "is not here"), ("mps", "is not here")]
)
def test_what_is_not_here_is_refused(monkeypatch, name, said):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=said):
        choose_device(name)


@pytest.mark.parametrize(
    ("device", "capability", "expected"),
    [
        ("cpu", None, torch.float32),
        ("mps", None, torch.float32),
        ("cuda", (9, 0), torch.bfloat16),
        ("cuda:1", (8, 0), torch.bfloat16),
        ("cuda", (7, 5), torch.float16),
        ("cuda", (6, 1), torch.float32),
    ],
)
def test_auto_takes_the_precision_a_device_is_good_at_and_says_why(monkeypatch, device, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    dtype, why = choose_precision("auto", device)
    assert dtype == expected
    assert "faster on a" in why if capability is None else f"{capability[0]}.{capability[1]}" in why


def test_a_precision_asked_for_is_taken_or_refused():
    assert choose_precision("float16", "cpu") == (torch.float16, "asked for")
    with pytest.raises(UsageError, match="bfloat16"):
        choose_precision("half", "cpu")
    with pytest.raises(UsageError, match="float64"):
        choose_precision("float64", "mps")


def test_each_process_of_torchrun_takes_its_own_gpu(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert own_device("cuda") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [own_device(name) for name in ("cuda", "cuda:0", "cpu")] == ["cuda:1", "cuda:0", "cpu"]
