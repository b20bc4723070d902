"""What a prediction costs the server, in counts, which are the same on a slow machine: calls and system calls.

The bounds are a little over what was counted when they were set. A change that exceeds one makes every prediction
slower: look for the new call before you raise a bound.

Two things differ on a busy machine. Timers of the server run between predictions, so a prediction's calls are the
median of all predictions. And a stream arrives from its worker in more or fewer chunks: two are normal, the first
item and the rest, and each further chunk may cost a fixed number of calls and writes.
"""

import asyncio
import json
import signal
import socket
import statistics
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType

import pytest
import uvloop
from openai_driver import ROUTES, mock_engine
from server_driver import SMALL

from openlaunch import LaunchClient
from openlaunch.server.dispatch.links import WorkerLink
from openlaunch.server.gateway.protocol import HttpProtocol
from openlaunch.server.operations.datadir import DataDir
from openlaunch.server.operations.listener import bound_socket
from openlaunch.server.serve import serve_on
from openlaunch.server.settings import Settings

REQUESTS = 500
CHUNKS = 2
CALLS_OF_A_FURTHER_CHUNK = 30
WRITES_OF_A_FURTHER_CHUNK = 1.5
# Two of them have the stream looked after while it is silent. Python 3.13 reports more calls of built-in functions.
STREAM_CALLS = 177 if sys.version_info >= (3, 13) else 172

REQUEST_ARRIVES = HttpProtocol.data_received.__code__
CHUNK_ARRIVES = WorkerLink.data_received.__code__


def double(x):
    return 2 * x


async def double_async(x):
    return 2 * x


def count(n):
    yield from range(n)


class Connection:
    """Requests over one connection, as bytes that are made once."""

    def __init__(self, url: str, key: str, path: str, given: dict[str, object]) -> None:
        host, port = url.removeprefix("http://").split(":")
        body = json.dumps(given).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self._socket = socket.create_connection((host, int(port)), timeout=30)

    def send(self, times: int, last: bytes) -> None:
        """Send a number of requests, each after the answer to the one before, which ends with `last`."""
        for _ in range(times):
            self._socket.sendall(self._request)
            answer = b""
            while not answer.endswith(last):
                answer += self._socket.recv(65536)

    def close(self) -> None:
        self._socket.close()


class Counts:
    """Calls of functions in the event loop's thread, and the process's system calls that write."""

    def __init__(self) -> None:
        self._calls = self._chunks = 0
        self._arrivals: list[tuple[int, int]] = []

    def begin(self) -> None:
        self._before = self._system_writes()
        sys.setprofile(self._count)

    def end(self) -> None:
        sys.setprofile(None)
        self._writes = self._system_writes() - self._before
        self._arrivals.append((self._calls, self._chunks))

    def calls(self) -> float:
        """Return the calls of a prediction, without those that its further chunks may cost."""
        costs = [
            calls - before - CALLS_OF_A_FURTHER_CHUNK * max(0, chunks - earlier - CHUNKS)
            for (before, earlier), (calls, chunks) in pairwise(self._arrivals)
        ]
        assert len(costs) == REQUESTS
        return statistics.median(costs)

    def writes(self) -> float:
        """Return the mean writes of a prediction, without those that its further chunks may cost."""
        further = sum(
            max(0, later - earlier - CHUNKS) for (_, earlier), (_, later) in pairwise(self._arrivals)
        )
        return (self._writes - WRITES_OF_A_FURTHER_CHUNK * further) / REQUESTS

    def _count(self, frame: FrameType, event: str, arg: object) -> None:
        if event not in ("call", "c_call"):
            return
        self._calls += 1
        if event == "call" and frame.f_code is REQUEST_ARRIVES:
            self._arrivals.append((self._calls, self._chunks))
        elif event == "call" and frame.f_code is CHUNK_ARRIVES:
            self._chunks += 1

    def _system_writes(self) -> int:
        io = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(io["syscw"])


