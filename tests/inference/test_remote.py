"""Lists, stores and URLs, on fsspec's own memory and file systems."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fsspec
import pytest

from moca_avs.errors import MediaError, UsageError
from moca_avs.inference import inputs as stores
from moca_avs.inference.inputs import JobSpec, fetched, find_inputs, is_finished, plan


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    for name in ("a/x.mp4", "a/deep/y.MOV", "a/.bin/z.mp4", "a/notes.txt", "b/x.mp4"):
        store.pipe_file(f"/videos/{name}", name.encode() * 1000)
    yield store
    store.rm("/", recursive=True)


@pytest.fixture
def room(tmp_path, monkeypatch):
    """The temporary folder of this process."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def found(*given):
    return find_inputs(given)[0]


def test_a_list_means_its_lines_without_comments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b c.mp4", "videos/d.mov"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    Path("list.txt").write_text("# mine\na.mp4\n\n  b c.mp4  \nvideos\ngone.mp4\nmemory://x/e.mp4\n")
    files, failed = find_inputs(["@list.txt"])
    assert [str(file) for file in files] == ["a.mp4", "b c.mp4", "videos/d.mov", "memory://x/e.mp4"]
    assert failed == [("gone.mp4", "there is no such file or folder")]


def test_a_list_on_stdin(monkeypatch):
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("memory://x/a.mp4\n#no\nmemory://x/b.mp4"))
    assert found("-") == ["memory://x/a.mp4", "memory://x/b.mp4"]


def test_a_list_without_lines_and_one_that_is_not_there(tmp_path):
    (tmp_path / "list.txt").write_text("# nothing\n")
    assert find_inputs([f"@{tmp_path}/list.txt"])[1][0][1] == "the list names no input"
    with pytest.raises(UsageError, match="one input per line"):
        find_inputs(["@gone.txt"])


def test_a_folder_and_a_glob_of_a_store(memory):
    assert found("memory://videos/a") == ["memory:///videos/a/deep/y.MOV", "memory:///videos/a/x.mp4"]
    assert found("memory://videos/*/x.mp4") == ["memory:///videos/a/x.mp4", "memory:///videos/b/x.mp4"]
    assert found("memory://videos/a/notes.txt") == ["memory://videos/a/notes.txt"]
    assert find_inputs(["memory://videos/*.mkv"])[1] == [("memory://videos/*.mkv", "no file matches")]


def test_a_protocol_nobody_knows_and_one_whose_package_is_missing(monkeypatch):
    with pytest.raises(UsageError, match="Protocol not known"):
        find_inputs(["nowhere://x/a.mp4"])
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UsageError, match="pip install s3fs"):
        find_inputs(["s3://bucket/a.mp4"])


def test_folders_of_urls_follow_the_rules_of_files():
    urls = ["memory://v/a/x.mp4", "memory://v/b/y.mp4", "https://h/q%20r.mp4?key=1/2.mov"]
    jobs = plan(urls, Path("out"))
    assert [str(job.folder) for job in jobs] == ["out/x", "out/y", "out/q r"]
    assert [job.name for job in jobs] == urls
    uploads = [job.upload for job in plan(urls[:2], "s3://bucket/out/")]
    assert uploads == ["s3://bucket/out/x", "s3://bucket/out/y"]
    paths = [str(job.folder) for job in plan(urls, Path("out"), "path")]
    assert paths == ["out/memory/v/a/x.mp4", "out/memory/v/b/y.mp4", "out/https/h/q r.mp4"]


def test_a_name_can_not_climb_out_of_the_folder_of_results():
    jobs = plan(["memory://v/../../x.mp4", "memory://../../w/x.mp4"], Path("out"), "path")
    assert all(".." not in job.folder.parts for job in jobs)


def test_a_source_is_fetched_whole_and_removed(memory, room):
    (job,) = plan(["memory://videos/a/x.mp4"], Path("out"))
    with fetched(job) as here:
        assert here.source.name == "x.mp4"
        assert here.source.read_bytes() == b"a/x.mp4" * 1000
        assert (here.folder, here.name) == (Path("out/x"), "memory://videos/a/x.mp4")
    assert list(room.iterdir()) == []


def test_a_source_that_is_not_there_or_does_not_fit(memory, room, monkeypatch):
    with (
        pytest.raises(MediaError, match="there is no such file"),
        fetched(plan(["memory://no.mp4"], room)[0]),
    ):
        pass
    monkeypatch.setattr(stores, "SPARE", 2**62)
    with pytest.raises(MediaError, match="TMPDIR"), fetched(plan(["memory://videos/a/x.mp4"], room)[0]):
        pass
    assert list(room.iterdir()) == []


def write(folder, complete=True, frames=1):
    (folder / "masks").mkdir(parents=True)
    for index in range(frames):
        (folder / "masks" / f"{index:06d}.png").write_bytes(b"png")
    (folder / "result.json").write_text(json.dumps({"frames": [], "complete": complete}) + "\n")


def test_a_finished_result_is_uploaded_and_then_known(memory, room):
    job = JobSpec(Path("x.mp4"), Path("x"), upload="memory://out/x")
    assert not is_finished(job)
    for frames in (2, 1):
        with fetched(job) as here:
            write(here.folder, frames=frames)
        assert is_finished(job)
        assert sorted(memory.ls("/out/x/masks", detail=False)) == [
            f"/out/x/masks/{index:06d}.png" for index in range(frames)
        ]
    assert list(room.iterdir()) == []


def test_what_was_broken_off_is_not_uploaded(memory, room):
    def broken_off():
        with fetched(JobSpec(Path("x.mp4"), Path("x"), upload="memory://out/x")) as here:
            write(here.folder)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken_off()
    assert not memory.exists("/out/x")


HOLDER = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from pathlib import Path
from moca_avs.inference.inputs import JobSpec
from moca_avs.inference.inputs import fetched
with fetched(JobSpec(Path("x"), Path("x"), upload="memory://x")):
    print("held", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_left_goes_and_what_a_living_one_holds_stays(memory, room, monkeypatch):
    monkeypatch.setattr(stores, "YOUNG", -1.0)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(room)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "held\n"
        (left,) = room.iterdir()
        with fetched(plan(["memory://videos/a/x.mp4"], Path("out"))[0]):
            assert left.exists()
        os.kill(holder.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while left.exists():
        assert time.monotonic() < deadline
        with fetched(plan(["memory://videos/a/x.mp4"], Path("out"))[0]):
            pass


@pytest.mark.parametrize(
    "url",
    ["local:///etc/x.mp4", "simplecache::file:///etc/x.mp4", "zip://x.mp4::http://h/a.zip", "ssh://h/x.mp4"],
)
def test_protocols_that_reach_elsewhere_and_chains_are_refused_also_in_a_list(tmp_path, url):
    (tmp_path / "list.txt").write_text(f"{url}\n")
    for given in (url, f"@{tmp_path}/list.txt"):
        with pytest.raises(UsageError, match=r"not allowed; give a path or one URL .* s3://"):
            find_inputs([given])


@pytest.mark.parametrize("name", ["[" * 3000, "a\0b.mp4", "~nobody-at-all/x.mp4"])
def test_a_name_that_no_file_can_have_is_one_failure_of_a_list(tmp_path, name):
    (tmp_path / "list.txt").write_text(f"{name}\n")
    files, ((failed, why),) = find_inputs([f"@{tmp_path}/list.txt"])
    assert files == []
    assert failed == name
    assert why.startswith(("it can't be the name of a file (", "no file matches", "there is no such file"))
