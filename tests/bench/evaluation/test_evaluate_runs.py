"""Runs of an evaluation over a small world: shards, kill and resume, files, broken samples, memory."""

import json
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from helpers import TESTS
from helpers.color_world import AdaptedListener, ColorWorld, foreground, listener, painter
from moca_avs.errors import DataError, UsageError
from moca_avs_bench.evaluation.controls import draw_partners
from moca_avs_bench.evaluation.evaluate import evaluate
from moca_avs_bench.evaluation.report import merge, read_report
from moca_avs_bench.metrics import region

HERE = TESTS


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_three_shards_merge_to_one_run(tmp_path):
    options = {"foreground": foreground, "seed": 1}
    whole = evaluate(
        AdaptedListener(), ColorWorld(11, broken=["clip0004"]), jsonl=tmp_path / "one.jsonl", **options
    )
    parts = [tmp_path / f"part{i}.jsonl" for i in (1, 2, 3)]
    for i, part in enumerate(parts, 1):
        world = ColorWorld(11, broken=["clip0004"])
        shard = evaluate(AdaptedListener(), world, jsonl=part, shard=(i, 3), **options)
        assert shard.samples in (3, 4)
    merged = merge([parts[2], parts[0], parts[1]])
    assert merged.to_json() == whole.to_json()
    records = sorted((r for part in parts for r in lines_of(part)[1:]), key=lambda r: r["index"])
    assert records == lines_of(tmp_path / "one.jsonl")[1:]  # the same wrong-sound partners too
    with pytest.raises(DataError, match="hold 8 of 11 samples"):
        merge(parts[:2])
    with pytest.raises(DataError, match="there twice"):
        merge([*parts, parts[0]])


def test_a_killed_run_goes_on_to_the_same_report(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {str(HERE)!r})
        from helpers.color_world import ColorWorld, listener
        from moca_avs_bench.evaluation.evaluate import evaluate
        def slow(clip):
            time.sleep(0.03)
            return listener(clip)
        evaluate(slow, ColorWorld(40), jsonl={str(tmp_path / "killed.jsonl")!r})
        """)
    )
    killed = tmp_path / "killed.jsonl"
    process = subprocess.Popen([sys.executable, script])
    while not killed.exists() or killed.read_bytes().count(b"\n") < 6:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    half = len(lines_of(killed))
    assert 6 <= half < 41
    with killed.open("a") as lines:
        lines.write('{"index": 17, "id": "cl')  # what a kill inside a write leaves

    def slow(clip):
        return listener(clip)

    world = ColorWorld(40)
    resumed = evaluate(slow, world, jsonl=killed, resume=True)
    assert len(set(world.loaded)) <= 40
    done_before = {record["id"] for record in lines_of(killed)[1:half]}
    assert len(done_before) == half - 1
    whole = evaluate(slow, ColorWorld(40), jsonl=tmp_path / "whole.jsonl")
    assert resumed.to_json() == whole.to_json()
    assert killed.read_text() == (tmp_path / "whole.jsonl").read_text()
    again = ColorWorld(40)
    assert evaluate(slow, again, jsonl=killed, resume=True).to_json() == whole.to_json()
    assert not again.loaded  # nothing left to do


def test_a_run_killed_in_its_first_line_starts_anew(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"format": 1, "data')
    report = evaluate(listener, ColorWorld(3), jsonl=path, resume=True)
    assert report.to_json() == evaluate(listener, ColorWorld(3)).to_json()


def test_an_existing_file_is_never_overwritten_or_mixed(tmp_path):
    path = tmp_path / "records.jsonl"
    evaluate(listener, ColorWorld(3), jsonl=path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="exists"):
        evaluate(listener, ColorWorld(3), jsonl=path)
    with pytest.raises(UsageError, match="another evaluation: seed: 1 against 0"):
        evaluate(listener, ColorWorld(3), jsonl=path, resume=True, seed=1)
    with pytest.raises(UsageError, match=r"settings: .*painter.*listener"):
        evaluate(painter, ColorWorld(3), jsonl=path, resume=True)
    with pytest.raises(UsageError, match="size: 4 against 3"):
        evaluate(listener, ColorWorld(4), jsonl=path, resume=True)
    assert path.read_bytes() == before
    evaluate(listener, ColorWorld(3), jsonl=tmp_path / "other.jsonl", seed=1)
    with pytest.raises(UsageError, match="not of the same evaluation"):
        merge([path, tmp_path / "other.jsonl"])


def test_broken_samples_are_counted_and_listed_never_replaced(tmp_path):
    world = ColorWorld(8, broken=["clip0002", "clip0005"])
    report = evaluate(listener, world, jsonl=tmp_path / "records.jsonl")
    assert (report.samples, report.tiers["all"].samples) == (8, 6)
    assert report.failed == (
        {"id": "clip0002", "error": "clip0002.mp4 is missing"},
        {"id": "clip0005", "error": "clip0005.mp4 is missing"},
    )
    samples = [ColorWorld(8).load(i) for i in world.ids if i not in world.broken]
    iou = [region.frame_iou(listener(s.clip).masks, s.masks).mean() for s in samples]
    assert report.score("miou").estimate == pytest.approx(np.mean(iou))
    without = {row["id"] for row in report.no_partner}
    drawn = draw_partners(world, 0)
    assert without == {i for i in world.ids if i not in world.broken and drawn[i] in world.broken}
    assert "clip0005.mp4 is missing" in report.to_markdown()
    with pytest.raises(DataError, match=r"none of 2 samples could be scored; the first, clip0000"):
        evaluate(listener, ColorWorld(2, broken=["clip0000", "clip0001"]))


def test_a_method_that_answers_with_another_shape_is_named():
    def small(clip):
        answer = listener(clip)
        return type(answer)(
            answer.masks[:, ::2], *(getattr(answer, k) for k in ("heatmaps", "scores", "reasons", "times"))
        )

    with pytest.raises(DataError, match=r"truth's shape \[5, 24, 24\], found \[5, 12, 24\]"):
        evaluate(small, ColorWorld(1), controls=())


def peak_memory(size):
    """MiB at most held by a process that evaluates `size` videos."""
    script = f"""
