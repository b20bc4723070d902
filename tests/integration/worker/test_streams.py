"""Requests that are answered with a stream."""

import asyncio
import json
import time

import pytest
from worker_driver import Worker, events, items, returning

from openlaunch_worker.frames import STREAM_WINDOW, Flags, Kind, Outcome

pytestmark = pytest.mark.usefixtures("each_loop")

END = b"event: end\n\n"
KINDS = ["plain", "async"]


def counting(kind, size=0):
    """A generator of either kind: counts to n, each item with `size` characters more."""

    def predict(n):
        for i in range(n):
            yield f"{i}" + "x" * size

    async def async_predict(n):
        for i in range(n):
            yield f"{i}" + "x" * size

    return returning(predict if kind == "plain" else async_predict)


@pytest.mark.parametrize("kind", KINDS)
def test_items_come_in_order_and_then_the_end(kind):
    with Worker(counting(kind)) as worker:
        worker.ready()
        assert worker.greeting["generator"] is True
        chunks, outcome, last = worker.stream({"args": {"n": 1000}})
        assert items(b"".join(chunks)) == [str(i) for i in range(1000)]
        assert (outcome, last) == (Outcome.SUCCESS, END)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_stream_is_its_end(kind):
    with Worker(counting(kind)) as worker:
        worker.ready()
        assert worker.stream({"args": {"n": 0}}) == ([], Outcome.SUCCESS, END)


def test_an_event_is_as_the_contract_has_it():
    with Worker(counting("plain")) as worker:
        worker.ready()
        chunks, _, _ = worker.stream({"args": {"n": 1}})
        assert events(b"".join(chunks)) == [
            {"status": "SUCCESS", "result": {"result": "0"}, "traceback": None, "status_code": 200}
        ]


def test_a_plain_value_is_a_stream_of_one_item():
    with Worker(returning(lambda: [1, 2])) as worker:
        worker.ready()
        chunks, outcome, last = worker.stream({"args": {}})
        data = b"".join(chunks) + last
        assert items(data)[0] == [1, 2]
        assert data.endswith(END)
        assert outcome == Outcome.SUCCESS


def test_any_iterator_that_is_returned_is_a_stream():
    with Worker(returning(lambda n: map(str, range(n)))) as worker:
        worker.ready()
        assert items(b"".join(worker.stream({"args": {"n": 3}})[0])) == ["0", "1", "2"]


def test_an_async_function_that_returns_a_generator_is_a_stream():
    async def predict(n):
        return (i for i in range(n))

    with Worker(returning(predict)) as worker:
        worker.ready()
        assert items(b"".join(worker.stream({"args": {"n": 3}})[0])) == [0, 1, 2]


