import sys
from importlib.metadata import EntryPoint

import pytest

from moca_avs.cli import main
from moca_avs.errors import UsageError
from moca_avs.utils import registry
from moca_avs.utils.registry import PLUGINS, Registry


def test_names_keep_their_order_and_are_found():
    parts = Registry("part")
    parts.register("b", 2)
    parts["a"] = 1
    assert list(parts) == ["b", "a"]
    assert (parts.find("a"), parts["b"], "a" in parts, len(parts)) == (1, 2, True, 2)
    del parts["a"]
    assert list(parts) == ["b"]


def test_an_unknown_name_lists_what_there_is():
    parts = Registry("part")
    parts.update({"one": 1, "two": 2})
    with pytest.raises(UsageError, match="unknown part 'three'; there are: one, two"):
        parts.find("three")
    with pytest.raises(KeyError):
        parts["three"]


@pytest.mark.parametrize("name", ["", "a+b", "a/b", "a b"])
def test_names_that_mean_something_else_are_refused(name):
    with pytest.raises(UsageError, match="must not hold"):
        Registry("part").register(name, 1)


def test_a_taken_name_is_replaced_only_when_asked():
    parts = Registry("part")
    parts.register("a", 1)
    with pytest.raises(UsageError, match="replace=True"):
        parts.register("a", 2)
    parts.register("a", 3, replace=True)
    assert parts["a"] == 3


def test_entry_points_register_when_a_name_is_not_known(monkeypatch):
    parts = Registry("part", "tests.parts")
    loaded = []

    def register():
        loaded.append(1)
        parts.register("far", 7)

    def points(group):
        assert group == "tests.parts"
        return [EntryPoint("far", f"{__name__}:anything", group)]

    monkeypatch.setattr(registry, "entry_points", points)
    monkeypatch.setattr(EntryPoint, "load", lambda self: register)
    parts.register("near", 1)
    assert parts["near"] == 1
    assert loaded == []
    assert parts["far"] == 7
    assert list(parts) == ["near", "far"]
    assert loaded == [1]


def test_plugins_are_modules_or_files(monkeypatch, tmp_path):
    (tmp_path / "plugin_module_of_a_test.py").write_text("import sys; sys.plugins_of_a_test.append('module')")
    (tmp_path / "file.py").write_text("import sys; sys.plugins_of_a_test.append('file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "plugins_of_a_test", [], raising=False)
    monkeypatch.setenv(PLUGINS, f"plugin_module_of_a_test, {tmp_path / 'file.py'}")
    assert "x" not in Registry("part", "tests.none")
    assert "x" not in Registry("part", "tests.none")
    assert sys.plugins_of_a_test == ["module", "file"]  # once


def test_a_plugin_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv(PLUGINS, "no_such_module_anywhere")
    with pytest.raises(UsageError, match="MOCA_AVS_PLUGINS names no_such_module_anywhere"):
        list(Registry("part", "tests.none"))


def test_whatever_a_plugin_raises_is_told_as_its_own(monkeypatch, tmp_path):
    (tmp_path / "bad.py").write_text("1 / 0")
    monkeypatch.setenv(PLUGINS, str(tmp_path / "bad.py"))
    with pytest.raises(UsageError, match=r"bad\.py, which can't be imported \(ZeroDivisionError: division"):
        list(Registry("part", "tests.none"))


def test_a_broken_plugin_is_told_by_every_command(monkeypatch, capsys):
    monkeypatch.setenv(PLUGINS, "no_such_module_anywhere")
    assert main(["models", "list"]) == 2
    assert "MOCA_AVS_PLUGINS names no_such_module_anywhere" in capsys.readouterr().err
