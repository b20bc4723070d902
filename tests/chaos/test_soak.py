"""All that a server is for, with faults all along, for a quarter of an hour: what it holds does not grow."""

import asyncio
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import pytest
from chaos_server import (
    DEADLINE,
    ChaosServer,
    children,
    command_line,
    descriptors,
    is_running,
    kill,
    memory_mib,
    middle,
)
from server_driver import SMALL, args, eventually

from openlaunch import LaunchClient, StreamingEndpoint, SyncEndpoint
from openlaunch.errors import WorkerDied
from openlaunch.wire import routes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads processes in Linux's /proc")

SHORT_SECONDS, LONG_SECONDS = 8.0, 900.0
CLIENTS = 2
"""Of each endpoint: so many requests at most are with a worker that is killed."""

MEMORY_MIB = 16.0
"""The server's memory may grow by so much once it is warm: in the long form some 60 bytes a request."""

DESCRIPTORS = 8
"""So many more may be open under load: another number of workers. With nothing running there are none more."""

Figure = Callable[[str], None]


def doubled(n):
    return ValueError(f"{n} is one that fails") if n % 10 == 0 else 2 * n


def double(n, seconds=0.02):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)  # so that it can be interrupted
    if isinstance(result := doubled(n), Exception):
        raise result
    return result


async def double_async(n, seconds=0.02):
    await asyncio.sleep(seconds)
    return double(n, 0)


def double_many(inputs):
    time.sleep(0.02)
    return [doubled(one["n"]) for one in inputs]


def items(n, seconds=0.02):
    yield n
    yield double(n, seconds)


async def items_async(n, seconds=0.02):
    yield n
    yield await double_async(n, seconds)


MODELS = {
    "soak-sync": (double, {"endpoint_type": "sync"}),
    "soak-async": (double_async, {"endpoint_type": "async"}),
    "soak-batch": (double_many, {"endpoint_type": "sync", "max_batch_size": 8}),
    "soak-items": (items, {"endpoint_type": "streaming"}),
    "soak-items-async": (items_async, {"endpoint_type": "streaming"}),
}


def deploy(client, name, min_workers=1):
    function, settings = MODELS[name]
    return client.deploy(function, name=name, min_workers=min_workers, max_workers=2, **settings, **SMALL)


def ask(endpoint, n):
    """How a prediction ends; raises WorkerDied where that is the reason."""
    if isinstance(endpoint, StreamingEndpoint):
        return last_item(endpoint, n)
    answer = endpoint.predict(args(n=n))
    return answer if isinstance(endpoint, SyncEndpoint) else answer.get(DEADLINE)


def last_item(endpoint, n):
    with endpoint.predict(args(n=n)) as stream:
        *before, last = stream
    if last.status_code == WorkerDied.status:
        raise WorkerDied(last.traceback)
    assert [item.value for item in before] == [n]
    return last


def check(n, response):
    """It is what the model makes of this number."""
    expected = doubled(n)
    if isinstance(expected, Exception):
        assert response.status == "FAILURE", response.status
        assert str(expected) in response.traceback
    else:
        assert response.value == expected


class Load:
    """Clients that ask one thing after the other, as long as the `with` statement lasts, and check each answer."""

    def __init__(self, endpoints):
        self.right, self.died, self.errors = Counter(), [], []
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(name, endpoint, client))
            for name, endpoint in endpoints.items()
            for client in range(CLIENTS)
        ]

    def _run(self, name, endpoint, client):
        n = 0
        while not self._over.is_set():
            n += 1
            try:
                check(n, ask(endpoint, n))
                self.right[name, client] += 1
            except WorkerDied as error:
                self.died.append(error)
            except Exception as error:
                self.errors.append(f"{name}, {n}: {error!r}")
                return

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(DEADLINE)
            if thread.is_alive():
                self.errors.append("a request does not end")


