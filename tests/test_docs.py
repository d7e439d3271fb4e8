"""What the pages say is there: symbols, files, links, command lines, Python names."""

import ast
import contextlib
import importlib
import io
import json
import re
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

import moca_avs
from helpers.pages import (
    ARCHITECTURE,
    BENCHMARKS,
    EXAMPLES,
    PAGES,
    PAPER,
    PYTHON,
    ROOT,
    commands,
    named,
    symbol,
)
from moca_avs import Segmentation
from moca_avs.cli import main
from moca_avs.cli.args import parse_settings
from moca_avs.cli.data import Data
from moca_avs.cli.doctor import Doctor
from moca_avs.cli.eval import Evaluate
from moca_avs.cli.models import Models
from moca_avs.cli.segment import Segment
from moca_avs.cli.table import PaperTable
from moca_avs.cli.train import Train
from moca_avs.methods.config import ENCODER_OPTIONS, BaselineConfig, MocaConfig
from moca_avs_bench.evaluation.report import Report


def table_rows(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]


def test_each_statement_of_the_paper_has_its_file_and_symbol():
    rows = [row for row in table_rows(PAPER) if row != ["the paper", "file", "symbol", "here"]]
    assert len(rows) > 100
    for said, link, name, _ in rows:
        path = (PAPER.parent / re.fullmatch(r"\[.*\]\((.*)\)", link)[1]).resolve()
        dotted = name.strip("`")
        assert symbol(dotted) is not None, said
        module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        assert dotted.startswith(module + "."), f"{dotted} is not in {path}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_dotted_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    for name, module in re.findall(r"\[`([\w.]+)`\]\([./]*src/([\w/]+)\.py\)", text):
        assert symbol(f"{module.removesuffix('/__init__').replace('/', '.')}.{name}") is not None
    for dotted in re.findall(r"`(moca_avs(?:_bench)?(?:\.\w+)+)`", text):
        if dotted not in ("moca_avs.encoders", "moca_avs.methods", "moca_avs.datasets", "moca_avs.proposers"):
            assert symbol(dotted) is not None


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *BENCHMARKS], ids=named)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES, *BENCHMARKS], ids=named)
def test_files_of_the_repository_that_are_named_exist(page):
    """Paths that begin with a folder of the repository, wherever they stand."""
    text = page.read_text(encoding="utf-8")
    tops = "src|docs|tests|examples|benchmarks|recipes|tools|moca_avs|moca_avs_bench"
    for path in re.findall(rf"(?<![\w/.:\]-])((?:{tops})/[\w./-]*\w)", text):
        places = [ROOT / path, ROOT / "src" / path]
        assert any(place.exists() for place in places), path


def test_the_tree_of_the_architecture_is_the_tree():
    tree = re.search(r"```text\n(src/moca_avs/.*?)```", ARCHITECTURE.read_text(encoding="utf-8"), re.DOTALL)[
        1
    ]
    package, folder, seen = "", "", set[Path]()
    for line in tree.splitlines():
        if line.startswith("src/"):
            package, folder = line, ""
            continue
        if heading := re.match(r"  (\w+/|\w+\.py)", line):
            folder = heading[1] if heading[1].endswith("/") else ""
        seen.add(ROOT / package / folder)
        seen.update(ROOT / package / folder / name for name in re.findall(r"\w+\.py", line))
    assert all(path.exists() for path in seen), [path for path in seen if not path.exists()]
    packages = {path.parent for path in (ROOT / "src").glob("*/*/__init__.py")}
    assert packages <= seen
    model = (ROOT / "src/moca_avs/model").glob("*.py")
    assert {path for path in model if path.name != "__init__.py"} <= seen


# What stands in code blocks beside `moca`, and how it is checked.
HOOKS = ROOT / ".pre-commit-config.yaml"
OTHERS = {
    r"make [a-z-]+( [A-Z_]+=\S+)*$": lambda line: f"\n{line.split()[1]}:" in MAKEFILE,
    r"python [\w/]+\.py( .*)?$": lambda line: (ROOT / line.split()[1]).is_file(),
    r"pip install (-e )?['\"]?(\.|moca-avs)(\[[\w,]+\])?['\"]?$": lambda line: extras(line) <= EXTRAS,
    r"git clone <this repository>( && cd moca-avs)?$": lambda line: True,
    r"\. \.venv/bin/activate$": lambda line: "VENV ?= .venv\n" in MAKEFILE,
    r"pip install pre-commit && pre-commit install$": lambda line: (
        ROOT / ".pre-commit-config.yaml"
    ).is_file(),
}
MAKEFILE, PROJECT = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "pyproject.toml"))
EXTRAS = set(re.findall(r"^(\w+) = \[", PROJECT.split("optional-dependencies]")[1], re.MULTILINE))


