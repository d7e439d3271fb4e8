"""Help imports nothing heavy and shows an example of every command."""

import subprocess
import sys

import pytest

import moca_avs
from moca_avs.cli import main

COMMANDS = [
    ("segment",), ("train",), ("eval",), ("table",), ("doctor",),
    ("data",), ("data", "stamps"), ("data", "check"),
    ("models",), ("models", "list"), ("models", "show"), ("models", "fetch"), ("models", "check"),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(capsys, command):
    assert main([*command, "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert f"Example: moca {' '.join(command[:1])}" in words


def test_the_top_names_every_command(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"• {command[0]} " in said for command in COMMANDS)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"moca {moca_avs.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["segment"], ["train"], ["table"]], ids=str)
def test_help_imports_nothing_heavy(arguments):
    """What makes help slow is importing; seconds are not measured here."""
    heavy = [
        "torch",
        "transformers",
        "numpy",
        "av",
        "onnxruntime",
        "skimage",
        "scipy",
        "PIL",
        "huggingface_hub",
    ]
    code = (
        "import sys; from moca_avs.cli import main; code = main(sys.argv[1:]);"
        f"print(*(set({heavy!r}) & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, *arguments, "--help"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr.strip() == ""
