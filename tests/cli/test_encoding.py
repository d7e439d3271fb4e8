"""A name that the terminal's encoding lacks is printed escaped, and everything else is done all the same."""

import io
import json
import os
import subprocess
import sys

import pytest

from helpers.media_files import bark, images, make_video
from moca_avs.cli import main

NAMES = ["Ünï ✓ 名前 #1%20?.mp4".encode(), b"bad\xff\xfe.mp4", b"plain.mp4"]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
PLUGIN = """
import numpy as np
from moca_avs import Segmentation, register_method
class Empty:
    settings = {"method": "empty"}
    def __call__(self, clip):
        n, h, w = clip.frames.shape[:3]
        masks, heat = np.zeros((n, h, w), bool), np.zeros((n, 2, 2), np.float16)
        return Segmentation(masks, heat, np.zeros(n, np.float32), ("quiet",) * n, clip.times, self.settings)
register_method("empty", lambda config, parts: Empty())
"""


def run(*arguments, **environment):
    command = [sys.executable, "-m", "moca_avs", *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False)


@pytest.fixture
def films(tmp_path):
    (tmp_path / "empty.py").write_text(PLUGIN)
    (tmp_path / "films").mkdir()
    make_video(tmp_path / "plain.mp4", images(10, 32, 32), bark(1), fps=10)
    try:
        for name in NAMES:
            (tmp_path / "films" / os.fsdecode(name)).write_bytes((tmp_path / "plain.mp4").read_bytes())
    except OSError:
        pytest.skip("this file system takes no such names")
    return tmp_path


def test_names_that_cannot_be_printed_are_escaped_and_their_results_whole(films):
    (films / "list.txt").write_bytes(b"\xef\xbb\xbf" + bytes(films / "films" / os.fsdecode(NAMES[0])))
    given = [films / "films" / os.fsdecode(name) for name in NAMES[1:]]
    arguments = [*given, f"@{films / 'list.txt'}", "gone 名.mp4", "-o", films / "out", "--method", "empty"]
    done = run("segment", *arguments, "--device", "cpu", MOCA_AVS_PLUGINS=str(films / "empty.py"), **ASCII)
    assert done.returncode == 1, done.stderr  # for the one that isn't there
    assert done.stdout.count(b": 1 frames, 1 quiet -> ") == 3
    assert rb"bad\udcff\udcfe.mp4: 1 frames" in done.stdout
    assert rb"\udce5\udc90\udc8d.mp4: there is no such file" in done.stderr
    assert b"Traceback" not in done.stderr
    assert (done.stdout + done.stderr).isascii()
    for name in NAMES:
        stem = os.fsdecode(name).removesuffix(".mp4")
        result = json.loads((films / "out" / stem / "result.json").read_text("utf-8"))
        assert os.fsencode(result["settings"]["input"]["source"]).endswith(name)


@pytest.mark.parametrize(
    "arguments",
    [("eval", "--root", "名", "--out", "ü.json"), ("data", "check", "s4", "--root", "名"), ("--help",)],
    ids=lambda given: given[0],
)
def test_other_commands_too(tmp_path, arguments):
    done = run(*arguments, **ASCII)
    assert (done.stdout + done.stderr).isascii()
    assert b"Traceback" not in done.stderr
    assert done.returncode == (0 if arguments == ("--help",) else 1)


def test_a_stream_is_told_whatever_its_encoding(monkeypatch):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(printed, "cp1252", errors="strict"))
    assert main(["models", "show", "名"]) == 2
    sys.stderr.flush()
    assert rb"\u540d" in printed.getvalue()
