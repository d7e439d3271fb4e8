"""The pages of the repository, and what stands in them."""

import importlib
import re
import shlex

from helpers import TESTS

ROOT = TESTS.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [
    ROOT / "README.md",
    *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *DOCS,
    *sorted((ROOT / "recipes/lite").glob("*.md")),
    ROOT / "fuzz/README.md",
    ROOT / "benchmarks/results/README.md",
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAPER, ARCHITECTURE = ROOT / "docs/paper_to_code.md", ROOT / "docs/architecture.md"
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.md"))
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def named(page):
    return str(page.relative_to(ROOT))


def symbol(dotted):
    """The object of a dotted name."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(dotted)


def commands(page):
    """Command lines of `moca` in code blocks: (words after moca, the line)."""
    found = []
    fenced = False
    for line in page.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        if not (fenced or line.startswith("    ")) or not re.match(
            r"\s*([A-Z_]+=\S+ )?(moca|.*-m moca_avs) ", line
        ):
            continue
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words[:1] == ["moca"]:
            found.append((words[1:], line.strip()))
        elif "moca_avs" in words and words[words.index("moca_avs") - 1] == "-m":
            found.append((words[words.index("moca_avs") + 1 :], line.strip()))
    return found
