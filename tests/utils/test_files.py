"""Files and folders that appear whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moca_avs.errors import MediaError
from moca_avs.utils.files import (
    atomic_write,
    check_writable,
    parse_json,
    remove_abandoned,
    temporary_folder,
)


def interrupted(path, folder):
    with atomic_write(path, folder=folder) as partial:
        (partial / "a.txt" if folder else partial).write_text("half")
        raise KeyboardInterrupt


def test_a_file_is_replaced_when_the_block_ends_well(tmp_path):
    file = tmp_path / "new" / "a.txt"
    for text in ("one", "two"):
        with atomic_write(file) as partial:
            partial.write_text(text)
            assert not file.exists() or file.read_text() == "one"
        assert file.read_text() == text
    with pytest.raises(KeyboardInterrupt):
        interrupted(file, folder=False)
    assert [path.name for path in file.parent.iterdir()] == ["a.txt"]
    assert file.read_text() == "two"


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "new" / "made"
    with pytest.raises(KeyboardInterrupt):
        interrupted(folder, folder=True)
    assert list(folder.parent.iterdir()) == []
    with atomic_write(folder, folder=True) as partial:
        (partial / "a.txt").write_text("whole")
        assert not folder.exists()
    assert (folder / "a.txt").read_text() == "whole"
    with pytest.raises(MediaError, match="made can't be written"), atomic_write(folder, folder=True):
        pass
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("folder", [False, True])
def test_an_os_error_is_explained_unless_the_caller_does_it(tmp_path, folder):
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "below"
    with pytest.raises(MediaError, match="below can't be written"), atomic_write(target, folder=folder):
        pass
    with pytest.raises(OSError, match="file"), atomic_write(target, folder=folder, explain=False):
        pass


HOLD = """
import sys
from pathlib import Path
from moca_avs.utils.files import atomic_write
with atomic_write(Path(sys.argv[1]), folder=sys.argv[2] == "folder") as partial:
    partial.touch()
    print(partial, flush=True)
    input()
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_killed_processes_left_is_removed(tmp_path, kind):
    target, pipe = tmp_path / "x.y", subprocess.PIPE
    # One bears this process's own number, as after a restart or in another container.
    names = (".x.y.partial", "x.y.partial-7", f".x.y.{os.getpid()}.partial", ".x.y.1.partial")
    others = [tmp_path / name for name in (".x.partial", ".x.y.z.partial", ".x.y.z.7.partial")]
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, target, kind], stdin=pipe, stdout=pipe, text=True
    ) as alive:
        mine = Path(alive.stdout.readline().strip())
        for left in (*(tmp_path / name for name in names), *others):
            left.touch() if kind == "file" else (left / "inside").mkdir(parents=True)
        (tmp_path / ".x.y.9.partial.lock").touch()
        with atomic_write(target, folder=kind == "folder") as partial:
            partial.touch()
            kept = {mine, mine.with_name(f"{mine.name}.lock"), partial, *others}
            assert kept == set(tmp_path.iterdir()) - {tmp_path / f".x.y.{os.getpid()}.partial.lock"}
        alive.kill()
    assert mine.exists()
    remove_abandoned(target)
    assert set(tmp_path.iterdir()) == {target, *others}


def test_two_threads_do_not_write_one_folder_at_once(tmp_path):
    with atomic_write(tmp_path / "x", folder=True) as partial:
        (partial / "a").touch()
        again = atomic_write(tmp_path / "x", folder=True)
        with pytest.raises(MediaError, match="another process is writing it"), again:
            pass
    assert [entry.name for entry in tmp_path.rglob("*")] == ["x", "a"]


def test_what_can_be_written_is_found_out_without_leaving_anything(tmp_path):
    (tmp_path / "file").touch()
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new" / "below" / "a.json")
    check_writable(tmp_path, folder=True)
    check_writable(tmp_path / "new", folder=True)
    for path, folder in (
        ("file/below", False),
        ("file", True),
        ("", False),
        ("a" * 300, True),
        ("a\0b", True),
    ):
        with pytest.raises(MediaError, match=r"can't be written: .*choose a place"):
            check_writable(tmp_path / path, folder=folder)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_temporary_folder_goes_with_its_block_and_a_dead_process_s_with_the_next(tmp_path):
    (tmp_path / "x-dead").mkdir()
    (tmp_path / "x-dead" / "half.bin").write_bytes(b"half")
    (tmp_path / "other").mkdir()
    with temporary_folder("x-", tmp_path, young=-1.0) as first:
        (first / "mine").touch()
        with temporary_folder("x-", tmp_path, young=-1.0) as second:
            assert (first / "mine").exists()
            assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "other", first, second])
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize("text", ["[" * 200_000, b'{"a":' * 200_000, "{", b"\xff"])
def test_json_that_can_not_be_read_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"nested too deeply|Expecting|decode"):
        parse_json(text)
