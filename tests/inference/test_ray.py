"""`moca segment --engine ray` on a real Ray with two processes, real weights and real files."""

import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from helpers import ray_methods
from helpers.media_files import bark, images, make_video
from helpers.ray_methods import FATAL, Signed
from moca_avs import Segmentation
from moca_avs.cli import main
from moca_avs.errors import UsageError
from moca_avs.inference.inputs import plan
from moca_avs.inference.job import SegmentOptions
from moca_avs.inference.ray import QUIET, RayConfig, segment_on_ray
from moca_avs.inference.segment import segment_all
from moca_avs.io.results import is_complete

pytestmark = [
    pytest.mark.weights,
    # Ray's own, at its start, in its threads and when its sockets and log files are collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Tip. In future versions of Ray:FutureWarning"),
]

FROZEN = ("--method", "frozen", "--device", "cpu", "--set", "refine=none")


@pytest.fixture(scope="module")
def two_processes():
    """One Ray for all tests of this module."""
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray

        ray.init(
            "local",
            num_cpus=2,
            object_store_memory=2**27,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",  # as the engine does it
            log_to_driver=False,
            logging_level="ERROR",
        )
        ray.cloudpickle.register_pickle_by_value(ray_methods)
        yield
        ray.cloudpickle.unregister_pickle_by_value(ray_methods)
        ray.shutdown()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return [
        make_video(folder / f"{index}.mp4", images(10, 64, 96, index), bark(2, seed=index), fps=5)
        for index in range(6)
    ]


def on_ray(jobs, load, options=None, **config):
    settings = {"workers": 2, **config}
    return list(
        segment_on_ray(jobs, load, options or SegmentOptions(), RayConfig(**settings), progress=False)
    )


@pytest.mark.slow
def test_killing_a_worker_loses_nothing_and_the_job_completes(two_processes, videos, tmp_path, capsys):
    (tmp_path / "pids").mkdir()
    jobs = plan(videos, tmp_path / "out")
    outcomes = segment_on_ray(
        jobs, Signed(tmp_path / "pids"), SegmentOptions(), RayConfig(workers=2), progress=False
    )
    first = next(outcomes)
    written = (first.job.folder / "result.json").stat().st_mtime_ns
    before = {int(path.name) for path in (tmp_path / "pids").iterdir()}
    for victim in before:
        os.kill(victim, signal.SIGKILL)
    rest = list(outcomes)
    after = {int(path.name) for path in (tmp_path / "pids").iterdir()}
    assert after > before  # others took over
    assert sorted(one.job.name for one in (first, *rest)) == [str(video) for video in videos]
    assert {one.state for one in (first, *rest)} <= {"done", "skipped"}
    assert all(is_complete(job.folder) for job in jobs)
    assert (first.job.folder / "result.json").stat().st_mtime_ns == written
    said = [
        line for line in capsys.readouterr().out.splitlines() if "(raylet)" not in line
    ]  # Ray, of the death
    assert said == ["engine: ray, 2 workers with 1 threads each", "method: frozen"]


@pytest.fixture(scope="module")
def spread(two_processes, videos, tmp_path_factory):
    """A video that kills, and two good ones, on two workers that try once more: (jobs, name -> outcome)."""
    folder = tmp_path_factory.mktemp("spread")
    bad = make_video(folder / "bad.mp4", images(5, FATAL, 64), bark(1), fps=5)
    jobs = plan([bad, *videos[:2]], folder / "out")
    done = on_ray(jobs, Signed(folder, FATAL), SegmentOptions(limit=2), retries=1)
    return jobs, {one.job.source.name: one for one in done}


@pytest.mark.slow
def test_a_video_that_kills_every_worker_is_the_only_one_that_fails(spread):
    _, outcomes = spread
    assert [outcomes[name].state for name in ("bad.mp4", "0.mp4", "1.mp4")] == ["failed", "done", "done"]
    assert "its worker died 2 times" in outcomes["bad.mp4"].message


