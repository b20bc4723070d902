"""One awaitable client in several event loops, one after the other and at once."""

import asyncio
import json
import threading

import pytest
from canned_server import Server, endpoint_document, reply, success

import openlaunch
from openlaunch import aio


@pytest.fixture
def server():
    server = Server()
    server.routes["GET /v1/model-endpoints"] = reply({"model_endpoints": [endpoint_document("sync")]})
    server.routes["POST /v1/sync-tasks"] = lambda r: reply(success(json.loads(r.body)["args"]["x"]))(r)
    yield server
    server.close()


@pytest.fixture
def client(server):
    return aio.LaunchClient("key", server.url)


async def ask(client, x):
    endpoint = await client.get_model_endpoint("double")
    return (await endpoint.predict(openlaunch.EndpointRequest(args={"x": x}))).value


def test_a_client_works_in_one_loop_after_the_other(client):
    # An unclosed connection of an earlier loop would be a ResourceWarning, which is an error here.
    assert [asyncio.run(ask(client, turn)) for turn in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize("call", [lambda client: ask(client, 1), lambda client: client.close()])
def test_where_no_loop_of_asyncio_runs_the_error_says_what_to_use(client, call):
    """Trio, for one, runs coroutines itself."""
    with pytest.raises(RuntimeError, match=r"no event loop of asyncio runs here.* under trio, call"):
        call(client).send(None)


def test_a_client_works_in_several_loops_at_once(client):
    both_asked = threading.Barrier(2)
    wrong = []

    async def many(offset):
        assert await ask(client, offset) == offset
        both_asked.wait(10)
        for x in range(offset, offset + 30):
            if (value := await ask(client, x)) != x:
                wrong.append((x, value))

    threads = [threading.Thread(target=lambda o=o: asyncio.run(many(o))) for o in (0, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_callbacks_are_called_in_the_loop_that_asked_for_them(client, server):
    answers = []
    server.routes["POST /v1/async-tasks/wait"] = lambda r: reply({"tasks": answers})(r)

    async def leave():
        client.future("t").add_done_callback(lambda future: None)
        await asyncio.sleep(0)

    async def wait():
        called = asyncio.Event()
        client.future("t").add_done_callback(lambda future: called.set())
        await asyncio.wait_for(called.wait(), 10)

    asyncio.run(leave())
    answers.append({"task_id": "t", **success(1)})
    asyncio.run(wait())


def test_a_closed_client_is_closed_in_every_loop(client):
    async def use_and_close():
        await ask(client, 1)
        await client.close()

    asyncio.run(use_and_close())
    with pytest.raises(RuntimeError, match="the client is closed"):
        asyncio.run(ask(client, 1))


def test_a_stream_that_is_read_in_another_loop_says_so(client, server):
    stopped = threading.Event()

    def items(request):
        yield b": begun\n\n"
        stopped.wait(10)

    server.routes["GET /v1/model-endpoints"] = reply({"model_endpoints": [endpoint_document("streaming")]})
    server.routes["POST /v1/streaming-tasks"] = lambda r: (
        200,
        {"content-type": "text/event-stream"},
        items(r),
    )

    async def begin():
        endpoint = await client.get_model_endpoint("double")
        return await endpoint.predict(openlaunch.EndpointRequest(args={"x": 1}))

    async def read(stream):
        return [item async for item in stream]

    with asyncio.Runner() as first:
        stream = first.run(begin())
        with pytest.raises(RuntimeError, match=r"another event loop.* the asyncio.run that called predict"):
            asyncio.run(read(stream))
        first.run(stream.close())
    stopped.set()
