"""Fixtures of the tests with real processes."""

from contextlib import ExitStack
from pathlib import Path

import pytest
import uvloop
import worker_driver
from chaos_server import is_running
from container_driver import container_engine
from server_driver import eventually, http, running

LOOPS = {"uvloop": {"OPENLAUNCH_WORKER_UVLOOP": str(Path(uvloop.__file__).parent.parent)}, "asyncio": {}}


@pytest.fixture(params=["uvloop", pytest.param("asyncio", marks=pytest.mark.slow)])
def each_loop(request, monkeypatch):
    """Workers use this event loop."""
    monkeypatch.setattr(worker_driver, "LOOP_ENV", LOOPS[request.param])


@pytest.fixture(scope="session")
def server_for_all():
    """A server with the default settings: to start one for each module would take a fifth of the time.

    Gives a function that returns its client; where a test has ended the server, of another one.
    """
    with ExitStack() as stack:
        clients = []

        def client():
            if not clients or not is_running(clients[-1].server.pid):
                clients.append(stack.enter_context(running()))
            return clients[-1]

        yield client


@pytest.fixture(scope="module")
def client(server_for_all):
    """A client of a server that modules use one after the other: each finds no endpoint, but bundles of others."""
    client = server_for_all()
    yield client
    if is_running(client.server.pid):
        for endpoint in client.list_model_endpoints(owner="*"):
            client.delete_model_endpoint(endpoint)
        eventually(lambda: not client.list_model_endpoints(owner="*"))


@pytest.fixture(scope="module")
def raw(client):
    """Plain HTTP to the client's server."""
    with http(client) as raw:
        yield raw


@pytest.fixture(scope="module")
def engine():
    """A container engine of the module's own."""
    with container_engine() as engine:
        yield engine
