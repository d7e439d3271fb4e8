"""Files and folders that appear whole or not at all."""

import os
import subprocess
import sys

import pytest

from moca_avs.errors import MediaError
from moca_avs.utils.files import atomic_write, partial_path

GONE = 2**22 + 1  # above the largest process id Linux gives


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


def test_what_killed_processes_left_of_a_folder_is_removed(tmp_path):
    target = tmp_path / "x.y"
    names = (".x.y.partial", f"x.y.partial-{GONE}", f"x.y.partial-{os.getpid()}", f".x.y.{GONE}.partial")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as alive:
        mine = [partial_path(target, alive.pid), tmp_path / f"x.y.partial-{alive.pid}"]
        others = [tmp_path / name for name in (".x.partial", ".x.y.z.partial", f".x.y.z.{GONE}.partial")]
        for left in (*(tmp_path / name for name in names), *mine, *others):
            (left / "inside").mkdir(parents=True)
        with atomic_write(target, folder=True):
            pass
        assert sorted(tmp_path.iterdir()) == sorted([target, *mine, *others])
        alive.communicate(b"\n")
