from pathlib import Path

import pytest

from moca_avs.errors import UsageError
from moca_avs.inference.inputs import find_inputs, plan


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in (
        "a/x.mp4",
        "a/deep/y.MOV",
        "b/x.mp4",
        "b/x.mov",
        "b/notes.txt",
        "b/.trash/z.mp4",
        "empty/readme.md",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(paths):
    return [str(path) for path in paths]


def test_a_folder_means_every_video_below_it_sorted_hidden_ones_left_out(tree):
    assert names(find_inputs(["a", "b"])[0]) == ["a/deep/y.MOV", "a/x.mp4", "b/x.mov", "b/x.mp4"]


def test_a_glob_that_the_shell_left_alone_is_expanded(tree):
    assert names(find_inputs(["*/x.mp4"])[0]) == ["a/x.mp4", "b/x.mp4"]
    assert names(find_inputs(["**/*.mp4"])[0]) == ["a/x.mp4", "b/x.mp4"]


def test_a_file_named_outright_is_taken_whatever_it_is_called(tree):
    assert find_inputs(["b/notes.txt"]) == ([Path("b/notes.txt")], [])


def test_a_file_meant_twice_comes_once_and_in_its_first_place(tree):
    files, _ = find_inputs(["b/x.mp4", "a", str(tree / "b/x.mp4"), "b/../a/x.mp4"])
    assert names(files) == ["b/x.mp4", "a/deep/y.MOV", "a/x.mp4"]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("gone.mp4", "no such file"),
        ("*.mkv", "no file matches"),
        ("empty", "holds no video; looked for .3g2"),
    ],
)
def test_an_input_that_means_no_file_is_named_with_the_reason(tree, given, complaint):
    files, failed = find_inputs([given, "a/x.mp4"])
    assert names(files) == ["a/x.mp4"]
    assert [name for name, _ in failed] == [given]
    assert complaint in failed[0][1]


def folders(files, out="out"):
    return [str(job.folder) for job in plan([Path(file) for file in files], Path(out))]


def test_a_folder_is_called_by_the_stem():
    assert folders(["videos/band.mp4", "other/dog.bark.mov"]) == ["out/band", "out/dog.bark"]


def test_equal_stems_keep_their_path_below_the_common_folder():
    assert folders(["v/a/x.mp4", "v/b/c/x.mp4", "v/y.mp4"]) == ["out/a/x", "out/b/c/x", "out/y"]


def test_equal_paths_keep_their_suffix():
    assert folders(["a/x.mp4", "a/x.mov", "b/x.mp4"]) == ["out/a/x.mp4", "out/a/x.mov", "out/b/x"]
    assert folders(["x.mp4", "x.mov"]) == ["out/x.mp4", "out/x.mov"]


def test_a_last_clash_is_refused():
    with pytest.raises(UsageError, match=r"would both be written to out/x\.mp4"):
        folders(["x.mp4", "x.mov", "x.mp4.avi"])
