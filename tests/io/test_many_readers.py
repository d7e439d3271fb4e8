"""Many threads may decode HEVC at once, in a child process too (PyAV before 15 could deadlock)."""

import subprocess
import sys

import av
import pytest

from helpers.media_files import images

THREADS, READS = 16, 50
CODE = f"""
import faulthandler, multiprocessing, sys
from concurrent.futures import ThreadPoolExecutor
from moca_avs import read_clip

def work(path):
    with ThreadPoolExecutor({THREADS}) as threads:
        read = lambda _: len(read_clip(path, start=1, end=2).frames)
        found = list(threads.map(read, range({THREADS} * {READS})))
        assert found == [found[0]] * {THREADS} * {READS} and found[0] > 0, found

if __name__ == "__main__":
    faulthandler.dump_traceback_later(100, exit=True)  # a deadlock shows where it is
    path, start = sys.argv[1:]
    if start == "none":
        work(path)
    else:
        read_clip(path, start=1, end=2)  # FFmpeg is warm before the child begins
        child = multiprocessing.get_context(start).Process(target=work, args=(path,))
        child.start()
        child.join()
        assert child.exitcode == 0
"""


@pytest.fixture(scope="module")
def hevc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hevc")
    (folder / "many.py").write_text(CODE)
    with av.open(str(folder / "a.mp4"), "w") as container:
        video = container.add_stream("libx265", rate=10)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.options = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=5"}
        for image in images(20, 64, 96):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())
    return folder


@pytest.mark.parametrize("start", ["none", "fork" if sys.platform == "linux" else "spawn"])
def test_threads_read_hevc_at_once(hevc, start):
    command = [sys.executable, hevc / "many.py", hevc / "a.mp4", start]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
