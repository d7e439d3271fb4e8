"""What the pages show runs, and their figure and numbers are those of the code."""

import contextlib
import inspect
import io
import json
import re
import runpy
import traceback
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import moca_avs
from helpers.media_files import bark, make_video, training_videos
from helpers.pages import (
    ARCHITECTURE,
    PAGES,
    PYTHON,
    ROOT,
    commands,
    named,
    symbol,
)
from moca_avs.cli import main
from moca_avs.cues import HEARING
from moca_avs.encoders import ENCODERS, PRESET_CONFIGS
from moca_avs.methods import moca
from moca_avs.methods.config import MethodConfig
from moca_avs.model.evidence import PARTS, SIDE
from moca_avs.proposals import build_proposer
from moca_avs_bench import demo
from moca_avs_bench.evaluation.report import Report, Tier


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