def extras(line):
    return set(re.findall(r"\w+", line.partition("[")[2]))


BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code_lines(page):
    """Lines of code blocks that are indented, or fenced without a language or with a shell's."""
    text = re.sub(r"^:::.*\n(    .*\n)+", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for language, block in BLOCK.findall(text):
        if language in ("", "sh", "bash"):
            yield from block.splitlines()
    for block in re.findall(r"(?:\A|\n\n)((?:    .*\n)+)", BLOCK.sub("", text)):
        yield from block.splitlines()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_each_line_of_code_is_checked_by_some_test(page):
    """A command of `moca` (the test above), or one of `OTHERS`; drawings are fenced as ```text."""
    ours = {line for _, line in commands(page)}
    for line in code_lines(page):
        plain = line.split("  #")[0].strip()
        if line.strip() not in ours and plain:
            assert any(re.match(kind, plain) and holds(plain) for kind, holds in OTHERS.items()), line


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_code_blocks_of_other_languages_are_well_formed(page):
    for language, block in re.findall(
        r"^```(\w+)\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    ):
        if language == "json":
            json.loads(block)
        elif language == "toml":
            toml = pytest.importorskip("tomllib")  # Python 3.11
            toml.loads(block)
        else:
            assert language in ("", "python", "bash", "sh", "text", "bibtex", "csv"), language


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_lists_begin_after_an_empty_line(page):
    """Else the site's Markdown reads them as part of the paragraph, unlike GitHub's."""
    lines = BLOCK.sub("", page.read_text(encoding="utf-8")).splitlines()
    for before, line in pairwise(lines):
        if re.match(r"(-|\d+\.) ", line):
            assert not before or re.match(r"(-|\d+\.) |  |<!--|#", before), line


COMMANDS = (Segment, Train, Evaluate, PaperTable, Data, Models, Doctor)
LINES = [(named(page), words, line) for page in PAGES for words, line in commands(page)]


def test_command_lines_were_found():
    assert len(LINES) > 30


@pytest.mark.parametrize(("page", "words", "line"), LINES, ids=[f"{page}: {line}" for page, _, line in LINES])
def test_command_lines_are_understood(page, words, line, monkeypatch, capsys):
    settings = set()

    def run(self):
        settings.update(parse_settings(getattr(self, "settings", ())))
        return 0

    for command in COMMANDS:
        monkeypatch.setattr(command, "run", run)
    assert main(words) == 0, capsys.readouterr().err
    method = words[words.index("--method") + 1] if "--method" in words else "frozen"
    if method in ("moca", "frozen", "at-gdino-sam", "owod-bind", "sam-bind"):
        config = MocaConfig if method in ("moca", "frozen") else BaselineConfig
        assert settings <= {field.name for field in fields(config)} | set(ENCODER_OPTIONS)


@pytest.fixture(scope="module")
def help_of():
    texts = {}
    for name in ("segment", "train", "eval", "table", "data stamps", "data check", "models list", "doctor"):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            main([*name.split(), "--help"])
        texts[name] = out.getvalue()
    return texts


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=named)
def test_flags_in_running_text_exist(page, help_of):
    """`moca COMMAND --flag` in backticks is checked against its command, a lone `--flag` against all."""
    text = page.read_text(encoding="utf-8")
    for span in re.findall(r"`([^`\n]+)`", text):
        flags = re.findall(r"(?<![\w-])--[a-z][a-z-]+", span)
        name = next((one for one in help_of if span.startswith(f"moca {one}")), None)
        if name is None and not span.startswith("--"):
            continue  # another program's
        shown = help_of[name] if name else " ".join(help_of.values())
        assert all(f"{flag} " in shown or f"{flag}\n" in shown for flag in flags), span


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_targets_of_make_exist(page):
    text = page.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.MULTILINE):
        assert f"\n{target}:" in makefile, target


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_uses_public_names_only(page):
    """Blocks compile; what they take from moca_avs, and ask of its results, is there and public."""
    kinds = {"moca_avs": moca_avs, "result": Segmentation, "report": Report}
    for block in PYTHON.findall(page.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("moca_avs.") for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module.startswith("moca_avs"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)
                assert not any(alias.name.startswith("_") for alias in node.names)
                assert page.name != "README.md" or node.module == "moca_avs"
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                kind = kinds.get(node.value.id)
                if kind is moca_avs:
                    assert node.attr in moca_avs.__all__
                elif kind is not None:
                    known = {field.name for field in fields(kind)} | set(vars(kind))
                    assert node.attr in known
