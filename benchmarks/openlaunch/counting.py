"""What it costs a sync prediction that it is counted: `counting.py ROUNDS`.

One server runs in this process, and its client and its worker in others. Rounds of requests are sent in turns: with
what counts predictions, and with the same functions from whose source those lines were taken out. Prints one line of
JSON for each number of connections: microseconds of CPU of the event loop's thread for a request, with and without,
and by how many percent counting makes it more; of the fastest tenth of the rounds, and of their median.
"""

import asyncio
import gc
import inspect
import json
import multiprocessing
import signal
import socket
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import uvloop

from openlaunch import LaunchClient
from openlaunch.server.dispatch import links, work
from openlaunch.server.operations.datadir import DataDir
from openlaunch.server.operations.listener import bound_socket
from openlaunch.server.serve import serve_on
from openlaunch.server.settings import Settings

KEY = "a-key-for-this-measurement"
SPAWN = multiprocessing.get_context("spawn")
REQUESTS = 512
"""In a round."""

COUNTING = (
    (
        links.WorkerLink,
        "send_work",
        ("work.numbers = numbers = self._numbers", "numbers.request_bytes += size"),
    ),
    (links.WorkerLink, "_on_answer", ("tally.predictions += 1", "self._numbers.response_bytes += size")),
    (work.Work, "started", ("self.started_at = monotonic()",)),
    (work.Work, "finished", ("self.numbers.answered(outcome, self.began, self.started_at)",)),
)
"""Functions that each prediction passes through, and their lines that count."""


def null(x: int) -> int:
    return x


def without(function, lines):
    """Return the function without these lines of its source."""
    source = textwrap.dedent(inspect.getsource(function))
    for line in lines:
        assert source.count(f"{line}\n") == 1, (function, line)
        source = source.replace(f"{line}\n", "pass\n")
    made: dict[str, object] = {}
    exec(compile(source, inspect.getsourcefile(function) or "", "exec"), function.__globals__, made)
    return made[function.__name__]


WAYS = {
    True: [getattr(owner, name) for owner, name, _ in COUNTING],
    False: [without(getattr(owner, name), lines) for owner, name, lines in COUNTING],
}


def count(yes: bool) -> None:
    """Have predictions counted, or not."""
    for (owner, name, _), function in zip(COUNTING, WAYS[yes], strict=True):
        setattr(owner, name, function)


def client(pipe, url: str, endpoint: str, connections: int) -> None:
    """Send a round of requests for each word that comes over the pipe."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"args": {"x": 2}}).encode()
    head = f"POST /v1/sync-tasks?model_endpoint_id={endpoint} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    sockets = [socket.create_connection((host, int(port)), timeout=60) for _ in range(connections)]
    while pipe.recv():
        for _ in range(REQUESTS // connections):
            for each in sockets:
                each.sendall(request)
            for each in sockets:
                answer = b""
                while not answer.endswith(b"}"):
                    answer += each.recv(65536)
                assert answer.startswith(b"HTTP/1.1 200"), answer
        pipe.send(None)


async def cost(pipe, yes: bool) -> float:
    """Return the microseconds of CPU of the loop's thread for each request of a round."""
    count(yes)
    gc.collect()
    before = time.thread_time()
    pipe.send(True)
    while not pipe.poll():
        await asyncio.sleep(0.01)
    pipe.recv()
    return (time.thread_time() - before) * 1e6 / REQUESTS


async def measure(url: str, endpoint: str, connections: int, rounds: int) -> None:
    pipe, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=client, args=(theirs, url, endpoint, connections))
    process.start()
    for yes in (True, False):
        await cost(pipe, yes)
    costs: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * rounds):
        yes = number % 4 in (0, 3)  # with, without, without, with
        costs[yes].append(await cost(pipe, yes))
    pipe.send(False)
    process.join()
    found: dict[str, float] = {"connections": connections, "rounds": rounds}
    for name, part in (("fastest_tenth", 0.1), ("median", 0.5)):
        counted, plain = (sorted(costs[yes])[int(part * rounds)] for yes in (True, False))
        found |= {
            f"{name}_us": counted,
            f"{name}_without_us": plain,
            f"{name}_percent": 100 * (counted / plain - 1),
        }
    print(json.dumps({key: round(value, 2) for key, value in found.items()}), flush=True)


def deployed(url: str) -> str:
    with LaunchClient(endpoint=url, api_key=KEY) as client:
        return client.deploy(
            null, name="null", max_workers=1, per_worker=32, cpus=0.1, memory="64Mi"
        ).model_endpoint.id


async def main(rounds: int) -> None:
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        settings, data = Settings(data_dir=Path(folder), api_key=KEY), DataDir(Path(folder))
        with data.locked(), bound_socket("127.0.0.1", 0) as listener:
            ready = loop.create_future()
            serving = loop.create_task(
                serve_on(settings, data, listener, lambda url, _: ready.set_result(url))
            )
            await asyncio.wait({ready, serving}, return_when=asyncio.FIRST_COMPLETED)
            endpoint = await asyncio.to_thread(deployed, ready.result())
            for connections in (1, 32):
                await measure(ready.result(), endpoint, connections, rounds)
            signal.raise_signal(signal.SIGTERM)
            await serving


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
