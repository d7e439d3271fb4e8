import threading
from pathlib import Path

import pytest

from moca_avs.errors import WeightsError
from moca_avs.hub.cache import cache_dir, file_sha256, lock


def test_our_variable_comes_first_then_xdg_then_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("MOCA_AVS_CACHE", raising=False)
    assert cache_dir() == tmp_path / "home" / ".cache" / "moca-avs"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "moca-avs"
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path / "ours"))
    assert cache_dir() == tmp_path / "ours"
    assert cache_dir().is_dir()


def test_a_relative_cache_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOCA_AVS_CACHE", "here")
    assert cache_dir() == Path.cwd() / "here"


def test_a_cache_that_cannot_be_made_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match="set MOCA_AVS_CACHE"):
        cache_dir()


def test_a_lock_is_held_by_one_at_a_time(cache):
    order = []

    def second():
        with lock("x"):
            order.append("second")

    with lock("x"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_file_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(tmp_path / "abc") == known
