"""What a command line gets wrong is refused by name before anything heavy is imported, fetched or decoded."""

import json
import re
import subprocess
import sys

import pytest

from moca_avs.cli.eval import PROTOCOLS
from moca_avs_bench.evaluation.scorers import SCORERS

SEGMENT = ("segment", "{film}", "-o", "{out}/o")
EVAL = ("eval", "--out", "{out}/e.json", "--root", "{out}")
REFUSED = [
    ((*SEGMENT, "--set", "refin=none"), "unknown settings refin; .*did you mean 'refine'"),
    ((*SEGMENT, "--set", "refine=non"), "refine must be one of .*did you mean 'none'"),
    ((*SEGMENT, "--set", "clusters=many"), "clusters must be a whole number"),
    ((*SEGMENT, "--set", "smoothing=2"), r"smoothing must be .*0\.\.1, found 2"),
    ((*SEGMENT, "--set", "refine"), "--set must be NAME=VALUE"),
    ((*SEGMENT, "--set", "tagger=yamnett"), "tagger must be one of .*did you mean 'yamnet'"),
    ((*SEGMENT, "--set", "cues=semantic+tagz"), "cues must be .*did you mean 'tags'"),
    ((*SEGMENT, "--set", "proposals=salency"), "did you mean 'saliency'"),
    ((*SEGMENT, "--method", "sam-bind", "--set", "segmentr=sam"), "did you mean 'segmenter'"),
    ((*SEGMENT, "--method", "frosen"), "unknown method 'frosen'.*did you mean 'frozen'"),
    ((*SEGMENT, "--method", "moca"), "no trained adapters ship"),
    ((*SEGMENT, "--preset", "imagbind"), "is no preset .*did you mean 'imagebind'"),
    ((*SEGMENT, "--model", "samm=x"), "did you mean 'sam'"),
    ((*SEGMENT, "--weights", "{out}/gone"), "there is no weights folder"),
    ((*SEGMENT, "--config", "{out}/gone.json"), 'neither "paper" nor a JSON file'),
    ((*SEGMENT, "--device", "gpu"), "'gpu' is no device"),
    ((*SEGMENT, "--fps", "0"), "fps must be a positive number"),
    ((*SEGMENT, "--start", "-1"), "start must be 0 s or more"),
    ((*SEGMENT, "--start", "3", "--end", "2"), "end must be after start"),
    ((*SEGMENT, "--engine", "ray", "--workers", "0"), "workers must be at least 1"),
    (("segment", "{film}", "-o", "{film}/below"), "below can't be written: .* is a file"),
    (("segment", "{film}", "-o", "{film}"), "can't be written"),
    ((*EVAL, "--dataset", "m3"), "dataset must be one of .*did you mean 'ms3'"),
    ((*EVAL, "--protocol", "lvs"), "no protocol named .lvs.; choose from avsbench"),
    ((*EVAL, "--shard", "3/2"), "--shard must be I/N"),
    ((*EVAL, "--predictions", "{out}/gone"), "should be a folder of predicted masks"),
    ((*EVAL, "--set", "refin=none"), "did you mean 'refine'"),
    (
        ("eval", "--out", "{out}/e.json", "--root", "stampz"),
        "no folder stampz.*did you mean 'stamps'",
    ),
    (("eval", "--out", "{film}/e.json"), "can't be written"),
    (("train", "--data", "s4", "--out", "{out}/r"), "s4 is a dataset: say .*--root DIR.*--root stamps"),
    (("train", "--data", "s5", "--root", "{out}", "--out", "{out}/r"), "data is one of .*did you mean 's4'"),
    (("train", "--out", "{out}/r"), "--data is needed"),
    (("train", "--out", "{out}/r", "--resume"), "--data is needed"),
    (("train", "--data", "{out}", "--out", "{film}/r"), "can't be written"),
    (("train", "--data", "{out}", "--out", "{out}/r", "--preset", "lit"), "did you mean 'lite'"),
    (("train", "--data", "{out}", "--out", "{out}/r", "--window", "2"), "window must be odd"),
    (("table", "4", "--preset", "imagbind", "--root", "{out}"), "did you mean 'imagebind'"),
    (("table", "4", "--steps", "0"), "--steps must be at least 1"),
    (("table", "4", "--root", "{out}/gone"), "there is no folder"),
    (("table", "4", "--root", "{out}", "--data", "s3"), "is not a folder.*did you mean"),
    (("table", "4", "-o", "{film}/t"), "can't be written"),
    (("data", "stamps", "--out", "{film}/t"), "can't be written"),
    (("data", "check", "s4", "--root", "{out}/gone"), "there is no folder"),
    (("models", "show", "yamnett"), "did you mean 'yamnet'"),
    (("models", "check", "soundnet"), "did you mean 'soundnet8'"),
    (("models", "fetch", "--for", "lit"), "did you mean 'lite'"),
    (("models", "fetch"), "--for PRESET"),
]
HEAVY = ("torch", "transformers", "onnxruntime", "ray", "skimage")
CODE = f"""
import contextlib, io, json, sys, time
from moca_avs.cli import main
answers = []
for arguments in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main(arguments)
    answers.append([code, said.getvalue(), sorted(set({HEAVY}) & set(sys.modules))])
json.dump(answers, sys.stdout)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Each command's exit code, complaint and heavy imports; in one process, and nothing is left behind."""
    out = tmp_path_factory.mktemp("out")
    (out / "film.mp4").write_bytes(b"no film: it must never be opened")
    places = {"film": str(out / "film.mp4"), "out": str(out)}
    given = [[word.format(**places) for word in arguments] for arguments, _ in REFUSED]
    done = subprocess.run(
        [sys.executable, "-c", CODE], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    assert [entry.name for entry in out.iterdir()] == ["film.mp4"]
    return json.loads(done.stdout)


@pytest.mark.parametrize("index", range(len(REFUSED)), ids=lambda index: " ".join(REFUSED[index][0][:6]))
def test_it_is_refused_by_name_and_early(answers, index):
    code, said, heavy = answers[index]
    assert code in (1, 2)
    assert re.search(REFUSED[index][1], said), said
    assert said.startswith("moca: ")
    assert heavy == []


def test_protocols_are_those_of_the_scorers():
    kinds = {"s4": "region", "avss": "semantic", "flickr": "localization", "boxes": "boxes", "duets": "duets"}
    for dataset, kind in kinds.items():
        assert set(PROTOCOLS[dataset]) == set(SCORERS[kind].protocols)
    assert PROTOCOLS["ms3"] == PROTOCOLS["s4"]
    assert PROTOCOLS["vggss"] == PROTOCOLS["vggsound-single"] == PROTOCOLS["flickr"]
