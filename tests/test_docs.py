"""What the pages say is there: symbols, files, links, command lines, Python names."""

import ast
import contextlib
import importlib
import io
import json
import re
import runpy
import shlex
import traceback
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import moca_avs
from helpers import TESTS
from helpers.media_files import bark, make_video
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
from moca_avs.encoders import ENCODERS, PRESET_CONFIGS
from moca_avs.methods import moca
from moca_avs.methods.config import ENCODER_OPTIONS, BaselineConfig, MocaConfig
from moca_avs_bench.evaluation.report import Report

ROOT = TESTS.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "recipes/lite/README.md"]
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
    tree = re.search(r"```\n(src/moca_avs/.*?)```", ARCHITECTURE.read_text(encoding="utf-8"), re.DOTALL)[1]
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


@pytest.fixture
def colors_and_pitch(monkeypatch):
    """The toy encoder as a preset, for one test."""
    monkeypatch.setattr(ENCODERS, "_parts", dict(ENCODERS._parts))
    runpy.run_path(str(ROOT / "examples/toy_encoder.py"))
    yield "colors-and-pitch"
    PRESET_CONFIGS.pop("colors-and-pitch")


def test_the_path_of_segment_is_the_one_that_is_told(tmp_path, monkeypatch, colors_and_pitch):
    """The numbered functions of docs/architecture.md are the call stack, from the command to k-means."""
    told = re.findall(r"^\d+\. `([\w.]+)`", ARCHITECTURE.read_text(encoding="utf-8"), re.MULTILINE)
    stacks = []
    kmeans = moca.spherical_kmeans

    def watched(*arguments, **options):
        stacks.append(traceback.extract_stack())
        return kmeans(*arguments, **options)

    monkeypatch.setattr(moca, "spherical_kmeans", watched)
    frames = np.random.default_rng(0).integers(0, 255, (5, 48, 64, 3), np.uint8)
    video = make_video(tmp_path / "band.mp4", frames, bark(1), fps=5)
    command = ["segment", str(video), "-o", str(tmp_path / "out"), "--preset", colors_and_pitch]
    options = ["--config", "paper", "--set", "refine=none", "--set", "upsample=1", "--set", "clusters=2"]
    assert main([*command, *options, "--device", "cpu"]) == 0
    settings = json.loads((tmp_path / "out/band/result.json").read_text())["settings"]
    assert (settings["masks"], settings["encoder"]["image_size"]) == ("clusters", 224)
    source = ROOT / "src"
    ours = [frame for frame in stacks[0] if Path(frame.filename).is_relative_to(source)]
    names = [
        ".".join([*Path(frame.filename).relative_to(source).with_suffix("").parts, frame.name]).replace(
            ".__init__.", "."
        )
        for frame in ours
    ]
    first = names.index("moca_avs.cli.main")
    short = [name.rsplit(".", 1)[-1] for name in told]
    assert [name.rsplit(".", 1)[-1] for name in names[first:]] == short[:-1]
    assert short[-1] == "spherical_kmeans"
    assert all(symbol(name) is not None for name in told)
    modules = {frame.filename for frame in ours[len(ours) - len(told) + 1 :]}
    assert (len(told), len(modules) + 1) <= (10, 6)