def test_results_are_those_of_the_local_engine(spread, videos, tmp_path):
    here = plan(videos[:2], tmp_path / "local")
    local = list(segment_all(here, Signed(tmp_path), SegmentOptions(limit=2), progress=False))
    jobs, outcomes = spread
    for job, mine in zip(jobs[1:], local, strict=True):
        other = outcomes[job.source.name]
        assert (other.state, other.frames, other.empty) == (mine.state, mine.frames, mine.empty)
        assert set(other.seconds) == set(mine.seconds)
        one, two = Segmentation.load(mine.job.folder), Segmentation.load(job.folder)
        assert np.array_equal(one.masks, two.masks)
        assert np.allclose(one.heatmaps, two.heatmaps, atol=1e-2)
        assert one.settings == two.settings


def test_the_command_lists_failures_skips_the_finished_and_reads_lists_and_urls(
    two_processes, videos, tmp_path, capsys
):
    (tmp_path / "fake.mp4").write_text("no video")
    lines = (videos[0], f"file://{videos[1]}", tmp_path / "fake.mp4", f"file://{tmp_path}/gone.mp4")
    (tmp_path / "list.txt").write_text("\n".join(map(str, lines)))
    command = [
        "segment",
        f"@{tmp_path}/list.txt",
        "-o",
        str(tmp_path / "out"),
        "--engine",
        "ray",
        "--limit",
        "1",
    ]
    assert main([*command, *FROZEN]) == 1
    ended = capsys.readouterr()
    assert "moca: 2 of 4 inputs failed:" in ended.err
    assert "fake.mp4 is not a video" in ended.err
    assert "gone.mp4 can't be fetched: there is no such file" in ended.err
    assert f"{videos[0]}: 1 frames -> {tmp_path / 'out' / '0'}\n" in ended.out
    assert ended.out.count("device: cpu (asked for)") == 1
    result = Segmentation.load(tmp_path / "out" / "1")
    assert result.settings["input"]["source"] == f"file://{videos[1]}"
    (tmp_path / "list.txt").write_text("\n".join(map(str, lines[:2])))
    assert main([*command, *FROZEN]) == 0
    assert capsys.readouterr().out.count("skipped") == 2


def test_what_is_wrong_for_all_is_said_once(two_processes, videos, tmp_path, capsys):
    command = ["segment", *map(str, videos[:2]), "-o", str(tmp_path), "--engine", "ray", "--set", "nothing=1"]
    assert main(command) == 2
    assert capsys.readouterr().err.count("unknown settings nothing") == 1


def test_more_than_there_is_and_less_than_nothing(two_processes, videos, tmp_path):
    with pytest.raises(UsageError, match=r"3 processors .* more than the 2 processors"):
        on_ray(plan(videos[:1], tmp_path), Signed(tmp_path), cpus_per_worker=3)
    with pytest.raises(UsageError, match="workers must be at least 1, found 0"):
        RayConfig(workers=0)


def test_without_ray_its_extra_is_named(videos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'moca-avs\[ray\]'"):
        on_ray(plan(videos[:1], tmp_path), Signed(tmp_path))


@pytest.mark.slow
def test_ctrl_c_keeps_the_finished_and_says_no_more_than_that(videos, tmp_path):
    long = make_video(tmp_path / "long.mp4", images(500, 64, 96), bark(100), fps=5)
    # A shell's background jobs ignore Ctrl-C and hand that down; a user's own call does not.
    code = "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main())"
    command = [sys.executable, "-c", f"import signal, sys; from moca_avs.cli import main; {code}", "segment"]
    options = ["--engine", "ray", "--workers", "1", "--fps", "native", *FROZEN]
    process = subprocess.Popen(
        [*command, videos[0], long, "-o", tmp_path / "out", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        deadline = time.monotonic() + 300
        while not is_complete(tmp_path / "out" / "0"):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, complained = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in complained
    assert complained.rstrip().endswith("moca: stopped")
    assert is_complete(tmp_path / "out" / "0")
    assert not is_complete(tmp_path / "out" / "long")
