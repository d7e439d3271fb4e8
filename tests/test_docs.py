"""What the pages say is there: symbols, files, links, command lines, Python names."""

import ast
import contextlib
import importlib
import inspect
import io
import json
import re
import runpy
import shlex
import traceback
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import moca_avs
from helpers import TESTS
from helpers.media_files import bark, make_video, training_videos
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
from moca_avs.cues import HEARING
from moca_avs.encoders import ENCODERS, PRESET_CONFIGS
from moca_avs.methods import moca
from moca_avs.methods.config import ENCODER_OPTIONS, BaselineConfig, MethodConfig, MocaConfig
from moca_avs.model.evidence import PARTS, SIDE
from moca_avs.proposals import build_proposer
from moca_avs_bench import demo
from moca_avs_bench.evaluation.report import Report, Tier

ROOT = TESTS.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *DOCS,
    *sorted((ROOT / "recipes/lite").glob("*.md")),
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAPER, ARCHITECTURE = ROOT / "docs/paper_to_code.md", ROOT / "docs/architecture.md"
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.md"))
PAGES += [
    ROOT / name for name in ("CHANGELOG.md", "SECURITY.md", "fuzz/README.md", "benchmarks/results/README.md")
]
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


# What stands in code blocks beside `moca`, and how it is checked.
OTHERS = {
    r"make [a-z-]+( [A-Z_]+=\S+)*$": lambda line: (
        f"\n{line.split()[1]}:" in (ROOT / "Makefile").read_text("utf-8")
    ),
    r"python [\w/]+\.py( .*)?$": lambda line: (ROOT / line.split()[1]).is_file(),
    r"pip install (-e )?['\"]?(\.|moca-avs)(\[[\w,]+\])?['\"]?$": lambda line: extras(line) <= EXTRAS,
    r"git clone <this repository>( && cd moca-avs)?$": lambda line: True,
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


@pytest.mark.weights
@pytest.mark.stamps
def test_the_first_examples_run_and_print_what_they_say(tmp_path, monkeypatch):
    """The first command and Python block of README.md on the demo's video; docs/index.md shows the same."""
    pytest.importorskip("resvg_py")
    demo.compose(demo.unseen_media(), demo.PAIRS[0], tmp_path / "out/demo/videos/dog-drum_kit.mp4", demo.SEED)
    monkeypatch.chdir(tmp_path)
    words, line = commands(ROOT / "README.md")[0]
    assert main(words) == 0
    kept = {path.name for path in Path("out/first/dog-drum_kit").iterdir() if not path.name.startswith(".")}
    example = PYTHON.findall((ROOT / "README.md").read_text(encoding="utf-8"))[0]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(example, "README.md", "exec"), {})
    assert out.getvalue().splitlines() == re.findall(r"^print\(.*?\)  # (.*)$", example, re.MULTILINE)
    for page in (ROOT / "README.md", ROOT / "docs/index.md"):
        text = page.read_text(encoding="utf-8")
        assert commands(page)[0] == (words, line)
        said = PYTHON.findall(text)[0].splitlines()
        assert [one.split("  #")[0] for one in said] == [one.split("  #")[0] for one in example.splitlines()][
            : len(said)
        ]
        table = re.findall(r"^\| (`[^|]*) \|", text[text.index(line) :], re.MULTILINE)
        listed = {name.strip("/").split("/")[0] for row in table for name in re.findall(r"`([\w./]+)`", row)}
        assert kept <= listed, page


def test_the_page_on_the_data_flow_has_the_numbers_of_the_code():
    page = (ROOT / "docs/how_it_works.md").read_text(encoding="utf-8")
    drawn = (ROOT / "docs/data_flow.svg").read_text(encoding="utf-8")
    regions = build_proposer("regions")  # whose limit holds for what it is joined with
    for text in (page, drawn):
        assert f"at most {regions.joint_limit}" in text
        assert f"{MethodConfig().window:g} s" in text
        assert f"{MethodConfig().gate_window:g} s" in text
    assert f"1 to {PARTS} proposals" in drawn
    assert f"{SIDE} positions along the longer side" in page
    config = MethodConfig()
    assert f"below {config.silence_level:g} dBFS" in page
    assert f"less than {config.silence_margin:g} dB above" in page
    assert f"at most {config.silence_ceiling:g} dBFS" in page
    cues = dict(re.findall(r"^\| `(\w+)` \| .* \| (yes|no) \|$", page, re.MULTILINE))
    shipped = json.loads((ROOT / "src/moca_avs/weights/lite/config.json").read_text())["method"][
        "cues"
    ].split("+")
    assert cues == {name: "yes" if name in HEARING else "no" for name in shipped}
    glossary = page[page.index("## Glossary") :]
    for name in (*moca_avs.list_presets(), *moca_avs.list_methods()):
        assert f"`{name}`" in glossary


