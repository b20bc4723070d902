"""A node that is drained: its workers move to other nodes, and nobody notices."""

import pytest
from agents import agents, settings_of
from nodes_driver import node_of, nothing_fails, where
from server_driver import SMALL, args, eventually, running

from openlaunch.errors import Conflict, NotFound, Unavailable


@pytest.fixture(scope="module")
def two():
    with agents(2) as started, running(**settings_of(started)) as client:
        yield started, client


def states(client):
    return {each.address: (each.state.value, each.workers) for each in client.list_nodes()}


@pytest.mark.slow
def test_a_node_is_drained_under_load_and_no_request_fails(two):
    started, client = two
    first, second = started
    endpoint = client.deploy(where, name="where", min_workers=2, max_workers=2, **SMALL)
    eventually(lambda: states(client) == {each.address: ("ready", 1) for each in started})
    with nothing_fails(endpoint):
        assert client.drain_node(first.address).state.value == "draining"
        eventually(lambda: states(client) == {first.address: ("drained", 0), second.address: ("ready", 2)})
    assert node_of(started, endpoint.predict(args()).value) is second

    with pytest.raises(Conflict, match="has 2 workers: drain it first"):
        client.remove_node(second.address)
    with pytest.raises(NotFound):
        client.drain_node("nowhere:1")
    first.kill()
    eventually(lambda: states(client)[first.address] == ("away", 0))
    with pytest.raises(Unavailable):
        client.drain_node(first.address)
    first.start()  # its agent remembers that it is drained
    eventually(lambda: states(client)[first.address] == ("drained", 0))
    assert client.remove_node(first.address).address == first.address
    assert list(states(client)) == [second.address]
