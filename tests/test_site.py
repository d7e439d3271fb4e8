"""The site: it builds strictly, nothing in it leads nowhere, and its reference is that of the code."""

import ast
import contextlib
import html
import importlib
import importlib.util
import io
import os
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args, get_type_hints
from urllib.parse import unquote, urljoin, urlsplit

import pytest

import moca_avs
from helpers import TESTS
from moca_avs.cli import main
from moca_avs.errors import UsageError
from moca_avs.inference.job import SegmentOptions
from moca_avs.inference.ray_config import RayConfig
from moca_avs.io.audio import SilenceConfig
from moca_avs.methods.config import ENCODER_OPTIONS, BaselineConfig, MocaConfig
from moca_avs.training.config import TrainConfig
from moca_avs.utils.settings import Range
from moca_avs_bench.ssl import ComparatorConfig, HeatConfig

ROOT = TESTS.parent
DOCS, REFERENCE = ROOT / "docs", ROOT / "docs/reference"
HOME = "http://site/"
SPEC = importlib.util.spec_from_file_location("reference", ROOT / "tools/reference.py")
reference = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reference)
SETTINGS, COMMANDS = (
    reference.expand((REFERENCE / name).read_text(encoding="utf-8"))
    for name in ("settings.md", "commands.md")
)


