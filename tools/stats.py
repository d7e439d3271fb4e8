"""Numbers of the code's shape: size, function lengths, import cycles, names used twice, documentation.

    python tools/stats.py [ROOT]        (make stats)

ROOT is the repository, this one if left out; run it on a checkout of an older commit to compare.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

# Basenames that mean the same thing wherever they stand; a command and the function that does its work.
ALIKE = {"__init__", "base", "config", "segment", "train"}


def modules(src: Path) -> dict[str, Path]:
    """Dotted name -> file of every module."""
    found = {}
    for path in sorted(src.rglob("*.py")):
        parts = path.relative_to(src).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.Module, known: set[str], lazy: bool) -> Iterator[str]:
    """Modules of ours that a module imports: at import time, and inside functions where `lazy`."""

    def walk(node: ast.AST, inside: bool) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            deeper = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            if isinstance(child, ast.Import | ast.ImportFrom) and (lazy or not inside):
                yield child
            yield from walk(child, deeper)

    for node in walk(tree, False):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in known:
                    yield whole
                elif node.module in known:
                    yield node.module


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other (strongly connected, two or more; Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    sys.setrecursionlimit(10_000)
    for name in graph:
        if name not in index:
            visit(name)
    return found


def main() -> None:
    """Print the table."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    found = modules(root / "src")
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in found.items()}
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in found.items()}
    functions = [
        node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    ]
    # A function's length: its statements' lines, without the docstring.
    lengths = []
    for node in functions:
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        lengths.append(node.body[-1].end_lineno - body[0].lineno + 1 if body else 0)  # type: ignore[operator]
    basenames = Counter(path.stem for path in found.values())
    twice = {name: count for name, count in basenames.items() if count > 1 and name not in ALIKE}
    public = documented = 0
    bare = []
    for name, tree in trees.items():
        for node in [
            tree,
            *tree.body,
            *(
                sub
                for top in tree.body
                if isinstance(top, ast.ClassDef) and not top.name.startswith("_")
                for sub in top.body
            ),
        ]:
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            own = getattr(node, "name", "")
            if own.startswith("_") or any(
                part.startswith("_") and part != "__init__" for part in name.split(".")
            ):
                continue
            public += 1
            if ast.get_docstring(node) is not None:
                documented += 1
            else:
                bare.append(f"{name}.{own}")
    registries = sorted(
        f"{name}.{target.id}"
        for name, tree in trees.items()
        for node in tree.body
        if isinstance(node, ast.AnnAssign | ast.Assign)
        and isinstance(node.value, ast.Call)
        and getattr(node.value.func, "id", "") == "Registry"
        for target in ([node.target] if isinstance(node, ast.AnnAssign) else node.targets)
        if isinstance(target, ast.Name)
    )
    graphs: dict[bool, dict[str, set[str]]] = {False: defaultdict(set), True: defaultdict(set)}
    for name, tree in trees.items():
        for lazy, graph in graphs.items():
            graph[name] = set(imports(tree, set(found), lazy)) - {name}
    largest = max(lines, key=lines.__getitem__)
    rows = [
        ("modules", len(found)),
        ("lines of src", sum(lines.values())),
        ("functions", len(functions)),
        ("function length, median", statistics.median(lengths)),
        ("function length, 90th percentile", sorted(lengths)[int(0.9 * len(lengths))]),
        ("largest file", f"{lines[largest]} ({largest})"),
        ("import cycles at import time", cycles(graphs[False]) or 0),
        ("import cycles, lazy imports too", cycles(graphs[True]) or 0),
        ("registries (utils.registry.Registry)", f"{len(registries)}: {', '.join(registries)}"),
        ("basenames used twice for unlike things", twice or 0),
        (
            "public names documented",
            f"{documented} of {public}" + (f"; not: {', '.join(bare)}" if bare else ""),
        ),
    ]
    for what, value in rows:
        print(f"{what:<54} {value}")


if __name__ == "__main__":
    main()
