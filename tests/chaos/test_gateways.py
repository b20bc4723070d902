"""Servers that use the same workers on nodes: each answers, whichever leads, and whatever becomes of another."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from agents import agents, settings_of
from chaos_server import ChaosServer
from cluster_servers import LITTLE, TOKEN, Servers, client_of
from nodes_driver import count
from server_driver import args, eventually

pytestmark = pytest.mark.slow


def square(n, seconds=0.0):
    import time

    time.sleep(seconds)
    return n * n


@pytest.fixture
def two(servers: Servers) -> Iterator[tuple[ChaosServer, ChaosServer, list[Any]]]:
    """The server that leads, another one, and their agent."""
    with (
        agents(1, token=TOKEN) as nodes,
        servers.another(**settings_of(nodes, TOKEN)) as first,
        servers.another(**settings_of(nodes, TOKEN)) as second,
    ):
        eventually(lambda: servers.leader() == first.url)
        yield first, second, nodes


def test_every_server_answers_with_the_same_workers(two: tuple[ChaosServer, ChaosServer, list[Any]]) -> None:
    first, second, _ = two
    with client_of(first) as here, client_of(second) as there:
        here.deploy(square, name="direct", max_workers=1, per_worker=2, **LITTLE)
        here.deploy(count, name="count", endpoint_type="streaming", max_workers=1, **LITTLE)
        here.deploy(square, name="later", endpoint_type="async", max_workers=1, **LITTLE)
        names = {"direct", "count", "later"}
        eventually(lambda: {e.name for e in there.list_model_endpoints()} == names)
        # The server that does not lead asks first, so its request is what the workers are started for.
        for client in (there, here, there, here):
            assert client.get_model_endpoint("direct").predict(args(n=3)).value == 9
            pieces = client.get_model_endpoint("count").predict(args(n=5))
            assert [piece.value for piece in pieces] == [0, 1, 2, 3, 4]
            futures = [client.get_model_endpoint("later").predict(args(n=n)) for n in range(5)]
            assert [future.get(timeout=60).value for future in futures] == [0, 1, 4, 9, 16]
        ready = [httpx2.get(f"{server.url}/readyz", timeout=60).status_code for server in (first, second)]
        assert ready == [200, 200]
