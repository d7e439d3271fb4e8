"""--weights and --model: what they mean, and what is said of nonsense."""

import numpy as np
import pytest

from moca_avs.cli import main
from moca_avs.cli.args import parse_models, parse_settings, parse_sources
from moca_avs.errors import UsageError
from moca_avs.io.audio import write_audio
from moca_avs.io.image import write_image


def test_models_are_name_and_source():
    assert parse_models(()) == {}
    given = ("sam=facebook/sam-vit-base", "imagebind=/a=b")
    assert parse_models(given) == {"sam": "facebook/sam-vit-base", "imagebind": "/a=b"}
    sources = parse_sources("folder", given)
    assert (str(sources.weights), dict(sources.models)) == ("folder", parse_models(given))
    assert parse_sources(None, ()).weights is None


@pytest.mark.parametrize("given", ["sam", "=x", "sam=", ""])
def test_anything_else_is_refused(given):
    with pytest.raises(UsageError, match="NAME=SOURCE"):
        parse_models((given,))


def test_an_unknown_model_is_refused_with_a_list():
    with pytest.raises(UsageError, match=r"no foundation model 'llama'.*imagebind"):
        parse_sources(None, ("llama=x",))


@pytest.mark.parametrize("command", ["segment", "train", "eval"])
def test_every_command_takes_both(capsys, command):
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert "--weights FOLDER" in said
    assert "--model NAME=SOURCE" in said


@pytest.fixture
def still(tmp_path):
    """Arguments of an image and a sound to segment."""
    image = write_image(tmp_path / "a.png", np.full((40, 50, 3), 90, np.uint8))
    sound = write_audio(tmp_path / "a.wav", np.sin(np.arange(16_000, dtype=np.float32) / 5), 16_000)
    return ["segment", "--image", str(image), "--sound", str(sound), "-o", str(tmp_path / "out")]


def test_a_command_says_what_is_wrong_and_exits_2(capsys, still):
    assert main([*still, "--model", "sam"]) == 2
    assert "--model must be NAME=SOURCE" in capsys.readouterr().err


def test_a_missing_weights_folder_is_named(capsys, still, tmp_path):
    gone = tmp_path / "gone"
    chosen = ["--preset", "imagebind", "--method", "frozen", "--device", "cpu", "--weights", str(gone)]
    assert main([*still, *chosen]) == 1
    said = capsys.readouterr().err
    assert f"there is no weights folder {gone}" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("x=.3", 0.3),
        ("x=1.", 1.0),
        ("x=-.5e-1", -0.05),
        ("x=3", 3),
        ("x=true", True),
        ("x=.", "."),
        ("x=a.b", "a.b"),
    ],
)
def test_settings_are_numbers_where_they_look_like_one(given, value):
    assert parse_settings([given]) == {"x": value}
