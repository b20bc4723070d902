"""Requests that are cancelled, or pass their deadline."""

import asyncio
import contextlib
import json
import random
import threading
import time
from pathlib import Path

import pytest
from worker_driver import Worker, returning, wait_until

from openlaunch_worker.frames import REQUEST_HEAD, Flags, Kind, Outcome, encode

pytestmark = pytest.mark.usefixtures("each_loop")


def waiting_model(folder):
    """predict(name) says that it runs, and returns when a file of that name is there."""
    folder = str(folder)

    def predict(name):
        import pathlib
        import time

        pathlib.Path(folder, name + ".runs").touch()
        while not pathlib.Path(folder, name).exists():
            time.sleep(0.005)
        return name

    return returning(predict)


def runs(folder, name):
    wait_until((folder / f"{name}.runs").exists)


def test_work_that_is_cancelled_as_it_comes_is_answered_once():
    """Whether or not a thread was quick enough to begin it."""

    def predict():
        return 1

    with Worker(returning(predict), per_worker=100) as worker:
        worker.ready()
        body = REQUEST_HEAD.pack(0, 0.0) + b'{"args": {}}'
        worker.socket.sendall(
            b"".join(encode(Kind.REQUEST, i, body) + encode(Kind.CANCEL, i) for i in range(1, 101))
        )
        answers = [worker.answer() for _ in range(100)]
        assert {request_id for request_id, _, _ in answers} == set(range(1, 101))
        assert {outcome for _, outcome, _ in answers} <= {Outcome.SUCCESS, Outcome.CANCELLED}
        worker.send(Kind.DRAIN, 0)
        with pytest.raises(EOFError):
            worker.frame()


def drained(worker):
    worker.send(Kind.DRAIN, 0)
    with pytest.raises(EOFError):
        worker.frame()


def test_a_running_plain_function_is_interrupted_and_answered_once(tmp_path):
    with Worker(waiting_model(tmp_path), per_worker=2) as worker:
        worker.ready()
        first = worker.request({"args": {"name": "first"}})
        runs(tmp_path, "first")
        worker.send(Kind.CANCEL, first)
        worker.send(Kind.CANCEL, first)
        assert worker.answer()[:2] == (first, Outcome.CANCELLED)
        second = worker.request({"args": {"name": "second"}})
        (tmp_path / "second").touch()
        assert worker.answer()[:2] == (second, Outcome.SUCCESS)
        drained(worker)


def test_a_plain_function_cleans_up_when_it_is_interrupted():
    def predict():
        print("it runs")
        try:
            while True:
                try:
                    time.sleep(0.005)
                except Exception:
                    print("it went on")
        finally:
            print("it cleaned up")

    with Worker(returning(predict)) as worker:
        worker.ready()
        request_id = worker.request({"args": {}})
        worker.wait_for_log("it runs")
        worker.send(Kind.CANCEL, request_id)
        assert worker.answer()[:2] == (request_id, Outcome.CANCELLED)
        worker.wait_for_log("it cleaned up")
        assert "it went on" not in worker.log()


def test_a_generator_is_interrupted_between_its_items():
    def predict():
        yield 1
        while True:
            time.sleep(0.005)

    with Worker(returning(predict)) as worker:
        worker.ready()
        request_id = worker.request({"args": {}}, Flags.STREAM)
        assert worker.frame()[0] == Kind.CHUNK
        worker.send(Kind.CANCEL, request_id)
        kind, got, payload = worker.frame()
        assert (kind, got, payload[0]) == (Kind.END, request_id, Outcome.CANCELLED)


def test_a_slot_is_not_free_before_its_function_has_ended(tmp_path):
    def predict(release):
        while True:
            with contextlib.suppress(BaseException):
                print("it runs")
                while not Path(release).exists():
                    time.sleep(0.005)
                return

    with Worker(returning(predict), per_worker=1) as worker:
        worker.ready()
        request_id = worker.request({"args": {"release": str(tmp_path / "release")}})
        worker.wait_for_log("it runs")
        worker.send(Kind.CANCEL, request_id)
        with pytest.raises(TimeoutError):
            worker.frame(timeout=0.3)
        (tmp_path / "release").touch()
        assert worker.answer()[:2] == (request_id, Outcome.CANCELLED)


