"""What the soak tests share: models of each kind, clients that check answers, a watch over what a server holds."""

import asyncio
import os
import time
from collections import Counter
from functools import partial
from typing import NamedTuple

from chaos_server import (
    DEADLINE,
    ChaosServer,
    children,
    command_line,
    descriptors,
    is_running,
    memory_mib,
    middle,
)
from server_driver import SMALL, args
from threads import Threads

from openlaunch import StreamingEndpoint, SyncEndpoint
from openlaunch.errors import WorkerDied

CLIENTS = 2
"""Of each endpoint: so many requests at most are with a worker that is killed."""


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


class Load(Threads):
    """Clients that ask one thing after the other, as long as the `with` statement lasts, and check each answer."""

    def __init__(self, endpoints):
        self.right, self.died = Counter(), []
        asks = [partial(self._ask, *each, client) for each in endpoints.items() for client in range(CLIENTS)]
        super().__init__(*asks)

    def _ask(self, name, endpoint, client, number):
        try:
            check(number, ask(endpoint, number))
            self.right[name, client] += 1
        except WorkerDied as error:
            self.died.append(error)
        except Exception as error:
            raise AssertionError(f"{name}, {number}: {error!r}") from error


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
        """The processes that are still there, but for the server and what it keeps."""
        server = self._server
        known = {server.pid, *server.kept(), *server.sandboxes(), *server.spares()}
        return [
            pid for pid in self._processes - known if is_running(pid) and b"openlaunch" in command_line(pid)
        ]


def is_quiet(server: ChaosServer) -> bool:
    """Whether nothing is left of endpoints that were deleted: no worker, no folder of one."""
    # os.walk passes over folders that the server removes meanwhile; glob raises an error.
    folders = [name for _, names, _ in os.walk(server.data_dir / "workers") for name in names]
    nothing = not server.workers() and not any(name.startswith("worker-") for name in folders)
    return nothing and set(children(server.pid)) == set(server.kept())
