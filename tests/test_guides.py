"""The Python examples of docs/guides run, one page after the other, on small media and a small encoder."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from helpers import TESTS
from helpers.media_files import bark, images, make_image, make_video, training_videos

ROOT = TESTS.parent
GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
PRESET = "colors-and-pitch"
SMALLER = {
    '"lite"': f'"{PRESET}"',
    "steps=500": "steps=2, batch=2, count=1, neighbours=1",
}
MANIFEST = (
    'file,time_s,kind,sounding_boxes,silent_boxes\n0.mp4,0.5,dog,"0,0,.5,.5",\n1.mp4,0.5,drum,"0,0,.5,.5",\n'
)


@pytest.fixture
def folder(tmp_path):
    """What the pages name: band.mp4, videos/, DATA/, examples/."""
    frames = images(10, 96, 128)
    make_video(tmp_path / "band.mp4", frames, bark(2), fps=5)
    training_videos(tmp_path / "videos")
    (tmp_path / "videos/manifest.csv").write_text(MANIFEST, encoding="utf-8")
    for side, count in (("test", 2), ("train", 3)):
        for index in range(count):
            make_video(tmp_path / f"DATA/{side}/{index}.mp4", frames, bark(2, seed=index), fps=5)
            mask = np.zeros((96, 128), np.uint8)
            mask[32:64, 16:48] = 255
            make_image(tmp_path / f"DATA/{side}/{index}.png", mask)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_the_python_examples_of_a_guide_run(page, folder):
    """All blocks of a page in one program, in a process of its own: a guide may register parts."""
    code = "\n".join(PYTHON.findall(page.read_text(encoding="utf-8")))
    for long, short in SMALLER.items():
        code = code.replace(long, short)
    (folder / "page.py").write_text(code, encoding="utf-8")
    environment = os.environ | {"MOCA_AVS_PLUGINS": str(ROOT / "examples/toy_encoder.py")}
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    if page.stem == "own_videos":
        assert json.loads((folder / "coco.json").read_text())["categories"][0]["name"] == "sounding object"
