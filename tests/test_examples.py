"""The examples run as their first lines say, in a process of their own: nothing but the plugin is named."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from helpers import TESTS
from helpers.media_files import bark, make_video, make_wav
from moca_avs import Segmentation
from moca_avs.io.image import write_image

EXAMPLES = TESTS.parent / "examples"


def moca(plugin, *arguments):
    environment = os.environ | {"MOCA_AVS_PLUGINS": str(EXAMPLES / plugin)}
    command = [sys.executable, "-m", "moca_avs", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tone(hertz, seconds, rate=8000):
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.fixture
def two_colors():
    """A red and a blue half: uint8 [T, H, W, 3]."""
    frames = np.full((10, 64, 96, 3), 110, np.uint8)
    frames[:, :, :40], frames[:, :, 56:] = (220, 40, 40), (40, 40, 220)
    return frames


def test_an_encoder_of_ones_own_segments_trains_and_is_used(tmp_path, two_colors):
    for name, hertz in (("low", 150), ("high", 2500), ("other", 160), ("more", 2400)):
        make_video(tmp_path / "videos" / f"{name}.mp4", two_colors, tone(hertz, 2), 8000, fps=5)
    preset = ("--preset", "colors-and-pitch", "--device", "cpu")
    out = moca("toy_encoder.py", "segment", tmp_path / "videos", "-o", tmp_path / "out", *preset)
    assert "method: frozen" in out
    red = Segmentation.load(tmp_path / "out" / "low")
    blue = Segmentation.load(tmp_path / "out" / "high")
    assert red.masks[0, 32, 10]
    assert not red.masks[0, 32, 90]
    assert blue.masks[0, 32, 90]
    assert not blue.masks[0, 32, 10]
    run = tmp_path / "run"
    moca(
        *("toy_encoder.py", "train", "--data", tmp_path / "videos", "--out", run, *preset),
        *("--steps", 2, "--batch", 2, "--count", 1, "--neighbours", 1),
    )
    out = moca(
        "toy_encoder.py", "segment", tmp_path / "videos" / "low.mp4", "-o", tmp_path / "mine", "--preset", run
    )
    assert "method: moca" in out  # a run's own adapters are used


def test_a_method_of_ones_own_segments_and_takes_its_settings(tmp_path, two_colors):
    video = make_video(tmp_path / "a.mp4", two_colors, bark(2), fps=5)
    moca(
        *("center_method.py", "segment", video, "-o", tmp_path / "out"),
        *("--method", "center-disk", "--set", "radius=0.25"),
    )
    result = Segmentation.load(tmp_path / "out" / "a")
    assert (result.settings["method"], result.settings["radius"]) == ("center-disk", 0.25)
    assert result.masks[0, 32, 48]
    assert abs(result.masks[0].mean() - np.pi * 16**2 / (64 * 96)) < 0.01


def test_a_dataset_of_ones_own_is_evaluated_by_a_method_of_ones_own(tmp_path, two_colors):
    for clip in ("one", "two"):
        home = tmp_path / "data" / "test" / clip
        mask = np.zeros((64, 96), np.uint8)
        mask[16:48, 32:64] = 255
        for index in range(2):
            write_image(home / "frames" / f"{index:03d}.jpg", two_colors[index])
            write_image(home / "masks" / f"{index:03d}.png", mask)
        make_wav(home / "audio.wav", bark(2))
    both = f"{EXAMPLES / 'folder_dataset.py'},{EXAMPLES / 'center_method.py'}"
    moca(
        *(both, "eval", "--dataset", "my-folder", "--root", tmp_path / "data"),
        *("--method", "center-disk", "--no-foreground", "--out", tmp_path / "report.json"),
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["dataset"], report["samples"]) == ("my-folder", 2)
