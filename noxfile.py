"""Every promised Python: ``pip install nox``, then ``nox``; one session: ``nox -s tests-3.12``.

A session takes the interpreter `pythonX.Y` from the path, and is skipped where there is none.
``nox -s tests-3.10 -- tests/io -x`` passes what follows ``--`` to pytest.
"""

import os
from pathlib import Path

import nox

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
"""As in the classifiers of pyproject.toml and in .github/workflows/ci.yml; tests/test_release.py compares."""

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
CONSTRAINTS = Path(__file__).with_name("constraints.txt")


def _install(session: nox.Session, extra: str) -> None:
    """The package with an extra; pinned versions, except on Python 3.10, which lacks some of them."""
    pins = [] if session.python == "3.10" else ["--constraint", str(CONSTRAINTS)]
    session.install("--no-compile", *pins, "-e", f".[{extra}]")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The whole test suite, its files shared between two processes."""
    _install(session, "dev")
    session.env["MOCA_AVS_CACHE"] = os.environ.get("MOCA_AVS_CACHE", str(Path.home() / ".cache/moca-avs"))
    session.run("python", "-m", "pytest", "-n", "2", "--dist", "loadfile", *session.posargs)


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Style, format, types and spelling, as `make lint`."""
    session.run("make", "lint", external=True)


@nox.session(python="3.11")
def docs(session: nox.Session) -> None:
    """The documentation site, as `make docs`."""
    session.run("make", "docs", external=True)
