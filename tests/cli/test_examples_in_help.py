"""Every example that help and the documents give is a line that a command takes, up to where models load."""

import re
import shlex
from contextlib import suppress
from dataclasses import fields

import pytest

from helpers import TESTS
from moca_avs.cli import main
from moca_avs.cli.args import parse_settings
from moca_avs.methods import METHODS, choose_method

COMMANDS = ["segment", "train", "eval", "table", "data", "data stamps", "data check", "doctor", "models"]
COMMANDS += [f"models {action}" for action in ("list", "show", "fetch", "check")]
# (module, name) of what would load models, build data or reach for a network.
HEAVY = [
    ("moca_avs.inference.segment", "segment_all"),
    ("moca_avs_bench.data", "open_training_set"),
    ("moca_avs_bench.data", "open_evaluation_set"),
    ("moca_avs_bench.data", "check_dataset"),
    ("moca_avs_bench.tables.run", "run_table"),
    ("moca_avs_bench.stamps.build", "build_stamps"),
    ("moca_avs.cli.models", "fetch"),
    ("moca_avs.cli.models", "check_model"),
    ("moca_avs.cli.doctor", "diagnose"),
]


class ReachedError(Exception):
    """The example has come to where models load."""


def helped(capsys, command):
    assert main([*command.split(), "--help"]) == 0
    return capsys.readouterr().out


@pytest.fixture
def world(tmp_path, monkeypatch):
    """What the examples name, and nothing that is slow."""
    monkeypatch.chdir(tmp_path)
    for folder in ("videos", "AVSBench"):
        (tmp_path / folder).mkdir()
    for file in ("band.mp4", "videos/a.mp4"):
        (tmp_path / file).write_bytes(b"-")

    def reached(*arguments, **options):
        raise ReachedError

    for module, name in HEAVY:
        monkeypatch.setattr(f"{module}.{name}", reached)
    monkeypatch.setattr("moca_avs.methods.check_weights", lambda choice: None)
    for module in ("moca_avs.hub.available", "moca_avs.cli.models"):
        monkeypatch.setattr(f"{module}.require_weights", lambda names, sources: None)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_help_come_to_where_models_load(capsys, world, command):
    text = re.sub(r"[│╭╮╰╯]", " ", helped(capsys, command))
    examples = re.findall(r"(?:Example|On several GPUs): .*?(moca(?:_avs)? .*)", text)
    assert examples
    for example in examples:
        words = shlex.split(example)[1:]
        if "--resume" in words:  # there is no such run
            assert main(words) == 2
            assert "--data is needed" in capsys.readouterr().err
            continue
        with suppress(ReachedError):
            assert main(words) == 0, capsys.readouterr().err


def settings_in_texts():
    texts = [TESTS.parent / "README.md", *(TESTS.parent / "docs").rglob("*.md")]
    texts.remove(TESTS.parent / "docs/guides/extending.md")  # of a method of its own: tests/test_guides.py
    texts += (TESTS.parent / "src" / "moca_avs" / "cli").glob("*.py")
    found = set()
    for path in texts:
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(r"--set[ =`]+([a-z_]+=[\w.+-]+)", text)) - {"batch=M"}
        if path.name == "args.py":
            found |= set(re.findall(r"settings, like ([a-z_]+=[\w.+-]+)", text))
    return sorted(found)


def test_the_texts_have_examples_of_settings():
    assert "refine=none" in settings_in_texts()


@pytest.mark.parametrize("example", settings_in_texts())
def test_settings_that_the_texts_give_are_taken_by_a_method(example):
    settings = parse_settings([example])
    (name,) = settings
    takers = [one for one in METHODS if name in {field.name for field in fields(METHODS[one].config)}]
    for method in takers or ["frozen"]:  # the encoder's own go with any
        if not METHODS[method].adapters:
            choice = choose_method("lite", method, settings=settings)
            assert settings[name] == choice.options.get(name, getattr(choice.config, name, None))
