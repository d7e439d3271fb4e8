"""What is there already is skipped, refused or gone on with; nothing is left out in silence."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.media_files import bark, images, make_video, make_wav
from helpers.tiny_encoders import TinyConvolution
from moca_avs.clip import Segmentation
from moca_avs.inference.finished import claim, differences, identity
from moca_avs.inference.index import RunIndex
from moca_avs.inference.inputs import JobSpec
from moca_avs.inference.job import SegmentOptions
from moca_avs.inference.segment import CHUNK_FRAMES, segment_all
from moca_avs.io.results import OUTPUTS, SegmentationWriter
from moca_avs.methods.config import MocaConfig
from moca_avs.methods.moca import Moca
from moca_avs.proposals.superpixels import SuperpixelProposer

ONCE = SegmentOptions(fps=2.0)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """40 frames in 8 s."""
    frames = images(40, 48, 64)
    frames[:, :, 40:] = np.random.default_rng(0).integers(0, 256, (40, 48, 24, 3))
    return make_video(tmp_path_factory.mktemp("video") / "band.mp4", frames, bark(8), fps=5)


class Counting:
    """The paper's method on a tiny encoder; stops where it is told to, and counts the frames it was given."""

    def __init__(self, stop_at=None, kind=KeyboardInterrupt, **settings):
        config = MocaConfig(clusters=3, proposals="superpixels", **settings)
        self.method = Moca(TinyConvolution(), None, SuperpixelProposer(), config)
        self.settings, self.context = self.method.settings, True
        self.stop_at, self.kind, self.frames = stop_at, kind, 0

    def __call__(self, clip):
        if self.stop_at is not None and self.frames >= self.stop_at:
            raise self.kind
        self.frames += len(clip.wanted)
        return self.method(clip)


def run(video, folder, options=ONCE, method=None, **job):
    method = method or Counting()
    jobs = [JobSpec(video, folder, **job)]
    return next(iter(segment_all(jobs, lambda: method, options, progress=False))), method


def left_open(writer, *_):
    """What a killed process does of leaving a writer: nothing but closing its files."""
    for file in filter(None, (writer._json, writer._heat)):
        file.close()


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".mp4"
    }


def test_the_same_file_and_settings_are_skipped_whatever_the_batch(video, tmp_path):
    run(video, tmp_path / "a")
    outcome, method = run(video, tmp_path / "a", replace(ONCE, batch=3), Counting(batch=1))
    assert (outcome.state, outcome.message, method.frames) == ("skipped", "", 0)


@pytest.mark.parametrize(
    ("options", "settings", "told"),
    [
        ({"fps": 1.0}, {}, "fps: 2.0 there, 1.0 here"),
        ({"end": 3.0}, {}, "end: null there, 3.0 here"),
        ({"propagate": "flow"}, {}, "propagate: none there, flow here"),
        ({"outputs": ("json",)}, {}, "outputs: "),
        ({}, {"seed": 3}, "seed: 0 there, 3 here"),
        ({}, {"window": 3.0}, "window: "),
    ],
)
def test_a_finished_result_of_other_settings_is_refused_by_name(video, tmp_path, options, settings, told):
    run(video, tmp_path / "a")
    before = files(tmp_path)
    outcome, method = run(video, tmp_path / "a", replace(ONCE, **options), Counting(**settings))
    assert (outcome.state, method.frames) == ("failed", 0)
    assert f"{tmp_path / 'a'} holds a result of other settings ({told}" in outcome.message
    assert "--overwrite" in outcome.message
    assert files(tmp_path) == before
    options = replace(ONCE, overwrite=True, **options)
    assert run(video, tmp_path / "a", options, Counting(**settings))[0].state == "done"


def test_the_result_of_another_input_is_refused_by_name(video, tmp_path):
    other = make_video(tmp_path / "band.mp4", images(20, 48, 64, 3), bark(4), fps=5)
    run(other, tmp_path / "a")
    outcome, _ = run(video, tmp_path / "a")
    assert outcome.state == "failed"
    assert f"holds the result of another input, {other}" in outcome.message
    moved = other.rename(tmp_path / "moved.mp4")
    assert run(moved, tmp_path / "a")[0].state == "skipped"


