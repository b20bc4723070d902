"""Servers and agents are replaced one by one, as by an upgrade, under load: no request fails."""

import concurrent.futures
import signal
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, agents, settings_of
from cluster_servers import KEY, LITTLE, TOKEN, Servers, client_of
from nodes_driver import count
from server_driver import args, eventually

from openlaunch import LaunchClient

pytestmark = pytest.mark.slow


def work(n: int) -> int:
    import time

    time.sleep(0.05)
    return n * n


class Load:
    """Requests of three kinds, of each one after the other, by clients that know all servers."""

    def __init__(self, urls: str) -> None:
        self.done = {"sync": 0, "stream": 0, "async": 0}
        self.failed: list[str] = []
        self._urls, self._over = urls, threading.Event()

    def _run(self, kind: str, ask: Callable[[LaunchClient, int], bool]) -> None:
        number = 0
        with LaunchClient(KEY, self._urls) as client:
            while not self._over.is_set():
                number += 1
                try:
                    good = ask(client, number)
                except Exception as error:
                    self.failed.append(f"{kind}: {error!r}")
                    self._over.wait(0.05)
                else:
                    self.done[kind] += 1
                    if not good:
                        self.failed.append(f"{kind}: a wrong answer")

    @contextmanager
    def running(self):
        kinds = {
            "sync": lambda client, n: client.get_model_endpoint("sync").predict(args(n=n)).value == n * n,
            "stream": lambda client, n: (
                [piece.value for piece in client.get_model_endpoint("stream").predict(args(n=5))]
                == [0, 1, 2, 3, 4]
            ),
            "async": lambda client, n: (
                client.get_model_endpoint("async").predict(args(n=n)).get(60).value == n * n
            ),
        }
        with concurrent.futures.ThreadPoolExecutor(len(kinds)) as pool:
            for kind, ask in kinds.items():
                pool.submit(self._run, kind, ask)
            try:
                self.more()
                yield self
            finally:
                self._over.set()

    def more(self) -> None:
        """Wait until there are more answers of each kind."""
        before = dict(self.done)
        eventually(lambda: all(self.done[kind] >= before[kind] + 3 for kind in before))


def ready(client: LaunchClient, names: tuple[str, ...], count: int) -> Callable[[], Any]:
    def look() -> bool:
        states = [client.get_model_endpoint(name).deployment_state() for name in names]
        return all(each.available_workers == count for each in states)

    return look


def restarted(node: Agent) -> None:
    node.send(signal.SIGTERM)
    node._ended()
    node.start()


def test_servers_and_agents_are_replaced_one_by_one_and_no_request_fails(
    servers: Servers, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    names = ("sync", "stream", "async")
    with (
        agents(2, token=TOKEN) as nodes,
        servers.two(**settings_of(nodes, TOKEN)) as both,
        client_of(both[0]) as here,
    ):
        two = {"min_workers": 2, "max_workers": 2, **LITTLE}
        here.deploy(work, name="sync", **two)
        here.deploy(count, name="stream", endpoint_type="streaming", **two)
        here.deploy(work, name="async", endpoint_type="async", **two)
        eventually(ready(here, names, 2))
        load = Load(",".join(server.url for server in both))
        with load.running():
            for node in nodes:
                restarted(node)
                load.more()
                with LaunchClient(KEY, both[1].url) as there:
                    eventually(ready(there, names, 2))
            for server in both:  # the leader first
                server.stop()
                load.more()
                server.start()
                server.wait_until_up()
                load.more()
        assert load.failed == []
        figure(f"two agents and two servers were replaced: {load.done} answers, 0 failed")
