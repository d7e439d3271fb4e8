import pytest
import torch

from moca_avs.devices import choose_device
from moca_avs.errors import UsageError


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
