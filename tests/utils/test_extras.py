"""What an extra brings is looked for without importing it, and named where it is missing."""

import sys

import pytest

from helpers import TESTS
from moca_avs.cli import main
from moca_avs.errors import UsageError
from moca_avs.utils.extras import EXTRAS, lacking_modules, require_extra


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A plain install with an empty cache: no extra is there, and nobody may fetch or load anything."""

    import moca_avs.cli.models  # noqa: F401 (before anything is replaced)

    def refuse(*arguments, **options):
        raise AssertionError("something was fetched or built")

    for modules, _ in EXTRAS.values():
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("MOCA_AVS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("moca_avs.hub.debian.unpacked_all", refuse)
    monkeypatch.setattr("moca_avs.hub.pypi.package_file", refuse)
    return tmp_path


def test_extras_are_those_of_the_distribution():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for_this_repository = {"dev", "docs", "release"}  # no part of the package needs them
    assert set(EXTRAS) == set(project["optional-dependencies"]) - for_this_repository


def test_looking_imports_nothing(monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    assert lacking_modules(["this", "a_library_nobody_has", "sys"]) == ["a_library_nobody_has"]
    assert "this" not in sys.modules


@pytest.mark.parametrize("extra", list(EXTRAS))
def test_a_missing_extra_is_named(bare, extra):
    with pytest.raises(UsageError, match=rf"X needs .*pip install 'moca-avs\[{extra}\]'"):
        require_extra(extra, "X")


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        ("stamps", ["data", "stamps", "--out", "{out}/stamps"]),
        ("stamps", ["eval", "--dataset", "s4", "--out", "{out}/e.json", "--predictions", "{out}"]),
        ("stamps", ["train", "--data", "s4", "--root", "stamps", "--out", "{out}/run", "--preset", "bare"]),
        ("ray", ["segment", "{out}/a.mp4", "-o", "{out}/o", "--engine", "ray"]),
        ("web", ["segment", "https://127.0.0.1:9/a.mp4", "-o", "{out}/o", "--preset", "bare"]),
        ("faiss", ["train", "--data", "{out}", "--out", "{out}/run", "--neighbour-search", "faiss"]),
    ],
)
def test_a_command_names_the_extra_before_anything_is_fetched(bare, capsys, monkeypatch, extra, arguments):
    from moca_avs.encoders import ENCODERS

    monkeypatch.setitem(ENCODERS, "bare", lambda: None)  # needs no weights, as far as anybody knows
    assert main([argument.format(out=bare) for argument in arguments]) == 2
    assert f"pip install 'moca-avs[{extra}]'" in capsys.readouterr().err
    assert not list(bare.glob("[!c]*"))  # the cache alone was made


def test_doctor_says_what_each_missing_extra_disables(bare, capsys, monkeypatch):
    monkeypatch.setattr("moca_avs.cli.doctor.NEEDED", ())
    main(["doctor"])
    said = capsys.readouterr().out
    for extra, (_, use) in EXTRAS.items():
        assert f"note  extra {extra}: not here" in said
        assert f"{use} needs it: pip install 'moca-avs[{extra}]'" in said
    assert "preset lite: fetched at first use: efficientnet-lite0, yamnet, u2netp; 54 MB" in said
