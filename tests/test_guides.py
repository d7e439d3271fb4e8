"""Guides and cards: Python examples run on small media and a small encoder; cards count what is there."""

import hashlib
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from helpers import TESTS
from helpers.media_files import bark, images, make_image, make_video, smooth
from moca_avs_bench.stamps.build import SIZES
from moca_avs_bench.stamps.media import Catalog
from moca_avs_bench.stamps.scenes import TIERS, Pool
from moca_avs_bench.stamps.splits import TEST, UNSEEN, VAL

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
    for index in range(4):  # in color: what is gray has no direction in the small encoder's space
        colored = np.stack([np.roll(smooth(48, 48), 4 * shift + 9 * index, axis=1) for shift in range(10)])
        make_video(tmp_path / f"videos/{index}.mp4", colored, bark(2, seed=index), fps=5)
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


def test_the_model_card_names_the_weights_that_ship():
    """Bytes and SHA-256 of each file, and every file of weights has its row."""
    card = (ROOT / "docs/cards/lite.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w./-]+)` \| (\d+) \| `([0-9a-f]{64})` \|$", card, re.MULTILINE)
    weights = ROOT / "src/moca_avs/weights"
    for name, size, digest in rows:
        content = (weights / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (int(size), digest), name
    shipped = {path.relative_to(weights).as_posix() for path in weights.rglob("*") if path.is_file()}
    assert {name for name, _, _ in rows} == {name for name in shipped if not name.endswith("config.json")}


def test_the_data_card_counts_what_is_there():
    """Clips per tier of the standard size; cut-outs and recordings of each side and media set."""
    card = (ROOT / "docs/cards/stamps.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines()]
    rows = {row[0]: row[1:] for row in cells if len(row) > 1}
    for tier in TIERS:
        pool = Pool.of(core := Catalog.load("core"), tier)
        assert rows[tier][2] == f"{len(pool.classes)} / {len(pool.units())}"
        assert [int(cell) for cell in rows[tier][3:]] == [
            SIZES["standard"][k][tier] for k in ("s4", "ms3", "v2")
        ]
    for title, side in (("validation", VAL), ("test", TEST), ("unseen classes", UNSEEN)):
        sounds = [sound for sound in core.sounds if sound.side == side]
        assert rows[title][0] == str(sum(cutout.side == side for cutout in core.cutouts))
        assert rows[title][1] == f"{len({sound.group for sound in sounds})} ({len(sounds)})"
    for media in ("core", "full"):
        pool = Pool.of(Catalog.load(media), "train")
        found = f"{len(pool.units())}, {sum(map(len, pool.cutouts.values()))}"
        assert rows[f"`{media}`"][1] == found