import resource, sys
sys.path.insert(0, {str(HERE)!r})
from dataclasses import replace
from helpers.color_world import ColorWorld, painter
from moca_avs_bench.evaluation.evaluate import evaluate

class Plain(ColorWorld):
    def load(self, sample_id):
        return replace(super().load(sample_id), objects=(), swapped=None)

report = evaluate(painter, Plain({size}), controls=())
assert report.samples == {size}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return float(run.stdout)


def test_a_thousand_videos_need_the_memory_of_ten():
    assert peak_memory(1000) <= 1.1 * peak_memory(10)


def test_files_that_are_no_records_are_named(tmp_path):
    path = tmp_path / "notes.txt"
    with pytest.raises(DataError, match=r"notes\.txt should be the JSONL file"):
        read_report([path])
    path.write_text("hello\n")
    with pytest.raises(DataError, match="should be the JSONL file"):
        read_report([path])
    path.write_text('{"format": 99}\n')
    with pytest.raises(DataError, match="format 1"):
        read_report([path])
    evaluate(listener, ColorWorld(2), jsonl=tmp_path / "records.jsonl")
    damaged = (tmp_path / "records.jsonl").read_text().replace('"iou"', "iou")
    path.write_text(damaged)
    with pytest.raises(DataError, match=r"line 2 of .* is damaged"):
        read_report([path])
    for line in (b'{"index": 1.5}\n', b"[]\n", b'{"i": \xed\n'):  # no whole number, no record, no UTF-8
        path.write_bytes((tmp_path / "records.jsonl").read_bytes() + line)
        with pytest.raises(DataError, match=r"line 4 of .* is damaged"):
            read_report([path])
    with pytest.raises(UsageError, match="no JSONL file"):
        read_report([])