def test_a_file_that_changed_since_is_done_again_and_said_so(video, tmp_path):
    mine = tmp_path / "band.mp4"
    mine.write_bytes(video.read_bytes())
    run(mine, tmp_path / "a")
    make_video(mine, images(20, 48, 64, 3), bark(4), fps=5)
    outcome, _ = run(mine, tmp_path / "a")
    assert (outcome.state, outcome.frames) == ("done", 8)
    assert any("has changed since" in note for note in outcome.notes)


def test_another_sound_is_another_input(video, tmp_path):
    run(video, tmp_path / "a")
    wav = make_wav(tmp_path / "bark.wav", bark(8, seed=4))
    assert run(video, tmp_path / "a", sound=wav)[0].state == "failed"


def test_identity_sees_both_ends_the_size_and_the_time(tmp_path):
    path = tmp_path / "x"
    content = bytearray(300_000)
    path.write_bytes(content)
    os.utime(path, ns=(0, 1))
    first = identity(path)
    for place in (0, 299_999):
        changed = content.copy()
        changed[place] = 1
        path.write_bytes(changed)
        os.utime(path, ns=(0, 1))
        assert identity(path)["ends"] != first["ends"]
    path.write_bytes(content)
    assert identity(path)["ends"] == first["ends"]
    assert identity(path)["modified"] != first["modified"]


def test_results_of_version_0_1_are_known_by_their_path(video, tmp_path):
    _, method = run(video, tmp_path / "a")
    result = tmp_path / "a" / "result.json"
    head, *rest = result.read_text().split("\n")
    settings = json.loads(head[:-1] + "}")["settings"]
    del settings["input"]["file"], settings["input"]["outputs"]
    result.write_text("\n".join([json.dumps({"settings": settings})[:-1] + ",", *rest]))
    assert run(video, tmp_path / "a")[0].state == "skipped"
    wanted = {**method.settings, "input": {**settings["input"], "source": "elsewhere/band.mp4"}}
    assert differences(settings, wanted) == (["source"], [])


@pytest.mark.parametrize(
    "options",
    [
        ONCE,
        SegmentOptions(fps="native"),
        replace(ONCE, propagate="flow"),
        replace(ONCE, outputs=("json", "overlay")),
    ],
    ids=["two a second", "native", "flow", "few outputs"],
)
@pytest.mark.parametrize("killed", [False, True], ids=["ctrl-c", "kill -9"])
def test_an_interrupted_video_goes_on_and_ends_as_if_nothing_had_happened(
    video, tmp_path, options, killed, monkeypatch
):
    whole, _ = run(video, tmp_path / "whole", options)
    folder = tmp_path / "cut"
    if killed:  # nothing is closed
        monkeypatch.setattr(SegmentationWriter, "__exit__", left_open)
    outcome, first = run(video, folder, options, Counting(stop_at=8))
    assert outcome.state == "stopped"
    monkeypatch.undo()
    outcome, method = run(video, folder, options)
    assert (outcome.state, outcome.frames, outcome.empty) == ("done", whole.frames, whole.empty)
    assert "goes on behind" in outcome.notes[0]
    looked_at = 40 if options.fps == "native" else 16
    assert first.frames == 8
    assert method.frames <= looked_at - 8 + CHUNK_FRAMES
    one, two = files(tmp_path / "whole"), files(folder)
    assert one == two
    assert (folder / "overlay.mp4").stat().st_size == pytest.approx(
        (tmp_path / "whole" / "overlay.mp4").stat().st_size, rel=0.1
    )


def test_frames_of_half_a_line_and_without_heat_are_done_again(video, tmp_path, monkeypatch):
    run(video, tmp_path / "whole")
    monkeypatch.setattr(SegmentationWriter, "__exit__", left_open)
    run(video, tmp_path / "cut", method=Counting(stop_at=8))
    monkeypatch.undo()
    text, heat = (tmp_path / "cut" / f"{name}.partial" for name in ("result.json", "heatmaps.safetensors"))
    text.write_bytes(text.read_bytes()[:-400])
    heat.write_bytes(heat.read_bytes()[:-700])
    assert run(video, tmp_path / "cut")[0].state == "done"
    assert files(tmp_path / "whole") == files(tmp_path / "cut")