def test_no_interruption_meets_another_request():
    """Quick requests, each cancelled at some moment of its life: each ends as itself, and no other with it."""

    def predict(marks, wanted):
        total = 0
        for _ in range(marks):
            total += 1
        return [wanted, total]

    count, slots = 3000, 4
    dice = random.Random(20)
    with Worker(returning(predict), per_worker=slots) as worker:
        worker.ready()
        outcomes = dict.fromkeys(Outcome, 0)
        running = {}
        for index in range(count):
            marks = dice.choice((0, 10, 1000, 5000))
            request_id = worker.request({"args": {"marks": marks, "wanted": index}})
            running[request_id] = (index, marks, dice.random() < 0.5)
            if running[request_id][2]:
                until = time.perf_counter() + dice.random() * 400e-6
                while time.perf_counter() < until:
                    pass
                worker.send(Kind.CANCEL, request_id)
            while len(running) == slots or (running and index == count - 1):
                got, outcome, body = worker.answer()
                wanted, marks, cancelled = running.pop(got)
                outcomes[outcome] += 1
                assert outcome == Outcome.SUCCESS or (cancelled and outcome == Outcome.CANCELLED), body
                if outcome == Outcome.SUCCESS:
                    assert json.loads(json.loads(body)["result"]["result"]) == [wanted, marks]
        print(f"of {count} requests {outcomes[Outcome.CANCELLED]} were stopped in time")
        assert outcomes[Outcome.CANCELLED] > count / 1000
        assert worker.value(marks=1, wanted=0) == [0, 1]
        drained(worker)


def test_an_async_function_that_has_not_begun_is_cancelled():
    async def predict():
        await asyncio.sleep(3600)

    with Worker(returning(predict)) as worker:
        worker.ready()
        body = REQUEST_HEAD.pack(0, 0.0) + b'{"args": {}}'
        worker.socket.sendall(encode(Kind.REQUEST, 1, body) + encode(Kind.CANCEL, 1))
        assert worker.answer()[:2] == (1, Outcome.CANCELLED)


def test_an_async_function_is_cancelled_at_once_and_cleans_up(tmp_path):
    cleaned = tmp_path / "cleaned"

    async def predict():
        print("it runs")
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            cleaned.touch()

    with Worker(returning(predict)) as worker:
        worker.ready()
        request_id = worker.request({"args": {}})
        worker.wait_for_log("it runs")
        worker.send(Kind.CANCEL, request_id)
        assert worker.answer()[:2] == (request_id, Outcome.CANCELLED)
        assert cleaned.exists()


def test_an_async_function_that_refuses_to_be_cancelled_is_still_cancelled():
    async def predict():
        print("it runs")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "a value all the same"

    with Worker(returning(predict)) as worker:
        worker.ready()
        request_id = worker.request({"args": {}})
        worker.wait_for_log("it runs")
        worker.send(Kind.CANCEL, request_id)
        assert worker.answer()[:2] == (request_id, Outcome.CANCELLED)


def test_cancelling_what_is_not_there_does_nothing():
    with Worker(returning(lambda: 1)) as worker:
        worker.ready()
        worker.send(Kind.CANCEL, 12345)
        worker.credit(12345, 10)
        assert worker.value() == 1


def test_async_work_ends_at_its_deadline():
    async def predict():
        await asyncio.sleep(3600)

    with Worker(returning(predict)) as worker:
        worker.ready()
        answer = worker.call({"args": {}}, deadline=0.1)
        assert (answer["status"], answer["status_code"]) == ("FAILURE", 504)
        assert "deadline of 0.1 seconds" in answer["traceback"]


def test_each_request_has_its_own_deadline():
    async def predict():
        await asyncio.sleep(3600)

    with Worker(returning(predict)) as worker:
        worker.ready()
        late = worker.request({"args": {}}, deadline=0.4)
        early = worker.request({"args": {}}, deadline=0.1)
        middle = worker.request({"args": {}}, deadline=0.2)
        worker.request({"args": {}})
        assert [worker.answer()[0] for _ in range(3)] == [early, middle, late]


def test_a_plain_function_is_interrupted_at_its_deadline(tmp_path):
    with Worker(waiting_model(tmp_path)) as worker:
        worker.ready()
        answer = worker.call({"args": {"name": "a"}}, deadline=0.1)
        assert (answer["status"], answer["status_code"]) == ("FAILURE", 504)
        assert "deadline of 0.1 seconds" in answer["traceback"]


def test_what_a_plain_function_returns_late_to_be_awaited_is_not_begun(tmp_path):
    def predict():
        async def inner():
            return "begun"

        time.sleep(0.2)
        return inner()

    with Worker(returning(predict)) as worker:
        worker.ready()
        assert worker.call({"args": {}}, deadline=0.1)["status_code"] == 504


def test_a_cancelled_request_frees_its_slot():
    async def predict(seconds):
        await asyncio.sleep(seconds)
        return threading.active_count()

    with Worker(returning(predict), per_worker=1) as worker:
        worker.ready()
        for _ in range(5):
            request_id = worker.request({"args": {"seconds": 3600}})
            worker.send(Kind.CANCEL, request_id)
            assert worker.answer()[:2] == (request_id, Outcome.CANCELLED)
        assert worker.value(seconds=0) > 0
