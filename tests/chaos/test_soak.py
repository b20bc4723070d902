"""All that a server is for, with faults all along, for a quarter of an hour: what it holds does not grow."""

import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest
from chaos_server import DEADLINE, ChaosServer, descriptors, kill
from server_driver import SMALL, args, eventually
from soak import CLIENTS, MODELS, Load, Watch, ask, check, deploy, double, is_quiet

from openlaunch import LaunchClient, SyncEndpoint
from openlaunch.wire import routes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads processes in Linux's /proc")

SHORT_SECONDS, LONG_SECONDS = 8.0, 900.0
MEMORY_MIB = 16.0
"""The server's memory may grow by so much once it is warm: in the long form some 60 bytes a request."""

DESCRIPTORS = 8
"""So many more may be open under load: another number of workers. With nothing running there are none more."""

Figure = Callable[[str], None]


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