class Page(HTMLParser):
    """Links, ids and what a browser fetches by itself."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.fetched, self.nav, self._in_nav = set(), set(), set(), set(), 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self._in_nav += tag == "nav"
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        target = given.get("href") if tag in ("a", "link") else given.get("src")
        if target is not None:
            self.links.add(target)
            if tag != "a" and given.get("rel") not in ("canonical", "prev", "next"):
                self.fetched.add(target)
            if tag == "a" and self._in_nav:
                self.nav.add(target)

    def handle_endtag(self, tag):
        self._in_nav -= tag == "nav"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """URL -> page, of the site as `make docs` builds it."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings_handlers.python")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    found = {}
    for file in folder.rglob("*.html"):
        url = HOME + file.relative_to(folder).as_posix().removesuffix("index.html")
        found[url] = Page(file.read_text(encoding="utf-8"))
    files = {HOME + file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    found.pop(HOME + "404.html")  # its links are absolute: it is shown at any address
    return found, files


def test_no_link_of_the_site_leads_nowhere(site):
    pages, files = site
    assert len(pages) > 30
    dead = []
    for url, page in pages.items():
        for link in page.links:
            there = urlsplit(urljoin(url, link))
            if there.netloc != "site":
                continue
            plain = unquote(there._replace(fragment="", query="").geturl())
            known = plain in pages or (plain in files and not there.fragment)
            if not known or (there.fragment and unquote(there.fragment) not in pages[plain].ids):
                dead.append((url, link))
    assert dead == []


def test_a_reader_needs_no_other_server(site):
    pages, _ = site
    outside = {
        (url, link) for url, page in pages.items() for link in page.fetched if "//" in link.split("?")[0]
    }
    assert outside == set()


def test_every_page_is_in_the_navigation(site):
    pages, _ = site
    reached = {urljoin(HOME, link).split("#")[0] for link in pages[HOME].nav}
    assert {url for url in pages if not url.startswith(HOME + "source/")} - reached - {HOME} == set()
    shown = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
    assert {HOME + f"{name}/".removeprefix("index/") for name in shown} <= set(pages)


def public_names(module):
    """Classes and functions that a module defines itself, without those that begin with an underscore."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name


def test_every_public_name_is_in_the_reference(site):
    pages, _ = site
    ids = set().union(*(page.ids for url, page in pages.items() if url.startswith(HOME + "reference/")))
    assert {f"moca_avs.{name}" for name in moca_avs.__all__} <= pages[HOME + "reference/python/"].ids
    modules = set()
    for page in REFERENCE.glob("*.md"):
        modules |= set(re.findall(r"^<!-- module: ([\w.]+) -->$", page.read_text("utf-8"), re.MULTILINE))
    assert len(modules) > 15
    for name in modules:
        missing = {f"{name}.{one}" for one in public_names(importlib.import_module(name))} - ids
        assert missing == set()


def test_what_the_examples_import_is_in_the_reference(site):
    pages, _ = site
    ids = set().union(*(page.ids for url, page in pages.items() if url.startswith(HOME + "reference/")))
    for example in (ROOT / "examples").glob("*.py"):
        for node in ast.walk(ast.parse(example.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("moca_avs"):
                assert {f"{node.module}.{one.name}" for one in node.names} <= ids, example


def section(text, heading):
    """What stands below a heading of a page, as far as the next one of its level."""
    return re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]


def rows(text):
    """First cell (without its marks) -> the other cells."""
    cells = [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in text.splitlines()
        if line.startswith("| `")
    ]
    return {first.strip("`"): others for first, *others in cells}


def configs():
    """Every dataclass of settings in the two packages, by the code's own text."""
    ends = ("Config", "Options", "Sources")
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith(ends) and node.name != "TowerConfig":
                own = [one.target.id for one in node.body if isinstance(one, ast.AnnAssign)]
                module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
                yield module.removesuffix(".__init__"), node.name, own


@pytest.mark.parametrize(("module", "name", "own"), list(configs()), ids=lambda value: str(value)[-40:])
def test_every_setting_is_on_the_page_of_settings(module, name, own):
    marker = f"<!-- settings: {module}.{name} -->"
    text = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    assert marker in text
    kind = getattr(importlib.import_module(module), name)
    shown = rows(reference.settings_table(kind))
    assert list(shown) == [one for one in own if not one.startswith("group")]
    defaults = {one.name: one for one in fields(kind)}
    for setting, (_, _, default, meaning) in shown.items():
        assert meaning, setting
        if defaults[setting].default is not MISSING and not isinstance(defaults[setting].default, tuple):
            assert ast.literal_eval(default.strip("`")) == defaults[setting].default, setting


def test_options_of_the_encoder_and_values_of_presets_are_on_the_page():
    assert list(rows(section(SETTINGS, "Encoder"))) == list(ENCODER_OPTIONS)
    shown = section(SETTINGS, "Values of the presets")
    (cues,) = (line for line in shown.splitlines() if "`cues`" in line)
    assert "`semantic+tags+synchrony+motion+objectness`" in cues
    assert "| `image_size` | `384` | `224` | `224` | `384` |" in shown


def bounded():
    for kind in (MocaConfig, BaselineConfig, TrainConfig, SegmentOptions, RayConfig, SilenceConfig):
        for name, hint in get_type_hints(kind, include_extras=True).items():
            parts = [hint, *get_args(hint)]
            for bounds in (one for part in parts for one in get_args(part) if isinstance(one, Range)):
                yield kind, name, bounds
    for kind in (ComparatorConfig, HeatConfig):
        yield kind, "seed" if kind is ComparatorConfig else "object_share", Range(0)


@pytest.mark.parametrize(
    ("kind", "name", "bounds"), list(bounded()), ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_range_of_the_reference_is_the_one_that_is_enforced(kind, name, bounds):
    with pytest.raises(UsageError):
        kind(**{name: bounds.low - 1})
    if bounds.high < float("inf"):
        with pytest.raises(UsageError):
            kind(**{name: bounds.high + 1})
        kind(**{name: bounds.high})
    if (kind, name) != (TrainConfig, "neighbours"):
        kind(**{name: bounds.low})


def test_a_table_says_type_range_default_and_meaning():
    assert rows(reference.settings_table(TrainConfig))["max_disparity"] == [
        *("int or None", "at least 0", "`None`"),
        "Farthest match along a row, in map positions; None is the whole row.",
    ]
    assert rows(reference.settings_table(SegmentOptions))["fps"][:3] == [
        "float or str",
        '`"native"`',
        "`1.0`",
    ]


@pytest.mark.parametrize("command", reference.COMMANDS)
def test_options_of_a_command_are_those_of_its_help(command):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main([*command.split(), "--help"])
    flags = set(re.findall(r"^[│ ] {1,2}(?:-o \w+, )?(--[a-z][a-z-]+)", out.getvalue(), re.MULTILINE))
    lines = rows(section(COMMANDS, command))
    shown = {flag for first in lines for flag in re.findall(r"--[a-z-]+", first)}
    assert shown == flags
    assert all(meaning for *_, meaning in lines.values())


def test_every_command_is_on_the_page():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main(["--help"])
    names = re.findall(r"^[│ ]\s+• (\w+)", out.getvalue(), re.MULTILINE)
    assert len(names) > 5
    assert {name.split()[0] for name in reference.COMMANDS} == set(names)


def test_a_value_with_pipes_stays_one_cell_of_the_site():
    markdown = pytest.importorskip("markdown")
    made = markdown.markdown(reference.options_table("train"), extensions=["tables"])
    cells = [html.unescape(one) for one in re.findall(r"<td><code>([^<]*)</code></td>", made)]
    assert "FOLDER|s4|ms3" in cells
    assert made.count("<td>") == 4 * made.count("<tr>") - 4


def test_a_setting_without_a_docstring_stops_the_build():
    config = type("Bare", (SegmentOptions,), {"__annotations__": {"new": int}, "new": 1})
    with pytest.raises(ValueError, match="new has no docstring"):
        reference.settings_table(importlib.import_module("dataclasses").dataclass(frozen=True)(config))