def test_an_interrupted_result_of_other_settings_is_done_from_the_beginning(video, tmp_path):
    run(video, tmp_path / "a", method=Counting(stop_at=8))
    outcome, method = run(video, tmp_path / "a", replace(ONCE, fps=1.0))
    assert (outcome.state, outcome.frames, method.frames) == ("done", 8, 8)
    assert any("begun with other settings" in note for note in outcome.notes)


def test_a_folder_that_was_being_cleared_is_neither_whole_nor_of_another_origin(video, tmp_path, monkeypatch):
    folder = tmp_path / "a"
    run(video, folder)

    clear, unlink = SegmentationWriter._clear, Path.unlink

    def killed_at_the_first_image(path, missing_ok=False):
        if path.suffix == ".png":
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    def killed(writer, text):
        with pytest.MonkeyPatch.context() as during:
            during.setattr(Path, "unlink", killed_at_the_first_image)
            clear(writer, text)

    monkeypatch.setattr(SegmentationWriter, "_clear", killed)
    run(video, folder, replace(ONCE, overwrite=True))
    monkeypatch.undo()
    assert run(video, folder)[0].state == "done"
    assert len(list((folder / "masks").iterdir())) == 16


@pytest.mark.parametrize("outputs", [("json",), ("masks",), ("heatmaps", "json"), ("overlay",)])
def test_only_what_is_asked_for_is_written_and_can_be_loaded(video, tmp_path, outputs):
    run(video, tmp_path / "all")
    options = replace(ONCE, outputs=outputs)
    run(video, tmp_path / "all", replace(options, overwrite=True))  # what is not asked for goes
    expected = {"result.json"}
    expected |= {"overlay.mp4"} if "overlay" in outputs else set()
    expected |= {"masks"} if "masks" in outputs else set()
    expected |= {"heatmaps", "heatmaps.safetensors"} if "heatmaps" in outputs else set()
    assert {path.name for path in (tmp_path / "all").iterdir()} == expected
    result = Segmentation.load(tmp_path / "all")
    assert result.masks.shape == (16, 48, 64)
    assert result.heatmaps.size == 0 or "heatmaps" in outputs
    assert run(video, tmp_path / "all", options)[0].state == "skipped"


def test_unknown_outputs_are_refused():
    with pytest.raises(Exception, match="overlay, masks, heatmaps, json, found mask"):
        SegmentOptions(outputs=("mask",))
    assert SegmentOptions().outputs == OUTPUTS


def test_what_another_process_works_on_is_left_to_it(video, tmp_path):
    folder = tmp_path / "out" / "a"
    code = (
        "import sys; from pathlib import Path; from moca_avs.inference.finished import claim\n"
        "with claim(Path(sys.argv[1])) as ours: print(ours, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "True\n"
    outcome, method = run(video, folder)
    assert (outcome.state, outcome.message) == ("skipped", "another process is at work on it")
    assert method.frames == 0
    holder.kill()  # a claim dies with its process
    holder.communicate()
    assert run(video, folder)[0].state == "done"
    assert [path.name for path in folder.parent.iterdir()] == ["a"]


def test_a_claim_is_held_once(tmp_path):
    with claim(tmp_path / "a") as first, claim(tmp_path / "a") as second, claim(tmp_path / "b") as other:
        assert (first, second, other) == (True, False, True)
    with claim(tmp_path / "a") as again:
        assert again
    assert list(tmp_path.iterdir()) == []


def test_the_index_has_a_line_per_input(video, tmp_path):
    good, _ = run(video, tmp_path / "a", SegmentOptions(fps=1.0))
    (tmp_path / "bad.mp4").write_text("no video")
    bad, _ = run(tmp_path / "bad.mp4", tmp_path / "b")
    for outcomes in ([good, bad], [good]):
        with RunIndex(tmp_path) as index:
            for outcome in outcomes:
                index.add(outcome)
    lines = [json.loads(line) for line in (tmp_path / "index.jsonl").read_text().splitlines()]
    assert [line["state"] for line in lines] == ["done", "failed", "done"]
    assert lines[0]["input"] == str(video)
    assert (lines[0]["frames"], sum(lines[0]["empty"].values())) == (8, sum(good.empty.values()))
    assert "is not a video" in lines[1]["message"]
    assert lines[0]["run"] == lines[1]["run"]
    assert set(lines[0]) == {
        "input", "result", "state", "message", "frames", "empty", "notes", "seconds", "time", "run",
    }  # fmt: skip
