"""The pool of threads in which plain functions run."""

import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openlaunch_worker.threads import ThreadPool

SECONDS = 10


class Gate:
    """Work that waits until it is opened; it knows its thread, and when it has begun and ended."""

    def __init__(self) -> None:
        self.begun, self.opened, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.thread = ""

    def __call__(self) -> None:
        self.thread = threading.current_thread().name
        self.begun.set()
        self.opened.wait(SECONDS)
        self.ended.set()

    def finish(self) -> None:
        self.opened.set()
        assert self.ended.wait(SECONDS)


def started(pool: ThreadPool, count: int) -> list[Gate]:
    """So much work, which runs when this returns."""
    gates = [Gate() for _ in range(count)]
    for number, gate in enumerate(gates):
        pool.submit(gate, wanted=number + 1)
        assert gate.begun.wait(SECONDS)
    return gates


def until_idle(pool: ThreadPool, threads: int) -> None:
    """Wait until so many threads sleep."""
    wait_until(lambda: len(pool._idle) == threads)


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(SECONDS * 1000):
        if condition():
            return
        pause.wait(0.001)
    pytest.fail("not so in time")


def test_everything_is_run_in_order_by_as_many_threads_as_are_allowed():
    pool, done, names = ThreadPool(1), [], set()
    for number in range(100):

        def work(number: int = number) -> None:
            done.append(number)
            names.add(threading.current_thread().name)

        pool.submit(work, wanted=number + 1)
    wait_until(lambda: len(done) == 100)
    assert done == list(range(100))
    assert names == {"predict-1"}


def test_more_than_there_are_threads_waits_for_one():
    pool = ThreadPool(2)
    first, second = started(pool, 2)
    third = Gate()
    pool.submit(third, wanted=3)
    first.finish()
    assert third.begun.wait(SECONDS)
    assert third.thread == first.thread
    second.finish()
    third.finish()


def test_no_thread_is_made_while_one_is_idle():
    pool = ThreadPool(8)
    for _ in range(20):
        (gate,) = started(pool, 1)
        gate.finish()
        until_idle(pool, 1)
    assert gate.thread == "predict-1"


def test_who_became_idle_last_is_woken_first():
    pool = ThreadPool(3)
    gates = started(pool, 3)
    for number, gate in enumerate((gates[1], gates[2], gates[0])):
        gate.finish()
        until_idle(pool, number + 1)
    (woken,) = started(pool, 1)
    assert woken.thread == gates[0].thread
    woken.finish()


def test_one_that_is_woken_wakes_the_next_where_there_is_more_to_do():
    pool = ThreadPool(4)
    for gate in started(pool, 4):
        gate.finish()
    until_idle(pool, 4)
    gates = [Gate() for _ in range(4)]
    for gate in gates:
        pool.submit(gate, wanted=4)
    assert all(gate.begun.wait(SECONDS) for gate in gates)
    for gate in gates:
        gate.finish()


@given(idle=st.integers(0, 6), calls=st.integers(1, 8), limit=st.integers(1, 8))
@settings(max_examples=20)
def test_no_work_waits_while_a_thread_may_be_had(idle: int, calls: int, limit: int):
    idle = min(idle, limit)
    pool = ThreadPool(limit)
    for gate in started(pool, idle):
        gate.finish()
    until_idle(pool, idle)
    gates = [Gate() for _ in range(calls)]
    for number, gate in enumerate(gates):
        pool.submit(gate, wanted=number + 1)
    at_once = gates[:limit]
    assert all(gate.begun.wait(SECONDS) for gate in at_once)
    assert pool._size == max(idle, len(at_once)), "as many threads as there is work, and no more"
    for gate in gates:
        gate.finish()


def test_work_that_finds_no_thread_waits_for_those_that_there_are(monkeypatch):
    pool = ThreadPool(8)
    (first,) = started(pool, 1)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    second = Gate()
    pool.submit(second, wanted=2)
    first.finish()
    assert second.begun.wait(SECONDS)
    second.finish()


def test_work_for_which_there_is_no_thread_is_refused(monkeypatch):
    pool, gate = ThreadPool(8), Gate()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            pool.submit(gate, wanted=1)
    (other,) = started(pool, 1)
    other.finish()
    assert not gate.begun.is_set()


def refuse(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
