"""Servers and agents are replaced or killed one by one, under load of all kinds."""

import concurrent.futures
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from agents import Agent, agents, settings_of
from chaos_server import ChaosServer
from cluster_servers import KEY, LITTLE, TOKEN, Servers, client_of
from nodes_driver import count
from server_driver import args, eventually

from openlaunch import LaunchClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # six processes start one after the other


def work(n: int) -> int:
    import time

    time.sleep(0.05)
    return n * n


def batch_job(client: LaunchClient, n: int) -> bool:
    job = client.batch_async_request(model_bundle="async", inputs=[{"n": n}, {"n": n + 1}], **LITTLE)[
        "job_id"
    ]
    client.wait_for_batch_job(job, timeout=60)
    return [each["result"] for each in client.read_batch_results(job)] == [n * n, (n + 1) ** 2]


class Load:
    """Requests of three kinds and batch jobs, of each one after the other, by clients that know all servers."""

    def __init__(self, urls: str) -> None:
        self.done = {"sync": 0, "stream": 0, "async": 0, "batch": 0}
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
            "batch": batch_job,
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
        more = {kind: 1 if kind == "batch" else 3 for kind in before}
        eventually(lambda: all(self.done[kind] >= before[kind] + more[kind] for kind in before))


def ready(client: LaunchClient, count: int) -> Callable[[], Any]:
    def look() -> bool:
        states = [client.get_model_endpoint(name).deployment_state() for name in ("sync", "stream", "async")]
        return all(each.available_workers == count for each in states)

    return look


def restarted(node: Agent) -> None:
    node.send(signal.SIGTERM)
    node._ended()
    node.start()


@contextmanager
def site(servers: Servers) -> Iterator[tuple[list[Agent], list[ChaosServer]]]:
    """Two nodes and two servers, the first of which leads, with an endpoint of each kind that has two workers."""
    with (
        agents(2, token=TOKEN) as nodes,
        servers.two(**settings_of(nodes, TOKEN)) as both,
        client_of(both[0]) as here,
    ):
        two = {"min_workers": 2, "max_workers": 2, **LITTLE}
        here.deploy(work, name="sync", **two)
        here.deploy(count, name="stream", endpoint_type="streaming", **two)
        here.deploy(work, name="async", endpoint_type="async", **two)
        eventually(ready(here, 2))
        yield nodes, list(both)


@contextmanager
def load_on(both: list[ChaosServer]) -> Iterator[Load]:
    load = Load(",".join(server.url for server in both))
    with load.running():
        yield load


SAME = ("-m", "openlaunch.cli")
NEXT = (
    "-c",
    "from openlaunch.nodes import link; link.VERSION += 1\nfrom openlaunch.cli.app import run; run()",
)
"""A program that speaks one more version of the protocol between servers and agents."""


@pytest.mark.parametrize("program", [SAME, NEXT], ids=["same", "next"])
def test_servers_and_agents_are_replaced_one_by_one_and_no_request_fails(
    servers: Servers, figure: Callable[[str], None], program: tuple[str, ...]
) -> None:
    with site(servers) as (nodes, both), load_on(both) as load:
        for node in nodes:
            node.program = program
            restarted(node)
            load.more()
            with LaunchClient(KEY, both[1].url) as there:
                eventually(ready(there, 2))
        for server in both:  # the leader first
            server.stop()
            load.more()
            server.program = program
            server.start()
            server.wait_until_up()
            load.more()
    assert load.failed == []
    figure(f"two agents and two servers were replaced: {load.done} answers, 0 failed")


def test_servers_are_killed_in_turn_and_only_what_can_not_be_repeated_fails(
    servers: Servers, figure: Callable[[str], None]
) -> None:
    with site(servers) as (_, both), load_on(both) as load:
        for server in both:  # the leader first
            os.kill(server.pid, signal.SIGKILL)
            server.stop()
            load.more()
            server.start()
            server.wait_until_up()
            load.more()
    # What a killed server had is not sent again if it may have been done: a sync request without a key, a new job.
    assert len(load.failed) <= 4, load.failed
    may_fail = ("sync: ConnectionFailed", "batch: ConnectionFailed")
    assert [each for each in load.failed if not each.startswith(may_fail)] == []
    figure(f"two servers were killed in turn: {load.done} answers; failed: {load.failed}")
