"""The exception that stops a job's thread: it comes in time, or not at all."""

import random
import sys
import threading
import time

import pytest

from openlaunch_worker import interrupts
from openlaunch_worker.interrupts import Interrupted, Interrupts
from openlaunch_worker.jobs import Job, Stop


def job(number=1):
    return Job(number, 0, 0.0, 0.0, None)


def stop(guard, one):
    one.stop = Stop.CANCELLED
    guard.interrupt(one)


def in_thread(target):
    thread = threading.Thread(target=target)
    thread.start()
    return thread


def spin(seconds=20.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def linger():
    """Run a little further, as the next job would."""
    spin(0.15)


def test_what_runs_is_interrupted():
    guard, one, begun, seen = Interrupts(), job(), threading.Event(), []

    def work():
        begun.set()
        spin()

    def run():
        try:
            guard.run(one, work)
        except Interrupted:
            seen.append("interrupted")
        linger()
        seen.append("went on")

    thread = in_thread(run)
    begun.wait()
    stop(guard, one)
    thread.join(5)
    assert seen == ["interrupted", "went on"]


def test_what_was_stopped_before_is_not_begun():
    guard, one = Interrupts(), job()
    stop(guard, one)
    with pytest.raises(Interrupted):
        guard.run(one, pytest.fail)


def test_what_has_ended_is_left_alone():
    guard, one = Interrupts(), job()
    assert guard.run(one, lambda: 7) == 7
    stop(guard, one)
    linger()


def test_an_exception_that_is_sent_too_late_is_taken_back(monkeypatch):
    """The function ends between the moment that it is chosen and the moment that the exception is sent."""
    guard, one, seen = Interrupts(), job(), []
    begun, chosen = threading.Event(), threading.Event()
    send = interrupts._set_async_exc

    def late(thread, kind):
        if kind is not None:
            chosen.set()
            time.sleep(0.05)
        send(thread, kind)

    monkeypatch.setattr(interrupts, "_set_async_exc", late)

    def work():
        begun.set()
        chosen.wait()
        return "done"

    def run():
        try:
            seen.append(guard.run(one, work))
        except Interrupted:
            seen.append("interrupted")
        linger()
        seen.append("went on")

    thread = in_thread(run)
    begun.wait()
    stop(guard, one)
    thread.join(5)
    assert seen[1:] == ["went on"]


def test_what_a_thread_waits_for_is_cut_while_the_thread_is_in_the_job(monkeypatch):
    guard, one, released, begun, seen = Interrupts(), job(), threading.Event(), threading.Event(), []

    def work():
        begun.set()
        released.wait()

    def run():
        with pytest.raises(Interrupted):
            guard.run(one, work)
        seen.append("left")

    def cut():
        released.set()
        time.sleep(0.05)
        assert seen == []

    thread = in_thread(run)
    begun.wait()
    monkeypatch.setitem(interrupts.CUTS, thread.ident, cut)
    stop(guard, one)
    thread.join(5)
    assert seen == ["left"]


def test_jobs_that_are_stopped_at_any_moment_never_hit_the_next_one(monkeypatch):
    """Jobs of some microseconds in a row in one thread, each stopped at a random moment, with late sending too."""
    guard, dice = Interrupts(), random.Random(3)
    count, now, strays, stopped = 3000, [job(0)], [], []
    send = interrupts._set_async_exc

    def wavering(thread, kind):
        if kind is not None and dice.random() < 0.2:
            time.sleep(0)  # the other thread goes on here
        send(thread, kind)

    monkeypatch.setattr(interrupts, "_set_async_exc", wavering)

    def work(size):
        for _ in range(size):
            pass
        return size

    def run():
        for number in range(count):
            try:
                one = now[0] = job(number)
                try:
                    size = number * 37 % 4000
                    assert guard.run(one, work, size) == size
                except Interrupted:
                    stopped.append(one.stop)
                for _ in range(20):
                    pass
            except Interrupted:
                strays.append(number)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread = in_thread(run)
        last = None
        while thread.is_alive():
            if now[0] is not last:
                last = now[0]
                stop(guard, last)
        thread.join(5)
    finally:
        sys.setswitchinterval(interval)
    assert strays == []
    assert stopped
    assert set(stopped) == {Stop.CANCELLED}
