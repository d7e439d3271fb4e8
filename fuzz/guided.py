"""Coverage-guided damage (atheris) to what moca-avs' own parsers read.

    pip install atheris
    python fuzz/guided.py --only manifest rcc --runs 20000      # make fuzz-guided

Each parser runs in a process of its own. Without atheris nothing is run and the exit code is 2:
`fuzz/run.py` damages the same files, blindly.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
KINDS = {  # (the whole folder, its first part a kind of `targets.TARGETS`; the file in it that is damaged)
    "video-manifest": ("video-manifest/manifest-csv", "manifest.csv"),
    "result": ("result/classes", "result.json"),
    "run": ("run/a", "log.jsonl"),
    "run-config": ("run/a", "config.json"),
    "rcc": ("rcc/zlib-rcc", "zlib.rcc"),
    "cat": ("cat/a-cat", "a.cat"),
    "soundfont": ("soundfont/a-sf2", "a.sf2"),
    "pickle": ("pickle/a-npy", "a.npy"),
    "bundle": ("bundle/a", "variables.index"),
    "records": ("records/a-jsonl", "a.jsonl"),
}


def main() -> int:
    """Run each parser in its process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], choices=list(KINDS))
    parser.add_argument("--runs", type=int, default=20_000, help="of each parser")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz-guided"), help="failing inputs")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("atheris is not installed (pip install atheris); nothing was run", file=sys.stderr)
        return 2
    if args.one:
        return fuzz(args.one[0], Path(args.one[1]), args.runs, args.out)
    failed = []
    with tempfile.TemporaryDirectory(prefix="moca-guided-") as name:
        seeds = Path(name) / "seeds"
        make = "import sys; from pathlib import Path; import seeds; seeds.write_seeds(Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", make, str(seeds)], check=True, cwd=HERE)
        for kind in args.only or KINDS:
            command = [sys.executable, __file__, "--one", kind, str(seeds), "--runs", str(args.runs)]
            command += ["--out", str(args.out)]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            last = [line for line in done.stderr.splitlines() if "cov:" in line][-1:]
            print(f"{kind}: {'ok' if done.returncode == 0 else 'FAULT'} {' '.join(last)}", flush=True)
            if done.returncode:
                failed.append(kind)
                print(done.stderr[-3000:])
    return int(bool(failed))


def fuzz(kind: str, seeds: Path, runs: int, out: Path) -> int:
    """One parser; libFuzzer ends the process, with an error at the first fault."""
    import atheris

    sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
    with atheris.instrument_imports(include=["moca_avs", "moca_avs_bench"]):
        import targets
    from moca_avs.errors import MocaError

    targets.SEEDS = seeds
    folder, name = KINDS[kind]
    place, corpus = seeds.parent / f"{kind}-place", seeds.parent / f"{kind}-corpus"
    targets.copy_seed(seeds / folder, place)
    corpus.mkdir()
    out.mkdir(parents=True, exist_ok=True)
    (corpus / "whole").write_bytes((place / name).read_bytes())
    read = targets.TARGETS[folder.split("/")[0]][1]

    def once(data: bytes) -> None:
        (place / name).write_bytes(data)
        with contextlib.suppress(MocaError):
            read(place)

    options = [f"-runs={runs}", "-max_len=8192", "-timeout=20", "-rss_limit_mb=3072"]
    options.append(f"-artifact_prefix={out}/{kind}-")
    atheris.Setup([sys.argv[0], *options, str(corpus)], once)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
