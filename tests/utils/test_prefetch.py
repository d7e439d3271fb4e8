"""Threads beside the main one: order, bounds, errors in either direction, and nothing left running."""

import threading
import time
from contextvars import ContextVar
from functools import partial

import pytest

from moca_avs.utils.prefetch import BackgroundWriter, available_threads, parallel_map, prefetch

HERE = ContextVar("here", default="nowhere")


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Counted:
    """A generator that says how far it got, where it ran, and whether it was closed."""

    def __init__(self, count, fail_at=None):
        self.made, self.closed, self.threads, self.context = 0, False, set(), None
        self.items = self._items(count, fail_at)

    def _items(self, count, fail_at):
        try:
            for index in range(count):
                if index == fail_at:
                    raise ValueError("broken")
                self.made += 1
                self.threads.add(threading.current_thread().name)
                self.context = HERE.get()
                yield index
        finally:
            self.closed = True


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_ahead_gives_everything_in_order_from_another_thread(depth):
    counted = Counted(9)
    token = HERE.set("here")
    with prefetch(counted.items, depth) as items:
        assert list(items) == list(range(9))
        assert list(items) == []
    HERE.reset(token)
    assert all(name.startswith("moca-ahead") for name in counted.threads)
    assert counted.context == "here"
    assert counted.closed


@pytest.mark.parametrize("depth", [1, 3])
def test_ahead_runs_ahead_as_far_as_it_may_and_no_further(depth):
    counted = Counted(20)
    with prefetch(counted.items, depth) as items:
        wait_until(lambda: counted.made == depth)
        next(items)
        wait_until(lambda: counted.made == depth + 1)
        time.sleep(0.05)
        assert counted.made == depth + 1
    assert counted.made == depth + 1
    assert counted.closed


def test_an_error_of_the_iterator_comes_in_its_place():
    with prefetch(Counted(9, fail_at=3).items, 2) as items:
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="broken"):
            next(items)


def test_an_error_nobody_asked_for_is_not_raised():
    with prefetch(Counted(9, fail_at=1).items, 1) as items:
        assert next(items) == 0


def test_an_error_or_ctrl_c_of_who_asks_closes_the_iterator():
    def ask_and_fail(counted, error):
        with prefetch(counted.items) as items:
            next(items)
            raise error

    for error in (ValueError, KeyboardInterrupt):
        counted = Counted(9)
        with pytest.raises(error):
            ask_and_fail(counted, error)
        assert counted.closed


def test_ahead_takes_what_is_no_generator_and_what_is_empty():
    with prefetch(map(str, (1, 2))) as items:
        assert list(items) == ["1", "2"]
    with prefetch(()) as items:
        assert list(items) == []


def test_behind_does_everything_in_order_in_another_thread():
    done, threads, contexts = [], set(), set()
    token = HERE.set("here")

    def work(index):
        time.sleep(0.01 * (index % 2))
        done.append(index)
        threads.add(threading.current_thread().name)
        contexts.add(HERE.get())

    with BackgroundWriter(2) as later:
        for index in range(7):
            later(lambda index=index: work(index))
    HERE.reset(token)
    assert done == list(range(7))
    assert contexts == {"here"}
    assert all(name.startswith("moca-behind") for name in threads)


@pytest.mark.parametrize("depth", [1, 3])
def test_giving_more_than_may_wait_waits(depth):
    gate, given = threading.Event(), []

    def give_all(later):
        for index in range(depth + 1):
            later(gate.wait)
            given.append(index)

    with BackgroundWriter(depth) as later:
        giver = threading.Thread(target=give_all, args=(later,))
        giver.start()
        wait_until(lambda: len(given) == depth)
        time.sleep(0.05)
        assert len(given) == depth
        gate.set()
        giver.join()
    assert len(given) == depth + 1


def fail():
    raise OSError("full")


def give(things, depth=1, then=None):
    """Give all of them, then fail, if told how."""
    with BackgroundWriter(depth) as later:
        for thing in things:
            later(thing)
        if then is not None:
            raise then


def test_a_failure_is_raised_at_the_next_thing_and_nothing_is_done_after_it():
    done = []
    numbered = [partial(done.append, index) for index in range(50)]
    with pytest.raises(OSError, match="full"):
        give([numbered[0], fail, *numbered[1:]])
    assert done == [0]


def test_a_failure_is_raised_where_the_block_ends_and_later_things_are_not_done():
    done = []
    with pytest.raises(OSError, match="full"):
        give([partial(time.sleep, 0.05), fail, partial(done.append, 1)], depth=3)
    assert done == []


def test_an_earlier_failure_goes_before_a_later_error_of_who_gave():
    with pytest.raises(OSError, match="full"):
        give([fail], then=ValueError("came after"))


def test_ctrl_c_stays_ctrl_c_and_what_was_given_is_done():
    done = []
    with pytest.raises(KeyboardInterrupt):
        give([partial(time.sleep, 0.05), partial(done.append, 1), fail], depth=3, then=KeyboardInterrupt)
    assert done == [1]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_side_by_side_gives_results_in_order_and_runs_that_many_at_once(workers):
    together = threading.Barrier(workers, timeout=20)

    def work(item):
        together.wait()
        return item * 10, HERE.get()

    token = HERE.set("here")
    with parallel_map(work, range(2 * workers), workers) as results:
        assert list(results) == [(item * 10, "here") for item in range(2 * workers)]
    HERE.reset(token)


def test_side_by_side_begins_before_anything_is_asked_for_and_not_too_much():
    begun = []
    with parallel_map(begun.append, range(100), 3) as results:
        wait_until(lambda: len(begun) == 6)
        next(results)
        wait_until(lambda: len(begun) == 7)
    assert len(begun) == 7


def test_side_by_side_raises_where_the_broken_item_is_asked_for():
    def work(item):
        return 6 // item

    with parallel_map(work, [3, 0, 2], 2) as results:
        assert next(results) == 2
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_threads_are_divided_among_those_who_work_side_by_side(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 12)
    assert available_threads() == 12
    with parallel_map(lambda _: available_threads(), range(4), 4) as results:
        assert list(results) == [3] * 4
        assert available_threads() == 12

    def inner(_):
        with parallel_map(lambda _: available_threads(), range(2), 2) as results:
            return list(results)

    with parallel_map(inner, range(4), 4) as results:
        assert list(results) == [[1, 1]] * 4
    with parallel_map(lambda _: available_threads(), range(20), 20) as results:
        assert set(results) == {1}