class Faults:
    """What happens to a server in its life, each by chance."""

    def __init__(self, server: ChaosServer, client: LaunchClient, endpoints, chance: random.Random) -> None:
        self._server = server
        self._client = client
        self._endpoints = endpoints
        self._chance = chance
        self.done: Counter[str] = Counter()
        self.cancelled = []

    def round(self):
        """The faults of a round, in their order. Each is done when it is taken."""
        faults = [self.kill] * 2 + [self.leave] * 2
        faults += [self.close, self.cancel, self.restart, self.update, self.come_and_go]
        self._chance.shuffle(faults)
        for fault in faults:
            time.sleep(self._chance.uniform(0.05, 0.3))
            fault()
            self.done[fault.__name__] += 1
            yield fault

    def _any(self, *names):
        return self._endpoints[self._chance.choice(names or tuple(MODELS))]

    def kill(self):
        """SIGKILL to a worker."""
        victim = self._chance.choice(eventually(self._server.workers))
        kill(victim)
        eventually(lambda: victim not in self._server.workers())

    def leave(self):
        """A client is gone without a word, while its request or its stream goes on."""
        endpoint = self._any("soak-sync", "soak-items", "soak-items-async")
        route = routes.SYNC_TASKS if isinstance(endpoint, SyncEndpoint) else routes.STREAMING_TASKS
        body = args(n=1, seconds=600).body()
        head = (
            f"POST {route}?model_endpoint_id={endpoint.model_endpoint.id} HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {self._server.api_key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self._server.port)) as connection:
            connection.sendall(head.encode() + body)
            time.sleep(self._chance.uniform(0, 0.1))

    def close(self):
        """A client has enough of a stream."""
        with self._any("soak-items", "soak-items-async").predict(args(n=1, seconds=600)) as stream:
            next(stream)

    def cancel(self):
        """A client does not want its task any more, which waits or runs."""
        future = self._any("soak-async").predict(args(n=1, seconds=600))
        time.sleep(self._chance.uniform(0, 0.1))
        assert future.cancel()
        self.cancelled.append(future)

    def restart(self):
        endpoint = self._any()
        self._client.restart_model_endpoint(endpoint.name)
        endpoint.wait_until_ready(DEADLINE)

    def update(self):
        """Another bundle, and another number of workers."""
        deploy(self._client, self._any().name, min_workers=self._chance.choice((1, 2)))

    def come_and_go(self):
        """An endpoint that is there for one prediction."""
        name = f"soak-guest-{self.done['come_and_go']}"
        guest = self._client.deploy(double, name=name, max_workers=1, **SMALL)
        check(1, ask(guest, 1))
        self._client.delete_model_endpoint(name)


class Sample(NamedTuple):
    memory: float
    descriptors: int


class Watch:
    """What the server holds, as time goes on, and all processes that it ever had."""

    def __init__(self, server: ChaosServer) -> None:
        self._server = server
        self._samples: list[Sample] = []
        self._processes: set[int] = set()

    def look(self):
        self._processes.update(self._server.everything())
        self._samples.append(Sample(memory_mib(self._server.pid), descriptors(self._server.pid)))

    def early_and_late(self) -> tuple[Sample, Sample]:
        """The medians of the second fifth of the time, when all has been warm for a while, and of the last."""
        fifth = len(self._samples) // 5
        parts = (self._samples[fifth : 2 * fifth], self._samples[-fifth:])
        early, late = (
            Sample(*(middle(list(values)) for values in zip(*part, strict=True))) for part in parts
        )
        return early, late

    def left(self) -> list[int]:
        """The processes that are still there, but for the server and its nurseries."""
        known = {self._server.pid, *self._server.nurseries()}
        return [
            pid for pid in self._processes - known if is_running(pid) and b"openlaunch" in command_line(pid)
        ]


def is_quiet(server: ChaosServer) -> bool:
    """Whether nothing is left of endpoints that were deleted: no worker, no folder of one."""
    nothing = not server.workers() and not list((server.data_dir / "workers").iterdir())
    return nothing and set(children(server.pid)) == set(server.nurseries())


@pytest.mark.slow
def test_nothing_grows_and_nothing_is_left(tmp_path, chance, long_form, figure: Figure):
    seconds = LONG_SECONDS if long_form else SHORT_SECONDS
    with ChaosServer(tmp_path / "data", task_max_attempts=20) as server:
        with LaunchClient(server.api_key, server.url, max_retries=0) as client:
            Faults(server, client, {}, chance).come_and_go()
        eventually(lambda: is_quiet(server))
        open_before = descriptors(server.pid)

        with LaunchClient(server.api_key, server.url, max_retries=0) as client:
            endpoints = {name: deploy(client, name) for name in MODELS}
            faults, watch = Faults(server, client, endpoints, chance), Watch(server)
            until = time.monotonic() + seconds
            with Load(endpoints) as load:
                while time.monotonic() < until:
                    for _ in faults.round():
                        watch.look()
                        assert load.errors == []
            for endpoint in endpoints.values():
                check(1, ask(endpoint, 1))
            for future in faults.cancelled:
                assert future.done()
            assert client.list_tasks(status="PENDING").tasks == []
            assert client.list_tasks(status="STARTED").tasks == []
            for name in MODELS:
                client.delete_model_endpoint(name)

        eventually(lambda: is_quiet(server))
        eventually(lambda: not watch.left())
        eventually(lambda: descriptors(server.pid) <= open_before)
        open_after = descriptors(server.pid)

    early, late = watch.early_and_late()
    figure(
        f"{sum(load.right.values())} answers in {seconds:g} s, all right; {len(load.died)} lost their worker; "
        f"faults: {dict(faults.done)}; memory {early.memory:.1f} → {late.memory:.1f} MiB; "
        f"descriptors {early.descriptors} → {late.descriptors}, with nothing running {open_before} → {open_after}"
    )
    assert load.errors == []
    assert all(load.right[name, client] > 10 for name in MODELS for client in range(CLIENTS))
    assert len(load.died) <= CLIENTS * faults.done["kill"]
    assert late.memory - early.memory < MEMORY_MIB
    assert late.descriptors - early.descriptors < DESCRIPTORS