Serves = Callable[[LaunchClient], tuple[str, dict[str, object]]]
"""Deploys something, and returns the path and the body of a request to it."""


def predictions(function: object, kind: str, args: dict[str, object]) -> Serves:
    def serve(client: LaunchClient) -> tuple[str, dict[str, object]]:
        endpoint = client.deploy(function, name="one", endpoint_type=kind, **SMALL)
        route = {"sync": "sync-tasks", "streaming": "streaming-tasks"}[kind]
        return f"/v1/{route}?model_endpoint_id={endpoint.model_endpoint.id}", {"args": args}

    return serve


def completions(client: LaunchClient) -> tuple[str, dict[str, object]]:
    """A stream that its engine answers whole, so that all of it comes at once."""
    mock_engine(client, "chat").wait_until_ready(60)
    return ROUTES[0], {"model": "chat", "stream": True, "fault": "json"}


async def measure(root: Path, serve: Serves, last: bytes) -> Counts:
    """Serve in this process, and count while a client in a thread sends requests."""
    counts, loop = Counts(), asyncio.get_running_loop()
    settings = Settings(data_dir=root, api_key="a-key-for-this-test")

    def client_side(url: str) -> None:
        with LaunchClient(endpoint=url, api_key="a-key-for-this-test") as client:
            path, body = serve(client)
        connection = Connection(url, "a-key-for-this-test", path, body)
        connection.send(50, last)
        asyncio.run_coroutine_threadsafe(in_loop(counts.begin), loop).result()
        connection.send(REQUESTS, last)
        asyncio.run_coroutine_threadsafe(in_loop(counts.end), loop).result()
        connection.close()

    async def in_loop(call: object) -> None:
        call()

    await while_serving(settings, client_side)
    return counts


async def while_serving(settings: Settings, client_side: Callable[[str], None]) -> None:
    """Serve in this process while a function runs in a thread, which gets the server's URL."""
    data, ready = DataDir(settings.data_dir), asyncio.get_running_loop().create_future()
    with data.locked(), bound_socket("127.0.0.1", 0) as listener:
        serving = asyncio.create_task(
            serve_on(settings, data, listener, lambda url, _: ready.set_result(url))
        )
        await asyncio.wait({ready, serving}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(client_side, ready.result())
        signal.raise_signal(signal.SIGTERM)
        await serving


@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="system calls are counted by Linux's /proc")
@pytest.mark.parametrize(
    ("serve", "last", "calls", "writes"),
    [
        (predictions(double, "sync", {"x": 2}), b"200}", 98, 2.5),
        (predictions(double_async, "sync", {"x": 2}), b"200}", 98, 2.5),
        (predictions(count, "streaming", {"n": 100}), b"0\r\n\r\n", STREAM_CALLS, 3.5),
        (completions, b"]}", 291, 2.5),
    ],
    ids=["plain", "async", "streaming", "completions"],
)
def test_a_prediction_costs_at_most_this_many_calls_and_writes(tmp_path, serve, last, calls, writes):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        counts = runner.run(measure(tmp_path / "data", serve, last))

    assert counts.calls() <= calls
    assert counts.writes() < writes


@pytest.mark.alone
def test_the_first_request_of_the_control_plane_is_not_the_one_that_makes_its_routes(tmp_path):
    """It would hold up all others, for 100,000 calls."""
    calls = 0

    def count_call(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    def client_side(url: str) -> None:
        with LaunchClient(endpoint=url, api_key="a-key-for-this-test") as client:
            assert client.list_api_keys()

    async def serve() -> None:
        sys.setprofile(count_call)  # in this thread, which is the event loop's
        settings = Settings(data_dir=tmp_path / "data", api_key="a-key-for-this-test")
        await while_serving(settings, client_side)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())
    finally:
        sys.setprofile(None)
    assert calls < 70_000