def test_a_plain_function_that_returns_an_async_generator_is_a_stream():
    async def generate(n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    with Worker(returning(lambda n: generate(n))) as worker:
        worker.ready()
        assert items(b"".join(worker.stream({"args": {"n": 3}})[0])) == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_no_item_waits_for_the_next_one(kind):
    """Also when the generator blocks its thread, which for an async one is the loop's."""

    def predict():
        yield 1
        yield 2
        time.sleep(1.0)
        yield 3

    async def async_predict():
        for item in predict():
            yield item

    with Worker(returning(predict if kind == "plain" else async_predict)) as worker:
        worker.ready()
        worker.request({"args": {}}, Flags.STREAM)
        got, start = [], time.monotonic()
        while len(got) < 2:
            kind_, _, payload = worker.frame()
            assert kind_ == Kind.CHUNK
            got += items(payload)
        assert got == [1, 2]
        assert time.monotonic() - start < 0.8


def test_what_is_ready_together_goes_in_few_chunks():
    with Worker(counting("plain")) as worker:
        worker.ready()
        chunks, _, _ = worker.stream({"args": {"n": 5000}})
        assert len(chunks) < 4000


@pytest.mark.parametrize("kind", KINDS)
def test_without_credit_the_generator_stops_at_the_window(kind):
    with Worker(counting(kind, size=10_000)) as worker:
        worker.ready()
        request_id = worker.request({"args": {"n": 1000}}, Flags.STREAM)
        size = 0
        while size < STREAM_WINDOW:
            size += len(worker.frame()[2])
        with pytest.raises(TimeoutError):
            worker.frame(timeout=0.4)
        assert STREAM_WINDOW <= size < STREAM_WINDOW + 11_000
        worker.credit(request_id, 20_000)
        kind_, _, payload = worker.frame()
        assert (kind_, len(payload) > 10_000) == (Kind.CHUNK, True)


@pytest.mark.parametrize("kind", KINDS)
def test_with_credit_a_stream_goes_on_past_the_window(kind):
    with Worker(counting(kind, size=10_000)) as worker:
        worker.ready()
        chunks, outcome, _ = worker.stream({"args": {"n": 200}})
        assert len(items(b"".join(chunks))) == 200
        assert outcome == Outcome.SUCCESS


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_larger_than_the_window_passes(kind):
    with Worker(counting(kind, size=2 * STREAM_WINDOW)) as worker:
        worker.ready()
        chunks, outcome, _ = worker.stream({"args": {"n": 3}})
        assert len(items(b"".join(chunks))) == 3
        assert outcome == Outcome.SUCCESS


@pytest.mark.parametrize("kind", KINDS)
def test_streams_run_side_by_side(kind):
    with Worker(counting(kind), per_worker=8) as worker:
        worker.ready()
        sent = [worker.request({"args": {"n": 100}}, Flags.STREAM) for _ in range(8)]
        got = dict.fromkeys(sent, b"")
        ended = set()
        while len(ended) < 8:
            kind_, request_id, payload = worker.frame()
            if kind_ == Kind.END:
                ended.add(request_id)
            else:
                got[request_id] += payload
        assert all(items(data) == [str(i) for i in range(100)] for data in got.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_is_the_last_event_after_the_items(kind):
    def predict():
        yield 1
        raise ValueError("broken model")

    async def async_predict():
        yield 1
        raise ValueError("broken model")

    with Worker(returning(predict if kind == "plain" else async_predict)) as worker:
        worker.ready()
        chunks, outcome, last = worker.stream({"args": {}})
        assert items(b"".join(chunks)) == [1]
        assert outcome == Outcome.FAILURE
        (event,) = events(last)
        assert event["status"] == "FAILURE"
        assert event["status_code"] == 500
        assert event["traceback"].endswith("ValueError: broken model\n")
        assert "openlaunch_worker" not in event["traceback"]


def test_a_failure_before_the_first_item():
    def predict(x): ...

    with Worker(returning(predict)) as worker:
        worker.ready()
        chunks, outcome, last = worker.stream({"args": {}})
        assert (chunks, outcome) == ([], Outcome.FAILURE)
        assert "missing 1 required positional argument" in events(last)[0]["traceback"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_that_is_not_json_ends_the_stream_and_the_generator(kind, tmp_path):
    closed = tmp_path / "closed"

    def predict():
        try:
            yield 1j
            yield 2
        finally:
            closed.touch()

    async def async_predict():
        try:
            yield 1j
            yield 2
        finally:
            closed.touch()

    with Worker(returning(predict if kind == "plain" else async_predict)) as worker:
        worker.ready()
        _, outcome, last = worker.stream({"args": {}})
        assert outcome == Outcome.FAILURE
        assert "the item, of type complex" in json.loads(last[6:])["traceback"]
        assert closed.exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("full", [False, True])
def test_a_cancelled_stream_closes_its_generator(kind, full, tmp_path):
    """Between items, and also while it waits for credit."""
    closed = tmp_path / "closed"
    size = 50_000 if full else 10

    def predict():
        try:
            while True:
                yield "x" * size
                if not full:
                    time.sleep(0.01)
        finally:
            closed.touch()

    async def async_predict():
        try:
            while True:
                yield "x" * size
                if not full:
                    await asyncio.sleep(0.01)
        finally:
            await asyncio.sleep(0)  # cleaning up may wait
            closed.touch()

    with Worker(returning(predict if kind == "plain" else async_predict)) as worker:
        worker.ready()
        request_id = worker.request({"args": {}}, Flags.STREAM)
        size_seen = 0
        while size_seen < (STREAM_WINDOW if full else 1):
            size_seen += len(worker.frame()[2])
        worker.send(Kind.CANCEL, request_id)
        kind_ = Kind.CHUNK
        while kind_ == Kind.CHUNK:
            kind_, ended, payload = worker.frame()
        assert (kind_, ended, payload[0]) == (Kind.END, request_id, Outcome.CANCELLED)
        assert closed.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_past_its_deadline_ends_as_a_failure(kind):
    def predict():
        while True:
            time.sleep(0.01)
            yield 1

    async def async_predict():
        while True:
            await asyncio.sleep(0.01)
            yield 1

    with Worker(returning(predict if kind == "plain" else async_predict)) as worker:
        worker.ready()
        _, outcome, last = worker.stream({"args": {}}, deadline=0.2)
        assert outcome == Outcome.FAILURE
        assert events(last)[0]["status_code"] == 504
        assert "deadline of 0.2 seconds" in events(last)[0]["traceback"]


def test_a_drained_worker_finishes_its_stream():
    with Worker(counting("plain", size=10_000)) as worker:
        worker.ready()
        request_id = worker.request({"args": {"n": 100}}, Flags.STREAM)
        data = worker.frame()[2]
        worker.send(Kind.DRAIN, 0)
        worker.credit(request_id, 10_000_000)
        while True:
            kind, _, payload = worker.frame()
            if kind == Kind.END:
                break
            data += payload
        assert len(items(data)) == 100
        assert payload[0] == Outcome.SUCCESS
        assert worker.exit_code() == 0


def test_a_stream_that_is_slow_does_not_hold_up_others():
    def predict(forever):
        yield "started"
        while forever:
            time.sleep(0.01)
        yield "done"

    with Worker(returning(predict), per_worker=2) as worker:
        worker.ready()
        slow = worker.request({"args": {"forever": True}}, Flags.STREAM)
        assert items(worker.frame()[2]) == ["started"]
        _, outcome, _ = worker.stream({"args": {"forever": False}})
        assert outcome == Outcome.SUCCESS
        worker.send(Kind.CANCEL, slow)
