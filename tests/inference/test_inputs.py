import io
import os
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


def folders(files, out="out", **naming):
    return [str(job.folder) for job in plan([Path(file) for file in files], Path(out), **naming)]


def test_a_folder_is_called_by_the_stem():
    assert folders(["videos/band.mp4", "other/dog.bark.mov"]) == ["out/band", "out/dog.bark"]


@pytest.mark.parametrize(
    "files", [["v/a/x.mp4", "v/b/x.mp4"], ["x.mp4", "x.mov"], ["a/x.mp4", "y.mp4", "x.mp4"]]
)
def test_inputs_that_would_share_a_folder_are_refused_by_name_and_told_apart_by_path_or_hash(files):
    with pytest.raises(
        UsageError,
        match=r"x\.m.* and .*x\.m.* would both be written to out/x; name them with --name-by path or hash",
    ):
        folders(files)
    for naming in ("path", "hash"):
        assert len(set(folders(files, name_by=naming))) == len(files)


@pytest.mark.parametrize("naming", ["stem", "path", "hash"])
def test_a_folder_is_a_function_of_the_input_alone(tree, naming):
    files = ["a/x.mp4", "a/deep/y.MOV", "memory://h/q%20r.mp4"]
    alone = [plan(find_inputs([file])[0], Path("out"), naming)[0].folder for file in files]
    together = plan(find_inputs(files[::-1])[0], Path("out"), naming)[::-1]
    assert [job.folder for job in together] == alone
    elsewhere = tree / "a" / ".." / "b" / ".." / "a" / "x.mp4"
    assert plan([elsewhere], Path("out"), naming)[0].folder == alone[0]
    expected = {"stem": "x", "path": str(tree / "a" / "x.mp4")[1:], "hash": alone[0].name}
    assert alone[0] == Path("out") / expected[naming]


def test_an_unknown_naming_is_refused():
    with pytest.raises(UsageError, match="one of stem, path, hash, found 'date'"):
        folders(["x.mp4"], name_by="date")


def test_two_links_to_one_file_are_two_inputs(tree):
    for name in ("one.mp4", "two.mp4"):
        (tree / name).symlink_to(tree / "a" / "x.mp4")
    files, _ = find_inputs(["one.mp4", "two.mp4", str(tree / "one.mp4")])
    assert names(files) == ["one.mp4", "two.mp4"]
    assert folders(files) == ["out/one", "out/two"]


@pytest.mark.parametrize("naming", ["stem", "path", "hash"])
@pytest.mark.parametrize(
    "name",
    ["...mp4", "..mp4", "index.jsonl.mp4", f"{'n' * 251}.mp4", f"{'名' * 80}.mp4", ".mp4", "a.mp4"],
    ids=["..", ".", "index", "long", "wide", "hidden", "plain"],
)
def test_a_result_lies_in_a_folder_of_its_own_below_the_output(naming, name):
    out = Path("/out")
    for file in (Path("/data/b") / name, f"file:///data/b/{name}"):
        (job,) = plan([file], out, naming)
        folder = Path(os.path.normpath(job.folder))
        assert folder == job.folder
        assert out in folder.parents
        assert folder.name not in ("index.jsonl", "")
        beside = f".{folder.name}.lock"  # the longest name that is written beside it
        assert len(os.fsencode(beside)) <= 255
    longer = Path("/data/c") / name
    assert len({job.folder for job in plan([Path("/data/b") / name, longer], out, "hash")}) == 2


def test_a_list_may_hold_names_that_are_no_utf8(tree, monkeypatch):
    name = os.fsdecode(b"x\xe9y.mp4")
    (tree / name).touch()
    text = b"\xef\xbb\xbf" + os.fsencode(tree / name) + b"\n"
    (tree / "list.txt").write_bytes(text)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    for given in (f"@{tree / 'list.txt'}", "-"):
        assert find_inputs([given]) == ([tree / name], [])


def test_an_empty_name_is_not_this_folder(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert find_inputs([""]) == ([], [("", "an empty name is no file; for all videos of this folder give .")])


def test_what_is_no_text_is_no_list(tree):
    (tree / "film.bin").write_bytes(b"\0\1\xff")
    with pytest.raises(UsageError, match="must be a text file"):
        find_inputs([f"@{tree / 'film.bin'}"])
