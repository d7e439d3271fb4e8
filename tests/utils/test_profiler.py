"""Seconds by stage: what is inside another stage counts once, threads count beside each other."""

import threading
import time

import pytest

from moca_avs.utils.prefetch import BackgroundWriter, prefetch
from moca_avs.utils.profiler import Profiler, profile_table, record, record_each


def sleep(seconds):
    time.sleep(seconds)
    return seconds


def test_a_stage_inside_another_counts_for_itself_only():
    stages = Profiler()
    with stages.activate(), record("outer"):
        sleep(0.02)
        with record("inner"):
            sleep(0.05)
            with record("outer"):
                sleep(0.03)
        with record("inner"):
            sleep(0.05)
    assert stages.seconds.keys() == {"outer", "inner"}
    assert stages.seconds["inner"] >= 0.1
    assert stages.seconds["outer"] >= 0.05


def test_the_parts_of_a_stage_make_up_its_whole():
    ticks = iter(range(100))
    stages = Profiler()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moca_avs.utils.profiler.time.perf_counter", lambda: float(next(ticks)))
        with stages.activate(), record("a"):  # 0
            with record("b"), record("c"):  # 1, 2 .. 3, 4
                pass
            with record("b"):  # 5 .. 6
                pass
        # 7
    assert dict(stages.seconds) == {"c": 1.0, "b": 2.0 + 1.0, "a": 7.0 - 3.0 - 1.0}


def test_nobody_gathers_nothing_is_counted():
    stages = Profiler()
    with record("a"):
        pass
    with stages.activate():
        pass
    with record("b"):
        pass
    assert not stages.seconds


def test_a_stage_counts_where_its_block_fails():
    stages = Profiler()
    with pytest.raises(ValueError, match="x"), stages.activate(), record("a"):
        raise ValueError("x")
    assert stages.seconds.keys() == {"a"}


def test_threads_of_overlap_count_too_and_do_not_shorten_what_runs_beside_them():
    stages = Profiler()
    reading = record_each("read", map(sleep, [0.05] * 3))
    with stages.activate(), record("main"), prefetch(reading) as items, BackgroundWriter() as later:
        for _ in items:
            later(staged_sleep)
        sleep(0.1)
    assert stages.seconds["read"] >= 0.15
    assert stages.seconds["write"] >= 0.06
    assert stages.seconds["main"] >= 0.25


def staged_sleep():
    with record("write"):
        sleep(0.02)


def test_a_gpu_is_waited_for_at_both_ends():
    waited = []
    stages = Profiler()
    stages.wait = lambda: waited.append(threading.current_thread())
    with stages.activate(), record("a"), record("b"):
        pass
    assert len(waited) == 4


def test_staged_passes_everything_on():
    assert list(record_each("a", iter([1, None, 2]))) == [1, None, 2]


def test_the_table_adds_up():
    seconds = {
        "read": 1.0, "image encoder": 4.0, "proposals": 2.0, "decide": 1.0, "masks": 0.5, "overlay": 1.5,
        "waiting for frames": 0.25,
    }  # fmt: skip
    lines = [line.rsplit(maxsplit=2) for line in profile_table(seconds, 10, 8.0).splitlines()[1:]]
    table = {name.strip(): (float(each), share) for name, each, share in (line[:3] for line in lines)}
    assert table["read"] == (100.0, "10.0%")
    assert table["method"] == (700.0, "70.0%")
    assert table["image encoder"] == (400.0, "40.0%")
    assert table["all work"] == (1000.0, "100.0%")
    assert table["from beginning to end"] == (800.0, "80.0%")
    assert table["waiting for frames"] == (25.0, "2.5%")