def test_the_figure_can_be_read_aloud_and_on_any_background():
    """A title and a description, text inside the canvas, dark text on an opaque light ground."""
    root = ElementTree.parse(ROOT / "docs/data_flow.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert root.get("role") == "img"
    assert root.find(f"{space}title").text
    assert len(root.find(f"{space}desc").text.split()) > 40
    _, _, width, height = map(float, root.get("viewBox").split())
    ground = root.find(f"{space}rect")
    assert (float(ground.get("width")), float(ground.get("height"))) == (width, height)
    assert ground.get("fill") == "#ffffff"
    for text in root.iter(f"{space}text"):
        if text.get("transform") is None:
            half = 9.5 * len(text.text) / 2  # generous: the mean letter of 16 px bold type
            x, y = float(text.get("x")), float(text.get("y"))
            assert half <= x <= width - half, text.text
            assert 16 <= y <= height - 4, text.text


PLAIN = ("README.md", "docs/index.md", "docs/how_it_works.md", "docs/limits.md", "docs/architecture.md")
METAPHORS = r"\b(deaf|hears?|heard|told|tells|asked|asks|films?|pictures?|looked at|sound tracks?)\b"


@pytest.mark.parametrize("page", PLAIN)
def test_pages_use_one_word_for_one_thing(page):
    """The words that the glossary replaces (code, links and paths aside)."""
    text = re.sub(
        r"```.*?```|`[^`]*`|\]\([^)]*\)", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL
    )
    assert re.findall(METAPHORS, text, re.IGNORECASE) == []


def shortened(monkeypatch):
    """What takes minutes is called with its arguments checked, and does little."""
    evaluate, train = moca_avs.evaluate, moca_avs.train

    def quick_evaluate(*given, **options):
        inspect.signature(evaluate).bind(*given, **options)
        return Report(
            "s4",
            "test",
            "region",
            "avsbench",
            "mask",
            0,
            {},
            1,
            1,
            (),
            (),
            (),
            0,
            {},
            {"all": Tier(1, 5, 0, 1, {})},
        )

    def quick_train(method, data, config, out, **options):
        inspect.signature(train).bind(method, data, config, out, **options)
        small = replace(config, steps=1, batch=2, count=1, neighbours=1)
        return train(method, data, small, out, **options)

    monkeypatch.setattr(moca_avs, "evaluate", quick_evaluate, raising=False)
    monkeypatch.setattr(moca_avs, "train", quick_train, raising=False)


@pytest.mark.weights
@pytest.mark.parametrize(
    "page",
    [
        page
        for page in PAGES
        if PYTHON.search(page.read_text("utf-8"))
        # Which test_the_first_examples_run and test_guides.py run.
        and page not in (ROOT / "README.md", ROOT / "docs/index.md", *(ROOT / "docs/guides").glob("*"))
    ],
    ids=named,
)
def test_python_of_a_page_runs(page, tmp_path, monkeypatch):
    """All blocks of a page, one after the other, beside band.mp4 and videos/."""
    frames = np.random.default_rng(0).integers(0, 255, (10, 48, 64, 3), np.uint8)
    make_video(tmp_path / "band.mp4", frames, bark(2), fps=5)
    training_videos(tmp_path / "videos")
    monkeypatch.chdir(tmp_path)
    shortened(monkeypatch)
    names = {"__name__": "page"}
    for block in PYTHON.findall(page.read_text(encoding="utf-8")):
        exec(compile(block, named(page), "exec"), names)


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
