"""What is kept by frame: asked once, also by threads side by side; the oldest goes; errors are not kept."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from moca_avs.utils.frame_cache import FrameCache


def frame(value):
    return np.full((2, 3, 3), value, np.uint8)


def test_a_frame_is_looked_at_once_until_too_many_others_came():
    asked = []
    kept = FrameCache(2)

    def look(value):
        return kept(frame(value), lambda: asked.append(value) or 10 * value)

    assert [look(value) for value in (1, 2, 1, 3, 1, 2)] == [10, 20, 10, 30, 10, 20]
    assert asked == [1, 2, 3, 2]  # 2 was the oldest when 3 came: asking for 1 had made it young again


def test_threads_that_ask_for_the_same_frame_wait_for_one_answer():
    asked, threads = [], 8
    together = threading.Barrier(threads, timeout=20)
    looking = threading.Event()
    kept = FrameCache(4)

    def find():
        asked.append(1)
        looking.wait(20)
        return "found"

    def ask(_):
        if together.wait() == 0:
            threading.Timer(0.05, looking.set).start()
        return kept(frame(7), find)

    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(ask, range(threads))) == ["found"] * threads
    assert asked == [1]


def test_an_error_reaches_the_one_who_asks_and_the_frame_is_asked_for_again():
    kept = FrameCache(4)
    with pytest.raises(ZeroDivisionError):
        kept(frame(1), lambda: 1 // 0)
    assert kept(frame(1), lambda: "better") == "better"
