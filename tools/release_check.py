"""Rehearse a release: ``make release-check``. Publishes nothing and tags nothing.

In this order, stopping at the first failure: the version is the same in the package, CHANGELOG.md and
CITATION.cff; the tables in the pages equal the logs; git has no uncommitted change and no contradicting tag;
sdist and wheel are built and pass ``twine check --strict``; the wheel is installed into a new environment
outside the checkout; there `moca --version`, `moca doctor` and `moca segment` of a two-second video run.
At the end it prints the tag's text and commands. The weights come from the cache, or are downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VIDEO = """
import av, numpy as np
from fractions import Fraction
with av.open("tone.mp4", "w") as out:
    picture, sound = out.add_stream("libx264", 10), out.add_stream("aac", 16000)
    picture.width, picture.height, picture.pix_fmt = 192, 128, "yuv420p"
    sound.layout = "mono"
    for i in range(20):
        image = np.full((128, 192, 3), 90, np.uint8)
        image[40:90, 60 + 4 * (i % 5) : 110 + 4 * (i % 5)] = (230, 60, 40)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = i, Fraction(1, 10)
        out.mux(picture.encode(frame))
    time = np.arange(32000) / 16000
    tone = (np.sin(2 * np.pi * 440 * time) * (time % 0.5 < 0.25) * 0.5).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
    out.mux(sound.encode(frame))
    out.mux(picture.encode()), out.mux(sound.encode())
"""


class ReleaseError(Exception):
    """What keeps this checkout from being released."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every check; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--allow-dirty", action="store_true", help="go on where git has uncommitted changes")
    parser.add_argument("--dist", type=Path, help="keep sdist and wheel in this new or empty folder")
    parser.add_argument("--fast", action="store_true", help="only what needs no build: version, tables, git")
    options = parser.parse_args(arguments)
    try:
        version, notes = consistent_version(ROOT)
        step(f"version {version}: package, CHANGELOG.md and CITATION.cff agree")
        run([sys.executable, "tools/readme_tables.py", "--check"], ROOT, "run `make readme-tables`")
        step("tables equal their logs")
        clean_tree(ROOT, version, options.allow_dirty)
        if not options.fast:
            with tempfile.TemporaryDirectory(prefix="moca-release-") as folder:
                try_distributions(Path(folder), (options.dist or Path(folder) / "dist").resolve(), version)
    except ReleaseError as error:
        print(f"release-check: {error}", file=sys.stderr)
        return 1
    print(f"\nEverything passed. To release:\n\n{tag_commands(version, notes)}")
    return 0


def consistent_version(root: Path) -> tuple[str, str]:
    """The version, and its section of the changelog.

    Raises:
        ReleaseError: where a file states another version or date, or the changelog has no notes for it.
    """
    package = _find(root / "src/moca_avs/__init__.py", r'^__version__ = "([^"]+)"$')[0]
    version, date = _find(root / "CHANGELOG.md", r"^## (\S+) - (\d{4}-\d\d-\d\d)$")
    if version != package:
        raise ReleaseError(f"the package is {package}, but the first entry of CHANGELOG.md is {version}")
    if (cited := _find(root / "CITATION.cff", r"^version: (\S+)$")[0]) != package:
        raise ReleaseError(f"the package is {package}, but CITATION.cff says {cited}")
    if (cited := _find(root / "CITATION.cff", r'^date-released: "(\S+)"$')[0]) != date:
        raise ReleaseError(f"CHANGELOG.md says {date}, but CITATION.cff says {cited}")
    sections = re.split(r"^## .*$", (root / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    if not (notes := sections[1].strip()):
        raise ReleaseError(f"CHANGELOG.md has no notes for {version}")
    return version, notes


def _find(path: Path, pattern: str) -> tuple[str, ...]:
    if not path.is_file() or not (
        found := re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    ):
        raise ReleaseError(f"{path.name} should have a line like {pattern}")
    return found.groups()


def clean_tree(root: Path, version: str, allow_dirty: bool = False) -> None:
    """See that git holds what is built, and that the tag is free or is this commit's only one.

    Raises:
        ReleaseError: for uncommitted changes, a tag of this version elsewhere, or another version's tag here.
    """
    changed = run(["git", "status", "--porcelain"], root)
    if changed and not allow_dirty:
        raise ReleaseError(f"git has uncommitted changes:\n{changed}")
    tag = f"v{version}"
    here = run(["git", "tag", "--points-at", "HEAD", "--list", "v*"], root).split()
    if wrong := [name for name in here if name != tag]:
        raise ReleaseError(f"this commit is tagged {', '.join(wrong)}, but the version is {version}")
    if tag not in here and run(["git", "tag", "--list", tag], root):
        raise ReleaseError(f"the tag {tag} exists already, at another commit")
    step("uncommitted changes are allowed" if changed else "git has no uncommitted change")


def try_distributions(folder: Path, dist: Path, version: str) -> None:
    """Build the distributions into `dist`, check them, and install and use the wheel in `folder`.

    Raises:
        ReleaseError: for what fails.
    """
    if dist.is_dir() and any(dist.iterdir()):
        raise ReleaseError(f"{dist} is not empty")
    run([sys.executable, "-m", "build", "--outdir", str(dist), str(ROOT)], folder)
    files = sorted(dist.iterdir())
    run([sys.executable, "-m", "twine", "check", "--strict", *map(str, files)], folder)
    step(
        "built and checked: "
        + ", ".join(f"{path.name} ({path.stat().st_size / 1e6:.1f} MB)" for path in files)
    )
    run([sys.executable, "-m", "venv", str(folder / "venv")], folder)
    bin_ = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    (wheel,) = dist.glob("*.whl")
    run([str(bin_ / "python"), "-m", "pip", "install", "--quiet", "--no-compile", str(wheel)], folder)
    step("installed from the wheel")
    moca = str(bin_ / "moca")
    if (said := run([moca, "--version"], folder)) != f"moca {version}":
        raise ReleaseError(f"moca --version says {said!r}")
    run([moca, "doctor"], folder)
    step("moca doctor")
    run([str(bin_ / "python"), "-c", VIDEO], folder)
    run([moca, "segment", "tone.mp4", "-o", "out"], folder)
    result = json.loads((folder / "out/tone/result.json").read_text(encoding="utf-8"))
    step(f"moca segment: {len(result['frames'])} frames")


def run(command: Sequence[str], folder: Path, hint: str = "") -> str:
    """A command's output, outside of this checkout's modules.

    Raises:
        ReleaseError: where it fails, with what it printed.
    """
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=folder, env=kept, text=True, capture_output=True, check=False)
    if done.returncode:
        shown = "\n".join(filter(None, [done.stdout[-4000:].strip(), done.stderr[-4000:].strip(), hint]))
        raise ReleaseError(f"{' '.join(command)[:200]} failed ({done.returncode}):\n{shown}")
    return done.stdout.strip()


def tag_commands(version: str, notes: str) -> str:
    """What a maintainer runs next: the tag with the changelog's section as its text, and the push."""
    text = re.sub(r"^### ", "", notes, flags=re.MULTILINE)
    return (
        f"git tag --annotate v{version} --cleanup=verbatim --file=- <<'NOTES'\n"
        f"moca-avs {version}\n\n{text}\nNOTES\ngit push origin v{version}\n"
    )


START = time.monotonic()


def step(text: str) -> None:
    """Say what has passed, and after how many seconds."""
    print(f"{time.monotonic() - START:5.0f} s  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
