"""The shape of the code stays: no import cycle, no name bound twice in a module, no file that is too long."""

import ast
import importlib.util
from collections import Counter

import pytest

from helpers import TESTS

SPEC = importlib.util.spec_from_file_location("stats", TESTS.parent / "tools" / "stats.py")
stats = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(stats)
MODULES = stats.modules(TESTS.parent / "src")
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


@pytest.mark.parametrize("lazy", [False, True])
def test_there_is_no_import_cycle(lazy):
    graph = {name: set(stats.imports(tree, set(MODULES), lazy)) - {name} for name, tree in TREES.items()}
    assert stats.cycles(graph) == []


def test_cycles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert stats.cycles(graph) == [["a", "b", "c"]]


def test_only_the_command_line_and_the_public_names_reach_for_the_second_package():
    reach = {
        name
        for name, tree in TREES.items()
        if name.split(".")[0] == "moca_avs"
        and any(one.startswith("moca_avs_bench") for one in stats.imports(tree, set(MODULES), True))
    }
    assert all(name.startswith("moca_avs.cli") for name in reach), reach


@pytest.mark.parametrize("name", MODULES)
def test_a_module_binds_each_name_once(name):
    bound = Counter()
    for node in TREES[name].body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound[node.name] += 1
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                bound.update(leaf.id for leaf in ast.walk(target) if isinstance(leaf, ast.Name))
    assert [one for one, times in bound.items() if times > 1] == []


def test_no_file_is_over_400_lines():
    files = [*MODULES.values(), *TESTS.rglob("*.py")]
    assert [path for path in files if len(path.read_text(encoding="utf-8").splitlines()) > 400] == []


def test_no_basename_stands_for_two_things():
    found = Counter(path.stem for path in MODULES.values())
    assert [name for name, count in found.items() if count > 1 and name not in stats.ALIKE] == []
