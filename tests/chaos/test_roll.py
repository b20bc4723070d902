"""Servers and agents are replaced or killed one by one, under load of all kinds."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from agents import Agent, agents, settings_of
from chaos_server import ChaosServer
from cluster_servers import KEY, TOKEN, Servers, client_of
from mixed_load import Load, deployed, ready
from server_driver import eventually

from openlaunch import LaunchClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # six processes start one after the other


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
        deployed(here)
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
