"""Streams of both clients over real sockets: their ends, their being cut, and their being left."""

import asyncio
import gc
import json
import signal
import threading

import pytest
from canned_server import reply

import openlaunch
from openlaunch.errors import NotFound, StreamInterrupted
from openlaunch.wire.sse import END_EVENT


def event(value, status="SUCCESS"):
    return b"data: " + json.dumps({"status": status, "result": {"result": value}}).encode() + b"\n\n"


def test_a_stream_gives_items_up_to_its_end(both, server):
    server.routes["POST /v1/streaming-tasks"] = lambda request: (200, {}, [event(1), event("b"), END_EVENT])
    stream = both.predict(both.endpoint(server, "streaming"))
    assert [(item.result, item.value) for item in both.items(stream)] == [("1", 1), ('"b"', "b")]


def test_streams_that_were_read_share_one_connection(both, server):
    server.routes["POST /v1/streaming-tasks"] = lambda request: (200, {}, [event(1), END_EVENT])
    endpoint = both.endpoint(server, "streaming")
    for _ in range(5):
        both.items(both.predict(endpoint))
    assert len({r.client_address for r in server.requests if r.command == "POST"}) == 1


def test_items_arrive_while_the_stream_goes_on(both, server):
    go_on = threading.Event()

    def pieces():
        yield event(1)
        assert go_on.wait(10)
        yield event(2)
        yield END_EVENT

    server.routes["POST /v1/streaming-tasks"] = lambda request: (200, {}, pieces())
    stream = both.predict(both.endpoint(server, "streaming"))
    first = both.call(next if both.loop is None else anext, stream)
    assert first.value == 1
    go_on.set()
    assert [item.value for item in both.items(stream)] == [2]


@pytest.mark.parametrize("last", [[], [None]], ids=["ended", "cut"])
def test_a_stream_without_its_end_was_interrupted(both, server, last):
    server.routes["POST /v1/streaming-tasks"] = lambda request: (200, {}, [event(1), *last])
    stream = both.predict(both.endpoint(server, "streaming"))
    with pytest.raises(StreamInterrupted, match="after 1 items"):
        both.items(stream)


def test_a_failure_ends_a_stream(both, server):
    server.routes["POST /v1/streaming-tasks"] = lambda request: (200, {}, [event(1), event(None, "FAILURE")])
    statuses = [i.status for i in both.items(both.predict(both.endpoint(server, "streaming")))]
    assert statuses == ["SUCCESS", "FAILURE"]


def test_a_stream_that_is_refused_is_an_error(both, server):
    server.routes["POST /v1/streaming-tasks"] = reply({"detail": "no such endpoint"}, 404)
    with pytest.raises(NotFound, match="no such endpoint"):
        both.predict(both.endpoint(server, "streaming"))


def test_closing_a_stream_frees_its_connection(both, server):
    closed = threading.Event()

    def pieces():
        try:
            while True:
                yield event("x" * 100_000)
        finally:
            closed.set()

    server.routes["POST /v1/streaming-tasks"] = lambda request: (200, {}, pieces())
    stream = both.predict(both.endpoint(server, "streaming"))
    both.call(next if both.loop is None else anext, stream)
    both.call(stream.close)
    both.call(stream.close)
    assert closed.wait(10)


def test_a_stream_of_which_the_reader_is_interrupted_is_stopped(both, server):
    stopped = threading.Event()
    reads = threading.Event()

    def pieces():
        yield b"id: 1\n" + event("x")
        stopped.wait(20)

    def stop(request):
        stopped.set()
        return reply({"cancelled": True})(request)

    server.routes["POST /v1/streaming-tasks"] = lambda request: (200, {"last-event-id": "e0"}, pieces())
    server.routes["DELETE /v1/streaming-tasks"] = stop
    endpoint = both.endpoint(server, "streaming")
    request = openlaunch.EndpointRequest(args={})

    def interrupt():
        reads.wait(10)
        while not stopped.wait(1):  # a signal just before the system call interrupts nothing
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    async def read():
        async for _ in await endpoint.predict(request):
            reads.set()

    async def cancelled():
        task = asyncio.create_task(read())
        await asyncio.to_thread(reads.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    if both.loop is None:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            all(reads.set() is None for _ in endpoint.predict(request))
    else:
        both.call(cancelled)
    assert stopped.is_set()


def test_a_stream_that_is_let_go_is_stopped(both, server):
    stopped = threading.Event()
    closed = threading.Event()

    def pieces():
        try:
            for number in range(10_000):
                yield b"id: %d\n" % number + event("x" * 10_000)
        finally:
            closed.set()

    def stop(request):
        stopped.set()
        return reply({"cancelled": True})(request)

    server.routes["POST /v1/streaming-tasks"] = lambda request: (200, {"last-event-id": "e0"}, pieces())
    server.routes["DELETE /v1/streaming-tasks"] = stop
    endpoint = both.endpoint(server, "streaming")

    async def leave():
        async for _ in await endpoint.predict(openlaunch.EndpointRequest(args={})):
            break
        await asyncio.to_thread(stopped.wait, 10)

    gc.disable()  # nothing waits for a collection
    try:
        if both.loop is None:
            for _ in endpoint.predict(openlaunch.EndpointRequest(args={})):
                break
        else:
            both.call(leave)
        assert stopped.wait(10)
        assert closed.wait(10)
    finally:
        gc.enable()
