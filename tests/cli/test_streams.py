"""What becomes of stdout, stderr and stdin does not decide what becomes of a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import TESTS
from helpers.media_files import bark, images, make_video

SEGMENT = ["segment", "a.mp4", "b.mp4", "-o", "out", "--method", "center-disk", "--outputs", "masks"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shells and devices of POSIX")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    make_video(folder / "a.mp4", images(5, 48, 64), bark(1), fps=5)
    (folder / "b.mp4").symlink_to(folder / "a.mp4")
    return folder


def shell(folder, arguments, rest, unbuffered=""):
    """(exit code of moca, stdout, stderr) of ``moca ARGUMENTS REST`` in a shell."""
    plugin = TESTS.parent / "examples" / "center_method.py"
    command = (
        f"{sys.executable} -m moca_avs {' '.join(arguments)} --device cpu {rest}; exit ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "MOCA_AVS_PLUGINS": str(plugin), "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("rest", "code"), [("| true", 0), ("> /dev/full", 1), ("2>&-", 0), (">&- 2>&-", 0)])
def test_all_inputs_are_done_whatever_becomes_of_the_streams(videos, rest, code, unbuffered):
    if rest == "> /dev/full" and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    arguments = [*SEGMENT[:4], f"out-{abs(hash((rest, unbuffered)))}", *SEGMENT[5:]]
    found, _, said = shell(videos, arguments, rest, unbuffered)
    assert found == code, said
    assert "Traceback" not in said
    assert sorted(p.parent.name for p in (videos / arguments[4]).glob("*/result.json")) == ["a", "b"]
    assert ("what was printed is lost: No space left on device" in said) == (code == 1)


def test_a_list_from_a_closed_stdin_is_an_empty_list(videos):
    code, _, said = shell(videos, ["segment", "-", "-o", "none", "--method", "center-disk"], "<&-")
    assert code == 1
    assert "moca: -: the list names no input" in said
    assert "Traceback" not in said
